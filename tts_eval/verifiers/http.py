"""Verifiers behind a server: rendered here, read there, by the outputs that it gives for tokens (docs/servers.md).

For vLLM's `/pooling` (token classification, step pooling) and `/classify`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import torch

from tts_eval.replicas import Replicas, shown, split_urls
from tts_eval.types import Prefix, Problem, TtsEvalError, Usage
from tts_eval.verifiers import heads
from tts_eval.verifiers.family import FamilyVerifier, finite_scores, rendered_whole
from tts_eval.verifiers.formats import OWN, Format
from tts_eval.verifiers.rendering import Rendered


_ENDPOINTS = {
    "qwen-prm": "/pooling",
    "reasonflux": "/pooling",
    "pure": "/pooling",
    "trl": "/pooling",
    OWN: "/pooling",
    "sequence-classifier": "/classify",
}
"""The families that servers read: those whose outputs are the classes of a token, or of the whole."""

_ROUNDING = 1e-2  # by which the probabilities of a token may miss 1: servers compute in bfloat16


@dataclass(frozen=True, slots=True)
class Outputs:
    """A server's reply.

    Attributes:
        rows: Class probabilities, for each token that was read out.
        read: Tokens of the input, or None where the server doesn't count.
        cached: Those of them that it had read before.
    """

    rows: tuple[tuple[float, ...], ...]
    read: int | None
    cached: int


class HTTPVerifier(FamilyVerifier):
    """Scores with a server.

    Args:
        replicas: The server.
        tokenizer: The verifier's tokenizer.
        family: The family: how to render, and how to make scores of outputs.
    """

    def __init__(self, replicas: Replicas, tokenizer: Any, family: Format):
        super().__init__(family)
        self._replicas = replicas
        self._tokenizer = tokenizer

    def score(self, items: Sequence[tuple[Problem, Prefix]]) -> list[tuple[tuple[float, ...], Usage]]:
        """See `Verifier.score`; equal solutions are read once, and the first of them is charged.

        Raises:
            TtsEvalError: If the server refuses a solution or can't be reached, a step has no score of its own, or a
                score is no number.
        """
        started = time.monotonic()
        rendered = [rendered_whole(self._family, self._tokenizer, None, *item) for item in items]
        distinct = list(dict.fromkeys(one.ids for one in rendered if one.ids))
        answers = dict(zip(distinct, self._replicas.run(self._read(distinct)).result(), strict=True))
        share = (time.monotonic() - started) / max(1, len(items))
        charged: set[tuple[int, ...]] = set()
        replies: list[tuple[tuple[float, ...], Usage]] = []
        for (problem, _), one in zip(items, rendered, strict=True):
            if not one.ids:
                replies.append(((), Usage(seconds=share)))
                continue
            answer = answers[one.ids]
            read = len(one.ids) if answer.read is None else answer.read
            reused = read if one.ids in charged else answer.cached
            charged.add(one.ids)
            cost = Usage(verifier_tokens=read - reused, reused_tokens=reused, seconds=share)
            replies.append((self._scores(problem, answer, one), cost))
        return replies

    def forget(self) -> None:
        """See `Verifier.forget`; what a server keeps is its own."""

    async def _read(self, sequences: Sequence[tuple[int, ...]]) -> list[Outputs]:
        return await asyncio.gather(*(self._replicas.post(self._body(ids), read_outputs) for ids in sequences))

    def _body(self, ids: tuple[int, ...]) -> dict[str, Any]:
        body: dict[str, Any] = {"input": list(ids), "use_activation": True}
        return body | ({"task": "token_classify"} if _ENDPOINTS[self._family.name] == "/pooling" else {})

    def _scores(self, problem: Problem, answer: Outputs, rendered: Rendered) -> tuple[float, ...]:
        """Reads the rows at the rendered positions; with step pooling there are no others."""
        if len(answer.rows) not in (len(rendered.ids), len(rendered.positions)):
            raise TtsEvalError(
                f"problem {problem.uid}: the verifier's server gives {len(answer.rows)} outputs for "
                f"{len(rendered.ids)} tokens with {len(rendered.positions)} read positions: serve the model with "
                "outputs for each token or step pooling, or name the right verifier_format="
            )
        if len(answer.rows) != len(rendered.ids):
            rendered = replace(rendered, positions=tuple(range(len(rendered.positions))))
        return finite_scores(self._family, problem, _logits(problem, answer.rows), rendered)


def _logits(problem: Problem, rows: Sequence[Sequence[float]]) -> torch.Tensor:
    """What gives these probabilities again by softmax, or by sigmoid where there is one class; [rows, outputs].

    Raises:
        TtsEvalError: If they are none.
    """
    outputs = torch.tensor(rows, dtype=torch.float64)
    sums = outputs.sum(-1) if outputs.shape[1] > 1 else torch.ones(len(rows))
    if outputs.shape[1] > 2 or outputs.min() < 0 or outputs.max() > 1 or (sums - 1).abs().max() > _ROUNDING:
        raise TtsEvalError(
            f"problem {problem.uid}: what the verifier's server gives are no probabilities of one or two classes: "
            "serve it with its activation, as a classifier of one or two labels"
        )
    return outputs.log() if outputs.shape[1] == 2 else outputs.logit()


def read_outputs(reply: Any) -> Outputs:
    """Reads the reply of `/pooling` or `/classify` for one input.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(reply, dict) or not isinstance(reply.get("data"), list) or len(reply["data"]) != 1:
        raise ValueError("it has no data of one input")
    (item,) = reply["data"]
    found = item.get("probs", item.get("data")) if isinstance(item, dict) else None
    if not isinstance(found, list) or not found:
        raise ValueError("its data holds no outputs")
    rows = tuple(tuple(_row(row)) for row in (found if isinstance(found[0], list) else [found]))
    if len({len(row) for row in rows}) != 1:
        raise ValueError("its rows have different lengths")
    usage = reply.get("usage") or {}
    read = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    known = read if isinstance(read, int) and read >= 0 else None
    return Outputs(rows, known, min(cached, known or 0) if isinstance(cached, int) and cached >= 0 else 0)


