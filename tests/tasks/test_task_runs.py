"""The tasks inside lm-eval: as it loads them, asks them and sums them up, in this process and as a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from forked import Run, Zygote
from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

import tts_eval.tasks
from tts_eval.answers import extract_answer
from tts_eval.model_adapters.answer import Answer
from tts_eval.tasks.documents import SUBJECTS, load_demo


TASKS = Path(tts_eval.tasks.__path__[0])
METRICS = {"accuracy", "coverage", "candidates_correct", "generations", "tokens"}


class Guesses(LM):
    """Answers each problem with the same candidates."""

    def __init__(self, answers: list[str]) -> None:
        super().__init__()
        self.answers = answers
        self.prompts: list[str] = []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        self.prompts = [request.args[0] for request in requests]
        return [Answer(self.answers[0], self.meta()) for _ in requests]

    def meta(self) -> dict[str, Any]:
        candidates = [{"answer": answer, "tokens": 3} for answer in self.answers]
        usage = {"generations": len(candidates), "decode_tokens": 3 * len(candidates)}
        return {"uid": "u", "budget": len(candidates), "selected": 0, "candidates": candidates, "usage": usage}

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        raise NotImplementedError


def manager(**metadata: Any) -> TaskManager:
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)


@pytest.fixture
def math_file(tmp_path: Path) -> Path:
    """Two problems of algebra, one of every other subject; the golds are 1, 2, 3 ..."""
    subjects = ["Algebra", *SUBJECTS.values()]
    rows = [
        {"problem": f"Q{i}?", "solution": "s", "answer": str(i), "subject": subject, "level": 1, "unique_id": f"t/{i}"}
        for i, subject in enumerate(subjects, start=1)
    ]
    path = tmp_path / "math.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_all_tasks_are_found() -> None:
    subjects = {f"tts_math_{key}" for key in SUBJECTS}
    assert set(manager().all_tasks) == {"tts_demo", "tts_gsm8k", "tts_math500", "tts_math", "tts_micromath"} | subjects


def test_every_task_has_a_version_and_every_metric() -> None:
    names = manager().all_subtasks
    for name in names:
        config = manager().task_index[name].cfg
        assert config is not None
        assert config["metadata"]["version"] == 1.0
        assert {entry["metric"] for entry in config["metric_list"]} == METRICS


def test_group_sums_up_its_subjects(math_file: Path) -> None:
    model = Guesses(["1", "2"])
    results = simple_evaluate(model, tasks=["tts_math"], task_manager=manager(math_file=str(math_file)))
    group = results["groups"]["tts_math"]
    assert results["n-samples"]["tts_math_algebra"]["effective"] == 2
    assert results["results"]["tts_math_algebra"]["accuracy,none"] == 1 / 2
    assert results["results"]["tts_math_algebra"]["coverage,none"] == 1
    assert results["results"]["tts_math_algebra"]["candidates_correct,none"] == 1 / 2
    assert group["accuracy,none"] == 1 / 8
    assert group["coverage,none"] == 2 / 8
    assert group["candidates_correct,none"] == pytest.approx(1 / 8)
    assert (group["generations,none"], group["tokens,none"]) == (2, 6)


def test_standard_errors_and_samples() -> None:
    results = simple_evaluate(Guesses(["7", "12"]), tasks=["tts_demo"], task_manager=manager())
    scores = results["results"]["tts_demo"]
    golds = load_demo()["test"]["answer"]
    assert scores["accuracy,none"] == golds.count("7") / 12
    assert scores["coverage,none"] == (golds.count("7") + golds.count("12")) / 12
    assert 0 < scores["accuracy_stderr,none"] < 0.2
    sample = json.loads(json.dumps(results["samples"]["tts_demo"][0]))
    assert sample["candidates_correct"] == [0, 1]
    assert (sample["accuracy"], sample["coverage"], sample["generations"], sample["tokens"]) == (0, 1, 2, 6)


def test_predict_only_and_limit() -> None:
    results = simple_evaluate(Guesses(["7"]), tasks=["tts_demo"], task_manager=manager(), predict_only=True, limit=3)
    assert len(results["samples"]["tts_demo"]) == 3
    assert results["results"]["tts_demo"]["bypass,none"] == 999


def test_zero_shot_prompt(math_file: Path) -> None:
    model = Guesses(["7"])
    simple_evaluate(model, tasks=["tts_math500"], task_manager=manager(math_file=str(math_file)), limit=1)
    assert model.prompts == [
        "Solve the following math problem step by step. Leave a blank line between steps and write the final answer "
        "in \\boxed{}.\n\nProblem: Q1?\n\nSolution:"
    ]


def test_few_shot_prompt_can_be_cut_at_the_stops(math_file: Path) -> None:
    model = Guesses(["7"])
    tasks = manager(math_file=str(math_file))
    simple_evaluate(model, tasks=["tts_math500"], task_manager=tasks, limit=1, num_fewshot=4)
    (prompt,) = model.prompts
    assert prompt.count("\n\nProblem: ") == 5
    # A model that goes on in the pattern of the examples starts with the last of the stop strings.
    stop = tasks.task_index["tts_math500"].cfg["generation_kwargs"]["until"][-1]
    assert prompt.count("}$." + stop) == 4


def test_demo_prompt_has_four_examples_and_no_instruction() -> None:
    model = Guesses(["7"])
    simple_evaluate(model, tasks=["tts_demo"], task_manager=manager(), limit=1)
    (prompt,) = model.prompts
    assert prompt.startswith("Problem: What is $3 + 6$?\n\nSolution: Adding")
    assert prompt.count("The answer is $\\boxed{") == 4
    assert prompt.endswith("\n\nProblem: What is $7 + 5$?\n\nSolution:")


@pytest.mark.parametrize("name", ["tts_demo", "tts_math500"])
def test_examples_box_their_answer_in_the_last_step(name: str) -> None:
    for sample in manager().task_index[name].cfg["fewshot_config"]["samples"]:
        assert extract_answer(sample["solution"]) in sample["solution"].split("\n\n")[-2]


def test_chat_template_gets_one_message_of_the_user(math_file: Path) -> None:
    task = manager(math_file=str(math_file)).load("tts_math500")["tasks"]["tts_math500"]
    prompt = task.fewshot_context(
        task.eval_docs[0],
        num_fewshot=0,
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        chat_template=lambda messages, add_generation_prompt: json.dumps(messages),
    )
    (message,) = json.loads(prompt)
    assert message["role"] == "user"
    assert message["content"].endswith("Problem: Q1?\n\nSolution:")


def test_gold_that_looks_like_a_python_list_stays_text(tmp_path: Path) -> None:
    row = {"problem": "p", "solution": "s", "answer": "[0,1]", "subject": "Algebra", "level": 1, "unique_id": "u"}
    path = tmp_path / "interval.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    task = manager(math_file=str(path)).load("tts_math500")["tasks"]["tts_math500"]
    assert task.doc_to_target(task.eval_docs[0]) == "[0,1]"


def test_group_lists_the_subjects() -> None:
    group = yaml.safe_load((TASKS / "tts_math" / "group" / "tts_math.yaml").read_text(encoding="utf-8"))
    assert group["task"] == [f"tts_math_{key}" for key in SUBJECTS]
    assert {entry["metric"] for entry in group["aggregate_metric_list"]} == METRICS


@pytest.fixture
def lm_eval(zygote: Zygote) -> Callable[..., Run]:
    """Runs `lm_eval --model dummy ARGUMENTS...`."""
    return lambda *arguments: zygote.run(["lm_eval", "--model", "dummy", *arguments])


@pytest.mark.parametrize("path", ["tts_demo/tts_demo.yaml", "tts_demo"])
def test_command_with_the_demo_by_path(lm_eval: Callable[..., Run], path: str, tmp_path: Path) -> None:
    done = lm_eval("--tasks", TASKS / path, "--log_samples", "--output_path", tmp_path, "--limit", "3")
    assert done.status == 0, done.err
    (samples,) = tmp_path.rglob("samples_tts_demo_*.jsonl")
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    assert [row["doc"]["unique_id"] for row in rows] == ["demo/prealgebra/1", "demo/prealgebra/2", "demo/prealgebra/3"]
    assert all(row["candidates_correct"] == [0] for row in rows)
    (results,) = tmp_path.rglob("results_*.json")
    assert json.loads(results.read_text(encoding="utf-8"))["results"]["tts_demo"]["generations,none"] == 1


def test_command_with_a_folder_of_subjects(lm_eval: Callable[..., Run], math_file: Path) -> None:
    done = lm_eval("--tasks", TASKS / "tts_math", "--metadata", f"math_file={math_file}")
    assert done.status == 0, done.err
    assert all(f"tts_math_{key}" in done.out for key in SUBJECTS)


def test_command_with_math500(lm_eval: Callable[..., Run], shared_data: Path) -> None:
    file = shared_data / "math" / "math500_test.jsonl"
    done = lm_eval("--tasks", TASKS / "tts_math500", "--metadata", f"math_file={file}", "--limit", "5")
    assert done.status == 0, done.err
    assert "tts_math500" in done.out


def test_command_shows_a_broken_line_as_one_line(lm_eval: Callable[..., Run], math_file: Path) -> None:
    with math_file.open("a", encoding="utf-8") as file:
        file.write('{"problem": "torn\n')
    done = lm_eval("--tasks", TASKS / "tts_math500", "--metadata", f"math_file={math_file}")
    assert done.status == 1
    assert done.line.startswith(f"tts-eval: {math_file}:9: not JSON")
