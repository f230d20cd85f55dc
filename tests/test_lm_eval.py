"""End to end: the `lm_eval` command on a small real model, on servers, killed, and fed with nonsense.

Commands are forks here (`forked.py`); `test_micromath.py` and the adapters' tests start the script itself.
"""

from __future__ import annotations

import json
import random
import re
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from forked import Zygote

from tts_eval.journal import read_journal


ROOT = Path(__file__).parents[1]
DEMO = str(ROOT / "tasks/tts_demo/tts_demo.yaml")


def command(output: Path, *more: str, task: str = DEMO, limit: int = 3, **model_args: Any) -> list[str]:
    arguments = ",".join(f"{key}={value}" for key, value in model_args.items())
    return [
        *("lm_eval", "--model", "tts-best-of-n", "--model_args", arguments, "--tasks", task, "--limit", str(limit)),
        *("--log_samples", "--output_path", str(output), *more),
    ]


@pytest.fixture
def run(zygote: Zygote) -> Callable[..., str]:
    """Runs a command, which must succeed; returns all that it printed."""

    def call(given: list[str]) -> str:
        done = zygote.done(given)
        return done.out + done.err

    return call


@pytest.fixture
def refusal(zygote: Zygote) -> Callable[..., str]:
    """Runs a command, which must fail; returns the one line that says what was wrong."""

    def call(given: list[str], **limits: int) -> str:
        done = zygote.run(given, **limits)
        assert done.status != 0 and "Traceback" not in done.err
        (line,) = re.findall(r"^tts-eval: .*", done.err.replace("\r", "\n"), re.MULTILINE)
        return line

    return call


def journals(folder: Path) -> list[Path]:
    return sorted(folder.rglob("candidates_*.jsonl"))


def metrics(folder: Path) -> dict[str, Any]:
    (results,) = folder.rglob("results_*.json")
    return json.loads(results.read_text())["results"]


def test_math500_on_a_real_model(run: Callable[..., str], smollm2: Path, shared_data: Path, tmp_path: Path) -> None:
    more = ["--apply_chat_template", "--gen_kwargs", "max_gen_toks=48"]
    more += ["--metadata", f"math_file={shared_data}/math/math500_test.jsonl"]
    task = str(ROOT / "tasks/tts_math500/tts_math500.yaml")
    run(command(tmp_path, *more, task=task, base="hf", pretrained=smollm2, budget=8, temperature=0.8))

    (folder,) = tmp_path.iterdir()
    assert {path.name.split("_")[0] for path in folder.iterdir()} == {"results", "samples", "candidates"}
    _, records = read_journal(journals(tmp_path)[0])
    assert [len(record.candidates) for record in records] == [8, 8, 8]
    for record in records:
        assert len({candidate.text for candidate in record.candidates}) > 1
        assert record.usage.generations == 8
        assert record.usage.decode_tokens == sum(candidate.tokens or 0 for candidate in record.candidates)
        assert record.usage.reused_tokens == 7 * (record.usage.prefill_tokens or 0)
    results = json.loads(next(folder.glob("results_*.json")).read_text())
    assert results["config"]["tts_eval"]["usage"]["generations"] == 24
    assert results["results"]["tts_math500"]["generations,none"] == 8

    table = tmp_path / "table.json"
    run(["tts-eval", "select", str(tmp_path), "--format", "json", "--output", str(table)])
    rows = json.loads(table.read_text())
    assert {(row["budget"], row["selection"]) for row in rows} == {
        (budget, selection) for budget in (1, 2, 4, 8) for selection in ("mean", "majority", "coverage")
    }
    samples = [json.loads(line) for line in next(folder.glob("samples_*.jsonl")).read_text().splitlines()]
    at_8 = {row["selection"]: row["accuracy"] for row in rows if row["budget"] == 8}
    assert at_8["coverage"] == sum(sample["coverage"] for sample in samples) / 3
    assert at_8["mean"] == pytest.approx(sum(sum(sample["candidates_correct"]) for sample in samples) / 24)


