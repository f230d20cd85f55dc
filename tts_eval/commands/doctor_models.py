"""What `tts-eval doctor` tries out with models: each engine, the verifiers, and a search whose answers are known."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from tts_eval.commands.doctor_checks import Finding
from tts_eval.commands.tasks import our_tasks
from tts_eval.plugin import register_adapters
from tts_eval.types import Prefix, Problem, TtsEvalError


if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM


TASK = "tts_micromath"

KNOWN = "(1,4,1)"
"""What a beam search of four with microMATH answers to the first problem of its task; it is right."""

_MODELS: dict[str, Any] = {"base": "hf", "pretrained": "micromath/base", "device": "cpu"}
_PATIENCE = 10
"""Seconds that a server has to say that it is there."""

_REINSTALL = "pip install --force-reinstall --no-deps tts-eval"


def requests(count: int, chat: LM | None = None) -> list[Instance]:
    """What lm-eval would ask: the first problems of microMATH's task, for a chat model as messages."""
    task = our_tasks([]).load(TASK)["tasks"][TASK]
    task.set_config(key="num_fewshot", value=0)
    messages = {} if chat is None else {"apply_chat_template": True, "chat_template": chat.apply_chat_template}
    task.build_all_requests(limit=count, rank=0, world_size=1, **messages)
    found: list[Instance] = task.instances
    return found


def answers(adapter: str, count: int, *, chat: bool = False, **model_args: Any) -> list[Any]:
    """Runs one of our lm-eval models on the first problems of microMATH.

    Args:
        adapter: Its name.
        count: How many problems.
        chat: Whether its base takes messages.
        model_args: As in `--model_args`.

    Returns:
        `tts_eval.model_adapters.answer.Answer` of each.

    Raises:
        TtsEvalError: What a run refuses.
    """
    from lm_eval.api.registry import get_model

    register_adapters()
    lm = get_model(adapter)(model_args, {})
    return list(lm.generate_until(requests(count, lm if chat else None), disable_tqdm=True))


def check_engines(base_url: str | None, model: str | None) -> Iterator[Finding]:
    """Samples with the engine of transformers, with a server if one is named, and says what there is of vLLM.

    Args:
        base_url: The server's `.../completions` or `.../chat/completions`; without one nothing is sent anywhere.
        model: The model's name there.
    """
    yield attempt("engine hf", _sample, _REINSTALL)
    if base_url is None:
        yield attempt("engine local-completions", _client, "pip install 'tts-eval[api]'", absent=True)
    else:
        models = base_url.rstrip("/").removesuffix("/completions").removesuffix("/chat") + "/models"
        yield attempt(f"server {base_url}", partial(_ask, base_url, models, model), f"curl {models}")
    yield attempt("engine vllm", _vllm, "pip install 'tts-eval[vllm]'", absent=True)


def check_verifiers() -> Iterator[Finding]:
    """Scores a solution with a process and an outcome verifier of ours, and names the families that can be loaded."""
    for name in ("micromath/prm", "micromath/orm"):
        yield attempt(f"verifier {name}", partial(_score, name), _REINSTALL)
    yield attempt("public verifiers", _families, "pip install 'tts-eval[hf]'")


def check_search() -> Iterator[Finding]:
    """Runs the self-test: a beam search whose answers are known."""
    yield attempt("self-test", _search, _REINSTALL)


def attempt(check: str, trial: Callable[[], str], mend: str, *, absent: bool = False) -> Finding:
    """Makes a finding of a trial.

    Args:
        check: What is tried.
        trial: Returns what it found; whatever it raises is the fault.
        mend: A command that mends it.
        absent: Whether it only matters to who wants it.
    """
    try:
        return Finding(check, trial())
    except Exception as error:  # noqa: BLE001 (a doctor tells of every illness)
        words = str(error) if isinstance(error, TtsEvalError) else f"{type(error).__name__}: {error}"
        return Finding(check, " ".join(words.split())[:300], mend, "absent" if absent else "FAIL")


def _sample() -> str:
    found = answers("tts-best-of-n", 2, **_MODELS, verifier="micromath/prm", budget=4, temperature=1)
    tokens = sum(candidate["tokens"] for answer in found for candidate in answer.meta["candidates"])
    seconds = sum(answer.meta["usage"]["seconds"] for answer in found)
    return f"best-of-4 on 2 problems of microMATH, {tokens} tokens in {seconds:.1f} s"


def _client() -> str:
    from tts_eval.model_adapters.engines import base_class

    base_class("local-completions")
    base_class("local-chat-completions")
    return "its client is there; --base_url URL --model NAME tries a server"


def _ask(base_url: str, models: str, model: str | None) -> str:
    with suppress(urllib.error.HTTPError):  # it answers; some don't list their models, or not without a key
        urllib.request.urlopen(models, timeout=_PATIENCE).close()
    chat = base_url.rstrip("/").endswith("/chat/completions")
    base = "local-chat-completions" if chat else "local-completions"
    given: dict[str, Any] = {"base": base, "base_url": base_url, "model": model, "tokenizer_backend": None}
    start = time.monotonic()
    found = answers("tts-best-of-n", 2, chat=chat, **given, budget=4, max_retries=2)
    return f"{4 * len(found)} samples in {time.monotonic() - start:.1f} s"


def _vllm() -> str:
    if importlib.util.find_spec("vllm") is None:
        raise TtsEvalError("vllm isn't installed")
    from tts_eval.model_adapters.engines import base_class

    base_class("vllm")
    return f"vllm {importlib.metadata.version('vllm')} can be imported"


def _score(name: str) -> str:
    from tts_eval.micro.members import resolve
    from tts_eval.verifiers import load_verifier

    verifier = load_verifier(resolve(name))
    (request,) = requests(1)
    problem = Problem(request.doc["unique_id"], request.args[0], (), 160, question=request.doc["problem"])
    solution = Prefix(steps=tuple(request.doc["solution"].splitlines(keepends=True)), finish="eos")
    ((scores, _),) = verifier.score([(problem, solution)])
    return f"{verifier.kind}: scores {', '.join(f'{score:.2f}' for score in scores)}"


def _families() -> str:
    from tts_eval.verifiers.formats import FORMATS

    return f"verifier=FOLDER verifier_format= one of {', '.join(FORMATS)}"


def _search() -> str:
    start = time.monotonic()
    settings: dict[str, Any] = {"verifier": "micromath/prm", "budget": 4, "width": 2, "step_delimiter": "\\n"}
    (answer,) = answers("tts-beam", 1, **_MODELS, **settings)
    got = answer.meta["candidates"][answer.meta["selected"]]["answer"]
    if got != KNOWN:
        raise TtsEvalError(f"a beam search with microMATH answers {got} and not {KNOWN}")
    return f"beam search of 4 with microMATH gives the known answer, in {time.monotonic() - start:.1f} s"
