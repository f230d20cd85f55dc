"""docs/faults.md: what goes wrong, what a user sees then, what to do. The quotes come from the runs of the tests."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path


PAGE = Path(__file__).parents[2] / "docs" / "faults.md"

WRITE = "TTS_EVAL_WRITE_FAULTS"
"""Set by `make faults`: the page is then written instead of compared."""


@dataclass(frozen=True)
class Fault:
    """One section.

    Attributes:
        title: Its heading.
        happens: What goes wrong, and what the run makes of it.
        do: What to do.
    """

    title: str
    happens: str
    do: str


AGAIN = "Run the same command again."

FAULTS = {
    "killed": Fault(
        "The process is killed",
        "`kill -9`, the kernel's out-of-memory killer, a job that ran out of time. Every finished problem is on disk. "
        "A half-written line is cut off and its problem done again. What was in flight is done again, with the same "
        "random numbers, so the results are those of a run that was never killed.",
        f"{AGAIN} It finds its journal in the output folder.",
    ),
    "interrupted": Fault(
        "Ctrl-C",
        "The run ends with status 130 and names its journal. A second Ctrl-C ends it at once, should cleaning up take "
        "long.",
        AGAIN,
    ),
    "server": Fault(
        "The server dies",
        "A request that fails is sent again, ever later, with one line each time. If the server is back in time, the "
        "results are those of one that stayed up. After `max_retries=` tries or `deadline=` seconds the run stops:",
        f"Start the server. {AGAIN}",
    ),
    "replica": Fault(
        "One of several replicas dies",
        "The others take its requests; it is tried again now and then. Results are the same, whoever answers, if "
        "they honour seeds.",
        "Nothing; restart it when you like.",
    ),
    "slow": Fault(
        "The server is slow",
        "An answer that takes longer than `timeout=` seconds is asked for again. If that happens to all tries:",
        f"Raise `timeout=`, or lower `num_concurrent=`. {AGAIN}",
    ),
    "nonsense": Fault(
        "The server's replies are truncated or malformed",
        "Half a JSON, no JSON, no choices, no text: a failed try like any other. If there is nothing but such replies:",
        f"Check that the address is that of `/v1/completions`, and what the server logs. {AGAIN}",
    ),
    "disk": Fault(
        "The disk is full",
        "The half-written line is taken back, and the run stops before it computes what it couldn't keep.",
        f"Free space. {AGAIN}",
    ),
    "corrupt": Fault(
        "A line of the journal is corrupt",
        "Nothing that was paid for is dropped silently: the run stops and names file, line and place.",
        "Restore the line from a copy, or delete it: its problem is then done again.",
    ),
    "two": Fault(
        "Two processes on one journal",
        "The second is refused; the first goes on. The lock goes with its process, so a killed one leaves none behind.",
        "Wait for the first, or give the second another output folder.",
    ),
    "clock": Fault(
        "The clock goes backwards",
        "Time differences in ledgers come from a clock that can't (`time.monotonic`). File names hold the time, but a "
        "journal is found by what its header says of the run. Nothing changes but the names.",
        "Nothing.",
    ),
    "nan-policy": Fault(
        "The model computes NaN",
        "Broken weights, or numbers that overflow in half precision. Nothing is sampled from such numbers.",
        "Load it with `dtype=float32`, or mend the weights.",
    ),
    "nan-verifier": Fault(
        "The verifier's scores are NaN",
        "The run stops before the scores are used; finished problems are kept.",
        "Load it with `verifier_dtype=float32`, or mend the weights.",
    ),
    "memory": Fault(
        "Memory runs out in a batch",
        "The batch starts again with half as many rows, and again, until it fits; results are the same, since random "
        "numbers belong to problems and not to batches. The ledger counts tokens that were written twice. You see "
        "lm-eval's table, as always; only a single row that doesn't fit stops the run, with one line.",
        "Nothing. `--batch_size N` (N > 1) bounds the rows from the start.",
    ),
    "pickle": Fault(
        "Weights that are a pickle",
        "Reading a pickle can run any code, so only safetensors are read unless you ask.",
        "If you trust the file: `use_safetensors=false` for the model, `verifier_pickle=true` for the "
        "verifier. Even then torch reads nothing but tensors.",
    ),
    "remote": Fault(
        "A model that comes with code of its own",
        "It isn't run unless you ask.",
        "If you trust the code: `trust_remote_code=true`. Verifiers never run any: the families that ship such code "
        "are written in `tts_eval/verifiers/heads.py`.",
    ),
    "secret": Fault(
        "A key or password in --model_args",
        "lm-eval writes all of `--model_args` into its results, so such a run is refused. In what lm-eval prints "
        "of them before that, the secret is starred out.",
        "Export `OPENAI_API_KEY`, or put any other secret into a variable and write `${NAME}` in its place (in single "
        "quotes, else the shell fills it in). Only the name is written anywhere.",
    ),
}

HEAD = """\
# Faults

What goes wrong, what you see then, and what to do. `make faults` makes each of these happen to real runs on microMATH
and writes this page; `pytest tests/faults` compares it with what runs say now. What lm-eval itself prints is left out.
What is promised about hostile input is in [security.md](security.md).
"""


def section(name: str, commands: str, seen: str) -> str:
    """Renders a section around what was seen."""
    fault = FAULTS[name]
    quoted = f"```text\n$ {commands}\n{seen}\n```"
    return f"## {fault.title}\n\n{fault.happens}\n\n{quoted}\n\n{fault.do}\n"


def plain(text: str, folder: Path) -> str:
    """Text without what differs between two runs: places become `OUT`, times those of one moment."""
    text = text.replace(str(folder), "OUT")
    text = re.sub(r"(127\.0\.0\.1|localhost):\d+", r"localhost:8000", text)
    return re.sub(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?", "2026-01-31T12-00-00.5", text)


def masked(text: str) -> str:
    """What must be equal in the page and in a run: all but numbers, which depend on the moment of a fault."""
    return re.sub(r"\d+", "#", text)


class FaultsPage:
    """Collects the sections of a session; compares each with the committed page, or writes the page in the end."""

    def __init__(self) -> None:
        self._sections: dict[str, str] = {}

    def tell(self, name: str, command: list[str], seen: str, folder: Path) -> None:
        """Takes what a user sees of a fault: the command, and the telling lines of its output."""
        given = " ".join(f"'{word}'" if set(word) & set(" {}$|") else word for word in command)
        given = given.replace(" --metadata micromath_train=20", "")
        text = section(name, plain(given, folder), plain(seen, folder))
        self._sections[name] = text
        if WRITE not in os.environ:
            assert masked(text) in masked(PAGE.read_text()), f"docs/faults.md says otherwise: run `make faults`\n{text}"

    def write(self) -> None:
        """Writes the page, if asked to; of faults that didn't happen in this session it keeps what it says."""
        if WRITE not in os.environ:
            return
        before = PAGE.read_text() if PAGE.exists() else ""
        for name, fault in FAULTS.items():
            if name not in self._sections:
                self._sections[name] = f"## {fault.title}\n" + _between(before, f"## {fault.title}\n", "\n## ")
        links = "\n".join(f"- [{fault.title}](#{_anchor(fault.title)})" for fault in FAULTS.values())
        PAGE.write_text("\n".join([HEAD, links, "", *(self._sections[name] for name in FAULTS)]))


def _between(text: str, start: str, end: str) -> str:
    return text.partition(start)[2].partition(end)[0]


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