def test_a_killed_run_goes_on_where_it_was(
    run: Callable[..., str], zygote: Zygote, smollm2: Path, tmp_path: Path
) -> None:
    def arguments(output: Path) -> list[str]:
        more = ["--apply_chat_template", "--gen_kwargs", "max_gen_toks=24", "--batch_size", "4"]
        return command(output, *more, limit=8, base="hf", pretrained=smollm2, budget=4)

    running = zygote.start(arguments(tmp_path / "killed"))
    running.until(lambda: any(len(read_journal(path)[1]) >= 2 for path in journals(tmp_path)))
    running.send(signal.SIGKILL)
    running.wait()
    (journal,) = journals(tmp_path / "killed")
    before = read_journal(journal)[1]
    assert 2 <= len(before) < 8
    run(arguments(tmp_path / "killed"))
    run(arguments(tmp_path / "whole"))

    assert journals(tmp_path / "killed") == [journal]
    after = {record.uid: record for record in read_journal(journal)[1]}
    whole = {record.uid: record for record in read_journal(journals(tmp_path / "whole")[0])[1]}
    assert len(read_journal(journal)[1]) == 8 and sorted(after) == sorted(whole)
    assert all(after[record.uid] == record for record in before)
    for uid, record in whole.items():
        assert [c.text for c in after[uid].candidates] == [c.text for c in record.candidates]
        assert [c.logprob for c in after[uid].candidates] == pytest.approx(
            [c.logprob for c in record.candidates], abs=1e-9
        )
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


def test_replay_gives_the_results_of_the_run_without_its_model(
    run: Callable[..., str], smollm2: Path, tmp_path: Path
) -> None:
    more = ["--apply_chat_template", "--gen_kwargs", "max_gen_toks=24"]
    run(command(tmp_path / "run", *more, base="hf", pretrained=smollm2, budget=4, answer_fallback="last_number"))
    (journal,) = journals(tmp_path)
    replay = command(tmp_path / "replay", "--apply_chat_template", journal=journal, model="smollm2")
    replay[replay.index("tts-best-of-n")] = "tts-replay"
    run(replay)
    names = ("accuracy", "coverage", "candidates_correct", "generations", "tokens")
    first, second = (metrics(tmp_path / name)["tts_demo"] for name in ("run", "replay"))
    assert [first[f"{name},none"] for name in names] == [second[f"{name},none"] for name in names]


def test_a_prompt_longer_than_the_context_is_refused_before_anything_is_computed(
    refusal: Callable[..., str], smollm2: Path, tmp_path: Path
) -> None:
    line = refusal(command(tmp_path, base="hf", pretrained=smollm2, max_length=16, budget=2))
    assert line.startswith("tts-eval: the prompt of problem demo/") and "context is 16" in line


Says = Callable[[dict[str, Any]], str]
"""The text with which a server replies to a request."""


def number_of_the_seed(payload: dict[str, Any]) -> str:
    return f" The answer is \\boxed{{{random.Random(payload['seed']).randrange(10_000)}}}."


def always_seven(payload: dict[str, Any]) -> str:
    return f"{' Because all roads lead there,' * 3} the answer is \\boxed{{7}}."


