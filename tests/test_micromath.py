"""End to end on the models that ship with the project: the literal commands, with real verifiers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from forked import Zygote

from tts_eval.cli import main
from tts_eval.journal import read_journal
from tts_eval.micro.members import MEMBERS, WEIGHTS, resolve
from tts_eval.types import Prefix, Problem, TtsEvalError
from tts_eval.verifiers import load_verifier


ROOT = Path(__file__).parents[1]
TASK = str(ROOT / "tasks/tts_micromath/tts_micromath.yaml")


def command(output: Path, *, model: str = "tts-best-of-n", limit: int = 12, **model_args: Any) -> list[str]:
    arguments = {"pretrained": "micromath/base", "budget": 8, "temperature": 1, "step_delimiter": r"\n", **model_args}
    return [
        *("lm_eval", "--model", model, "--tasks", TASK, "--limit", str(limit), "--log_samples"),
        *("--model_args", ",".join(f"{key}={value}" for key, value in arguments.items())),
        *("--output_path", str(output)),
    ]


def journal(output: Path) -> Path:
    (path,) = output.rglob("candidates_*.jsonl")
    return path


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of the script that users start."""
    output = tmp_path_factory.mktemp("prm")
    script, *arguments = command(output, verifier="micromath/prm")
    given = [str(Path(sys.executable).with_name(script)), *arguments]
    done = subprocess.run(given, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return output


def test_the_verifiers_scores_reach_journal_and_selection(scored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, records = read_journal(journal(scored))
    assert header is not None and header.run["verifier"] == {"name": "micromath/prm"}
    assert len(records) == 12
    for record in records:
        assert record.usage.verifier_tokens and record.usage.verifier_tokens > 0
        for candidate in record.candidates:
            assert candidate.step_scores is not None and len(candidate.step_scores) == len(candidate.steps)
            assert candidate.outcome_score is None
    main(["select", str(scored), "--format", "json"])
    assert "best_of_n_weighted" in {row["selection"] for row in json.loads(capsys.readouterr().out)}
    main(["select", str(scored), "--against", "majority", "--format", "json", "--selection", "best_of_n_weighted"])
    assert {row["against"] for row in json.loads(capsys.readouterr().out)} == {"majority"}
    main(["select", str(scored), "--by", "level", "--budgets", "8", "--figure", str(scored / "levels.svg")])
    assert "| level " in capsys.readouterr().out and (scored / "levels.svg").stat().st_size > 0


def test_scores_are_the_verifiers_own(scored: Path) -> None:
    """Those that the verifier gives to the texts of the journal, one by one and outside of any search."""
    verifier = load_verifier(resolve("micromath/prm"))
    (samples,) = scored.rglob("samples_*.jsonl")
    docs = {doc["unique_id"]: doc for doc in (json.loads(line)["doc"] for line in samples.open())}
    for record in read_journal(journal(scored))[1][:4]:
        problem = Problem(record.uid, docs[record.uid]["problem"] + "\n", (), 160)
        for candidate in record.candidates[:3]:
            ((scores, _),) = verifier.score([(problem, Prefix(steps=candidate.steps))])
            assert scores == pytest.approx(candidate.step_scores, abs=1e-4)


def test_an_outcome_verifier_scores_the_whole(zygote: Zygote, tmp_path: Path) -> None:
    zygote.done(command(tmp_path, limit=4, verifier="micromath/orm"))
    for record in read_journal(journal(tmp_path))[1]:
        for candidate in record.candidates:
            assert candidate.step_scores is None and 0 <= (candidate.outcome_score or -1) <= 1


def test_noise_turns_scores_around(zygote: Zygote, scored: Path, tmp_path: Path) -> None:
    zygote.done(command(tmp_path, limit=4, verifier="micromath/prm", noise=1))
    (_, turned), (_, straight) = read_journal(journal(tmp_path)), read_journal(journal(scored))
    plain = {record.uid: record for record in straight}
    for record in turned:
        for one, other in zip(record.candidates, plain[record.uid].candidates):
            assert one.text == other.text
            assert one.step_scores == pytest.approx([1 - score for score in other.step_scores or ()], abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"verifier": "micromath/base"}, "verifier_format=, one of"),
        ({"verifier": "micromath/base", "verifier_format": "qwen-prm"}, "<extra_0>"),
        ({"verifier": "micromath/pmr"}, "did you mean micromath/prm"),
        ({"pretrained": "micromath/huge"}, "no model micromath/huge ships"),
        ({"noise": 0.2}, "add verifier="),
        ({"verifier": "micromath/prm", "noise": 2}, "noise=2 should be a number of at least 0 and at most 1"),
    ],
)
def test_refusals(zygote: Zygote, tmp_path: Path, arguments: dict[str, Any], words: str) -> None:
    done = zygote.run(command(tmp_path, limit=1, **arguments))
    assert done.status != 0 and words in done.line


def test_the_family_is_small(capsys: pytest.CaptureFixture[str]) -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 20e6
    main(["models"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in MEMBERS)
    main(["models", "micromath/prm"])
    assert capsys.readouterr().out.strip() == str(WEIGHTS / "prm")
    with pytest.raises(TtsEvalError, match="did you mean micromath/orm"):
        resolve("micromath/om")


def test_the_revision_model_and_its_verifier_say_themselves_how_they_are_used(zygote: Zygote, tmp_path: Path) -> None:
    """Separator, window and history are theirs; each attempt is scored behind those that the policy saw."""
    pair = {"pretrained": "micromath/revision", "verifier": "micromath/revision-orm"}
    zygote.done(command(tmp_path, model="tts-revise", limit=4, chains=2, **pair))
    header, records = read_journal(journal(tmp_path))
    assert header is not None
    assert {"separator": "\n\n", "window": 4, "history": True}.items() <= header.run["strategy"].items()
    verifier = load_verifier(resolve("micromath/revision-orm"))
    (samples,) = tmp_path.rglob("samples_*.jsonl")
    docs = {doc["unique_id"]: doc for doc in (json.loads(line)["doc"] for line in samples.open())}
    for record in records:
        first, second = record.candidates[:2]
        assert [(c.chain, c.attempt) for c in record.candidates] == [(c, a) for c in range(2) for a in range(4)]
        prompt = f"{docs[record.uid]['problem']}\n"
        for shown, candidate in ((prompt, first), (f"{prompt}{first.text}\n\n", second)):
            problem = Problem(record.uid, shown, (), 160)
            (((score,), _),) = verifier.score([(problem, Prefix(steps=candidate.steps))])
            assert score == pytest.approx(candidate.outcome_score, abs=1e-4)


def test_the_demo_ends_with_a_chain_that_mends_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--limit", "50", "--budget", "2", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "| best_of_n_weighted " in shown and "Difference in percentage points" in shown
    assert (tmp_path / "accuracy.png").stat().st_size > 0 and (tmp_path / "levels.png").stat().st_size > 0
    tree = shown[shown.index("$ tts-eval show") :]
    assert re.search(r"\[#0 = [^]]*wrong", tree) and re.search(r"\[#3 = [^]]*right", tree)
