"""`tts-eval report`: every figure that the runs hold data for, and a word on everything that was left out."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_runs import TASK, write_everything, write_larger, write_run

from tts_eval.cli import main


Run = Callable[..., tuple[int, str, str]]

FAST = ("--splits", "5", "--resamples", "50")


def rows_of(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    write_everything(folder / "runs")
    write_larger(folder / "larger")
    return folder


def make_report(runs: Path, output: Path) -> tuple[int, str, str]:
    """The command, for fixtures of a whole module: drawing sixteen figures takes seconds."""
    where = [str(runs / "runs"), "--larger", str(runs / "larger"), "--output", str(output)]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        status = main(["report", *where, "--times", "14.2", *FAST])
    return status, out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def report(runs: Path) -> tuple[Path, str, str]:
    status, out, err = make_report(runs, runs / "out")
    assert status == 0, err
    return runs / "out", out, err


def test_every_figure_of_the_paper_is_there(report: tuple[Path, str, str]) -> None:
    folder, out, err = report
    figures = {path.stem.removeprefix("figure_") for path in (folder / "figures").iterdir()}
    parts = "1a 1b 3a 3b 4 6a 6b 7 8 9 10 11 12 13 14 15"
    assert figures == set(parts.split())
    assert "lacks data" not in err
    page, text = ((folder / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
    assert page.count("<svg") == len(figures) and "http" not in page.split("<svg")[0].replace("http-equiv", "")
    for number in figures:
        assert f"Figure {number}." in page and f"figures/figure_{number}.png" in text
    assert {row["figure"] for row in rows_of(folder, "figures")} == figures
    assert "how much more efficient is compute-optimal than best-of-N" in out and out.splitlines()[0] in text


def test_text_that_a_model_wrote_is_escaped(report: tuple[Path, str, str]) -> None:
    page = (report[0] / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(" in page
    assert "<script" not in page


def test_the_numbers_of_the_policies_belong_together(report: tuple[Path, str, str]) -> None:
    rows = [row for row in rows_of(report[0], "policies") if row["level"] == "" and row["approach"] == "search"]
    assert {row["policy"] for row in rows} == {
        *("oracle", "predicted", "absolute", "level"),
        *(f"predicted, {k} probe{'s' if k > 1 else ''} charged" for k in (1, 2, 4, 8, 16)),
    }
    for row in rows:
        value, baseline, difference = (float(row[name]) for name in ("accuracy", "baseline", "difference"))
        assert difference == pytest.approx(value - baseline, abs=2e-6)
        assert float(row["low"]) <= value <= float(row["high"])
        assert float(row["cost"]) <= int(row["budget"]) or "charged" in row["policy"]
        if row["chosen_on_all"]:
            assert float(row["chosen_on_all"]) >= value - 1e-6, "choosing on the problems that score flatters"


def test_the_larger_model_is_met_at_the_paper_s_budgets(report: tuple[Path, str, str]) -> None:
    rows = rows_of(report[0], "exchange")
    assert {round(float(row["budget"])) for row in rows} == {262, 64, 16}
    assert {row["level"] for row in rows} == {"", *(f"bin {n}" for n in range(1, 6)), "easy", "medium", "hard"}
    whole = [row for row in rows if row["level"] == "" and row["strategy"].startswith("search")]
    assert all(float(row["larger"]) == pytest.approx(26 / 40) and row["n"] == "40" for row in whole)


def test_the_policy_file_serves_every_bin_and_budget(report: tuple[Path, str, str]) -> None:
    policy = yaml.safe_load((report[0] / "policy.yaml").read_text(encoding="utf-8"))
    assert [choice["budget"] for choice in policy["choices"]] == [1, 4, 16]
    assert all(len(choice["strategies"]) == 5 for choice in policy["choices"])
    assert policy["strategies"].get("beam", {"width": 4})["width"] == 4
    thresholds = policy["difficulty"]["thresholds"]
    assert thresholds == sorted(thresholds, reverse=True) and len(thresholds) == 4


def test_the_same_runs_give_the_same_files(report: tuple[Path, str, str], runs: Path) -> None:
    assert make_report(runs, runs / "again")[0] == 0
    for path in report[0].rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (runs / "again" / path.relative_to(report[0])).read_bytes(), path.name


def test_a_folder_in_disorder_is_reported_with_a_word_on_everything(tmp_path: Path, tts_eval_command: Run) -> None:
    """Runs missing, mixed seeds, different problems, a half-written journal, a broken one, another task's."""
    runs = tmp_path / "runs"
    write_run(runs, {"name": "best-of-n"}, 8)
    write_run(runs, {"name": "best-of-n"}, 8, seed=1)
    write_run(runs, {"name": "beam", "width": 4}, 8, problems=38)
    half = write_run(runs, {"name": "beam", "width": 2}, 8)
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])
    broken = write_run(runs, {"name": "dvts", "width": 4}, 8)
    broken.write_text(broken.read_text().replace('"tokens": 10', '"tokens": "many"', 1))

    status, _, err = tts_eval_command("report", runs, "--output", tmp_path / "out", *FAST)

    assert status == 0, err
    said = err.replace("\n", " ")
    assert f"{broken.name}:2" in said and "tokens" in said
    assert "beam (width=2) N=8: left out," in said and "of 40 problems; run it again to go on with it" in said
    assert "search: 2 problems that not all runs have are left out" in said
    assert "figure 9 lacks data: lm_eval" in said and "--larger LARGER" in said
    assert "figure 7 lacks data" in said and "tts-revise" in said
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "left out" in text and "Figures without data" in text
    used = {(row["strategy"], row["seeds"], row["problems"]) for row in rows_of(tmp_path / "out", "runs")}
    assert ("best-of-n", "0, 1", "40") in used