@pytest.fixture
def server() -> Iterator[Callable[[Says], str]]:
    """Starts completion servers on this machine."""
    servers: list[ThreadingHTTPServer] = []

    def start(says: Says) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                choice = {"index": 0, "text": says(payload), "finish_reason": "stop"}
                body = json.dumps({"choices": [choice]}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/v1/completions"

    yield start
    for each in servers:
        each.shutdown()


def over_server(url: str, output: Path, **more: Any) -> list[str]:
    local = {"model": "served", "base_url": url, "tokenizer_backend": "none", "tokenized_requests": False}
    return command(output, base="local-completions", budget=4, **local, **more)


def test_samples_of_a_server_that_honours_seeds_differ(
    run: Callable[..., str], server: Callable[[Says], str], tmp_path: Path
) -> None:
    run(over_server(server(number_of_the_seed), tmp_path))
    _, records = read_journal(journals(tmp_path)[0])
    answers = [candidate.answer for record in records for candidate in record.candidates]
    assert len(records) == 3 and len(set(answers)) == 12


def test_a_server_that_copies_its_samples_stops_the_run(
    refusal: Callable[..., str], server: Callable[[Says], str], tmp_path: Path
) -> None:
    line = refusal(over_server(server(always_seven), tmp_path))
    assert "all samples of a problem came back equal" in line and "seed" in line
    assert read_journal(journals(tmp_path)[0])[1] == []


def test_the_dummy_model_runs_through_the_fallback(run: Callable[..., str], tmp_path: Path) -> None:
    run(command(tmp_path, base="dummy", model="dummy", budget=2))
    assert metrics(tmp_path)["tts_demo"]["generations,none"] == 2


def test_a_task_without_a_scoring_of_its_own_is_graded_by_lm_eval(run: Callable[..., str], tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text("".join(json.dumps({"q": f"{n}", "a": answer}) + "\n" for n, answer in enumerate(["lol", 7])))
    source = {"data_files": {"test": str(problems)}, "cache_dir": str(tmp_path / "cache")}
    task: dict[str, Any] = {"task": "bare", "dataset_path": "json", "dataset_kwargs": source}
    task |= {"test_split": "test", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}", "output_type": "generate_until"}
    path = tmp_path / "bare.yaml"
    path.write_text(json.dumps({**task, "metric_list": [{"metric": "exact_match"}]}))
    run(command(tmp_path / "out", task=str(path), base="dummy", model="dummy", budget=2))
    assert metrics(tmp_path / "out")["bare"]["exact_match,none"] == 0.5


# One of each kind of lm-eval's own: filters that see the text, several right answers, a choice by its number, a letter,
# a `process_results`, and none.
FOREIGN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gsm8k/gsm8k.yaml": (
        {"question": "Ann has 3 pens and buys 4. SAY 7", "answer": "3+4=<<3+4=7>>7\n#### 7"},
        {"question": "Bob has 3 cups and breaks 1. SAY 5", "answer": "3-1=<<3-1=2>>2\n#### 2"},
    ),
    "triviaqa/default.yaml": (
        {"question": "Who painted the Mona Lisa WRITE Leonardo", "answer": {"aliases": ["da Vinci", "Leonardo"]}},
        {"question": "What is the capital of Peru WRITE Quito", "answer": {"aliases": ["Lima"]}},
    ),
    "super_glue/boolq/t5-prompt.yaml": (
        {"passage": "Ice is cold.", "question": "is ice cold SAY True", "label": 1},
        {"passage": "Ice is cold.", "question": "is ice hot SAY True", "label": 0},
    ),
    "mmlu_pro/mmlu_pro_math.yaml": (
        {"question": "1+1? SAY (B)", "options": ["1", "2"], "answer": "B", "category": "math", "cot_content": ""},
        {"question": "2-1? SAY (B)", "options": ["1", "2"], "answer": "A", "category": "math", "cot_content": ""},
    ),
    "minerva_math/minerva_math_algebra.yaml": (
        {"problem": "Halve 1. SAY 0.5", "solution": "$\\boxed{\\frac{1}{2}}$", "level": "Level 1", "type": "Algebra"},
        {"problem": "Halve 3. SAY 0.5", "solution": "$\\boxed{\\frac{3}{2}}$", "level": "Level 2", "type": "Algebra"},
    ),
    "babi/babi.yaml": (
        {"passage": "Mary went to the park. ", "question": "Where is Mary? WRITE park", "answer": "park"},
        {"passage": "John went to the shop. ", "question": "Where is John? WRITE park", "answer": "shop"},
    ),
}


def says_what_it_is_asked_to(payload: dict[str, Any]) -> str:
    ((how, word),) = re.findall(r"(SAY|WRITE) (\S+?)\??(?=\s|$)", payload["prompt"])
    return f" {payload['seed']} so \\boxed{{{word}}}" if how == "SAY" else f" {word}"


def test_lm_evals_own_tasks_are_run_and_graded(
    run: Callable[..., str], server: Callable[[Says], str], tmp_path: Path
) -> None:
    """Of each pair of documents the server solves one."""
    paths = []
    for name, documents in FOREIGN.items():
        data = tmp_path / f"{Path(name).stem}.jsonl"
        data.write_text("".join(json.dumps(document) + "\n" for document in documents))
        splits = dict.fromkeys(("train", "valid", "validation", "test"), str(data))
        task = {"include": str(Path(lm_eval.__file__).parent / "tasks" / name), "task": f"own_{Path(name).parts[0]}"}
        task |= {"dataset_path": "json", "dataset_name": None, "num_fewshot": 0}
        task["dataset_kwargs"] = {"data_files": splits, "cache_dir": str(tmp_path / "cache")}
        paths.append(tmp_path / f"{data.stem}.yaml")
        paths[-1].write_text(json.dumps(task))
    url = server(says_what_it_is_asked_to)
    run(over_server(url, tmp_path / "out", task=",".join(map(str, paths)), answer_fallback="text"))

    by_lm_eval = metrics(tmp_path / "out")
    assert by_lm_eval["own_gsm8k"]["exact_match,flexible-extract"] == 0.5
    assert by_lm_eval["own_triviaqa"]["exact_match,remove_whitespace"] == 0.5
    assert by_lm_eval["own_minerva_math"]["math_verify,none"] == 0.5
    assert by_lm_eval["own_babi"]["exact_match,none"] == 0.5
    table = tmp_path / "table.json"
    run(["tts-eval", "select", str(tmp_path / "out"), "--budgets", "4", "--format", "json", "--output", str(table)])
    found = {row["task"]: row for row in json.loads(table.read_text()) if row["selection"] == "majority"}
    assert {task: (row["n"], row["accuracy"]) for task, row in found.items()} == {
        f"own_{name.split('/')[0]}": (2, 0.5) for name in FOREIGN
    }


