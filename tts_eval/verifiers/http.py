"""Verifiers behind a server: vLLM's `/pooling` (token classification, step pooling) and `/classify`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tts_eval.replicas import Replicas, shown, split_urls
from tts_eval.types import TtsEvalError
from tts_eval.verifiers.formats import Format
from tts_eval.verifiers.served import Outputs, ServedVerifier, Task, task_of


_ENDPOINTS: dict[Task, str] = {"token_classify": "/pooling", "classify": "/classify"}


class HTTPVerifier(ServedVerifier):
    """Scores with a server.

    Args:
        replicas: The server.
        tokenizer: The verifier's tokenizer.
        family: The family: how to render, and how to make scores of outputs.
    """

    def __init__(self, replicas: Replicas, tokenizer: Any, family: Format):
        super().__init__(family, tokenizer, context=None)
        self._replicas = replicas
        self._task = task_of(family)

    def _outputs(self, sequences: Sequence[tuple[int, ...]]) -> list[Outputs]:
        return self._replicas.run(self._read(sequences)).result()

    async def _read(self, sequences: Sequence[tuple[int, ...]]) -> list[Outputs]:
        return await asyncio.gather(*(self._replicas.post(self._body(ids), read_outputs) for ids in sequences))

    def _body(self, ids: tuple[int, ...]) -> dict[str, Any]:
        body: dict[str, Any] = {"input": list(ids), "use_activation": True}
        return body | ({"task": self._task} if self._task == "token_classify" else {})


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
    endpoint = _ENDPOINTS[task_of(family)]
    urls = []
    for url in split_urls(verifier, argument="verifier"):
        parts = urlsplit(url)
        path = parts.path.rstrip("/").removesuffix("/v1").removesuffix(endpoint)
        if path.rpartition("/")[2] in ("pooling", "classify", "score", "rerank", "embeddings"):
            raise TtsEvalError(f"verifier={shown(url)}: format {family.name} is read at {endpoint}, not there")
        urls.append(urlunsplit(parts._replace(path=path + endpoint)))
    return urls