def _row(row: Any) -> list[float]:
    if not isinstance(row, list) or not row or not all(type(value) in (int, float) for value in row):
        raise ValueError("a row holds something else than numbers")
    if not all(abs(value) <= sys.float_info.max for value in row):
        raise ValueError("a row holds a number that isn't finite")
    return [float(value) for value in row]


def endpoints(verifier: str, family: Format) -> list[str]:
    """The addresses at which a family is read.

    Args:
        verifier: What the user gave: the server's root, its `/v1`, or an endpoint; several with `|` between them.
        family: The family.

    Raises:
        TtsEvalError: If servers can't read the family, or the endpoint is another.
    """
    endpoint = _ENDPOINTS.get(family.name)
    likelihood = family.load is heads.one_label_and_likelihood
    if endpoint is None or likelihood:
        own = "a verifier trained with --likelihood" if likelihood else f"format {family.name}"
        raise TtsEvalError(
            f"{own} needs more than the classes that a server gives for tokens: load the model here, verifier=folder "
            f"or name, or use a format that is served: {', '.join(_ENDPOINTS)}"
        )
    urls = []
    for url in split_urls(verifier, argument="verifier"):
        parts = urlsplit(url)
        path = parts.path.rstrip("/").removesuffix("/v1").removesuffix(endpoint)
        if path.rpartition("/")[2] in ("pooling", "classify", "score", "rerank", "embeddings"):
            raise TtsEvalError(f"verifier={shown(url)}: format {family.name} is read at {endpoint}, not there")
        urls.append(urlunsplit(parts._replace(path=path + endpoint)))
    return urls