@pytest.mark.parametrize(
    ("model_args", "words"),
    [
        ({"budgte": 4}, "unknown argument budgte= in --model_args: did you mean budget=?"),
        ({"budget": 0}, "budget=0 should be a whole number of at least 1"),
        ({"budget": "many"}, "budget=many should be a whole number of at least 1"),
    ],
)
def test_a_wrong_argument_is_one_line(
    refusal: Callable[..., str], tmp_path: Path, model_args: dict[str, Any], words: str
) -> None:
    assert words in refusal(command(tmp_path, base="dummy", **model_args))


def test_two_tasks_in_one_run_and_other_prompts_have_journals_of_their_own(
    run: Callable[..., str], shared_data: Path, tmp_path: Path
) -> None:
    tasks = f"{DEMO},{ROOT}/tasks/tts_gsm8k/tts_gsm8k.yaml"
    more = ["--metadata", f"gsm8k_file={shared_data}/gsm8k/test.jsonl"]
    for shots in ([], ["--num_fewshot", "2"], []):
        run(command(tmp_path, *more, *shots, task=tasks, base="dummy", model="dummy", budget=2))
    held = [(path.name.split("_20")[0], len(read_journal(path)[1])) for path in journals(tmp_path)]
    assert held == [("candidates_tts_demo", 3)] * 2 + [("candidates_tts_gsm8k", 3)] * 2


def test_a_server_that_is_down_is_one_line(refusal: Callable[..., str], tmp_path: Path) -> None:
    line = refusal(over_server("http://127.0.0.1:9/v1/completions", tmp_path, max_retries=1))
    assert "no answer after 1 tries" in line and "http://127.0.0.1:9/v1/completions" in line


def test_an_unreadable_gguf_is_one_line(refusal: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    assert refusal(command(tmp_path, pretrained=path, budget=2)).startswith("tts-eval: the base model hf can't be made")


def test_a_missing_model_is_one_line(refusal: Callable[..., str], tmp_path: Path) -> None:
    line = refusal(command(tmp_path, base="hf", pretrained=tmp_path / "absent", budget=2))
    assert line.startswith("tts-eval: the base model hf can't be made") and "absent" in line


def test_a_broken_line_of_a_task_file_is_named(refusal: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    good = {
        "problem": "1+1",
        "solution": r"\boxed{2}",
        "answer": "2",
        "subject": "Algebra",
        "level": 1,
        "unique_id": "a",
    }
    path.write_text(json.dumps(good) + "\n" + '{"problem": "1+')
    task = str(ROOT / "tasks/tts_math500/tts_math500.yaml")
    line = refusal(command(tmp_path, "--metadata", f"math_file={path}", task=task, base="dummy", budget=2))
    assert f"{path}:2" in line and "JSON" in line


def test_a_full_disk_keeps_what_is_done_and_the_same_command_goes_on(
    run: Callable[..., str], refusal: Callable[..., str], tmp_path: Path
) -> None:
    arguments = command(tmp_path, limit=12, base="dummy", model="dummy", budget=64)
    line = refusal(arguments, file_bytes=40_000)  # more than it prints, less than its journal
    safe = len(read_journal(journals(tmp_path)[0])[1])
    assert 0 < safe < 12
    assert f"{safe} problems are safe" in line and "run the same command again" in line
    run(arguments)
    assert len(read_journal(journals(tmp_path)[0])[1]) == 12


def test_the_cache_of_another_strategy_is_refused(
    run: Callable[..., str], refusal: Callable[..., str], tmp_path: Path
) -> None:
    cache = ["--use_cache", str(tmp_path / "cache")]
    run(command(tmp_path / "a", *cache, base="dummy", model="dummy", budget=2))
    line = refusal(command(tmp_path / "b", *cache, base="dummy", model="dummy", budget=4))
    assert "--use_cache" in line and "name another file" in line


def test_the_journal_of_another_strategy_is_refused(
    run: Callable[..., str], refusal: Callable[..., str], tmp_path: Path
) -> None:
    run(command(tmp_path, base="dummy", model="dummy", budget=2))
    (journal,) = journals(tmp_path)
    line = refusal(command(tmp_path, base="dummy", model="dummy", budget=4, journal=journal))
    assert "budget is 2 there and 4 here" in line