def test_runs_without_a_verifier_are_reported_by_majority(tmp_path: Path, tts_eval_command: Run) -> None:
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 8, verifier=None)
    status, _, err = tts_eval_command("report", tmp_path / "runs", "--output", tmp_path / "out", *FAST)
    assert status == 0, err
    assert "difficulty by predicted: not known" in err
    assert not (tmp_path / "out" / "policy.yaml").exists()
    assert {row["strategy"] for row in rows_of(tmp_path / "out", "strategies")} >= {"best-of-n", "majority"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--task", "other"], f"--task other: no such task in these runs; they are of {TASK}"),
        (["--times", "0.5"], "is 0.5 times as large"),
        ([], "lm_eval counted no parameters of the two models; say --times M"),
    ],
)
def test_what_cant_be_reported_says_why(
    arguments: list[Any], said: str, runs: Path, tmp_path: Path, tts_eval_command: Run
) -> None:
    larger = write_larger(tmp_path / "larger", parameters=None)
    status, _, err = tts_eval_command("report", runs / "runs", "--larger", larger, "--output", tmp_path, *arguments)
    assert (status, err.count("\n")) == (1, 1)
    assert said in err


def test_bins_may_be_cut_by_other_samples(tmp_path: Path, tts_eval_command: Run) -> None:
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 16)
    write_run(tmp_path / "runs", {"name": "beam", "width": 4}, 16)
    write_run(tmp_path / "other", {"name": "best-of-n"}, 16, seed=1)
    texts = []
    for bins in ([], ["--bins", tmp_path / "other"]):
        status, _, err = tts_eval_command("report", tmp_path / "runs", *bins, "--output", tmp_path / "out", *FAST)
        assert status == 0, err
        texts.append((tmp_path / "out" / "report.md").read_text(encoding="utf-8"))
    assert "cut by best-of-N's own samples, which flatters" in texts[0]
    assert "cut by 16 other samples of each problem" in texts[1]
    status, _, err = tts_eval_command("report", tmp_path / "runs", "--bins", tmp_path / "runs")
    assert status == 1 and "--bins: these are samples of the runs themselves" in err
    write_run(tmp_path / "strange", {"name": "best-of-n"}, 16, model="big", seed=1)
    status, _, err = tts_eval_command("report", tmp_path / "runs", "--bins", tmp_path / "strange")
    assert status == 1 and "--bins: no independent samples of small with verifier prm on toy" in err


def test_a_larger_run_of_other_problems_is_refused(runs: Path, tmp_path: Path, tts_eval_command: Run) -> None:
    larger = write_larger(tmp_path / "larger", problems=0)
    status, _, err = tts_eval_command("report", runs / "runs", "--larger", larger, "--times", "2", "--output", tmp_path)
    assert status == 1 and "run them on the same problems" in err
    status, _, err = tts_eval_command("report", runs / "runs", "--larger", tmp_path / "none", "--times", "2")
    assert status == 1 and f"no samples_{TASK}_*.jsonl; run lm_eval on the larger model with --log_samples" in err


def test_single_runs_are_held_against_the_larger_model(report: tuple[Path, str, str]) -> None:
    rows = [row for row in rows_of(report[0], "duels") if row["strategy"] != "sequential"]
    assert {(row["strategy"], row["budget"]) for row in rows} == {
        (name, str(budget)) for name in ("beam", "lookahead") for budget in (1, 4, 16)
    }
    larger = {row["strategy"]: float(row["larger"]) for row in rows_of(report[0], "exchange") if row["level"] == ""}
    for row in rows:
        (accuracy,) = (
            float(of["accuracy"])
            for of in rows_of(report[0], "strategies")
            if (of["strategy"], of["budget"], of["level"]) == (row["strategy"], row["budget"], "")
        )
        ours, theirs = int(row["ours"]), int(row["theirs"])
        assert ours - theirs == pytest.approx(40 * (accuracy - larger["search, compute-optimal (oracle)"]), abs=1e-3)
        assert 0 < float(row["p_value"]) <= 1
