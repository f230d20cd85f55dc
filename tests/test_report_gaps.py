"""`tts-eval report` of runs with gaps: what can't be told is left out with a word, the rest is there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from report_runs import TASK, write_everything, write_larger, write_run
from test_report_command import FAST, rows_of

from tts_eval.report.canvas import bars_figure


Run = Callable[..., tuple[int, str, str]]
Report = Callable[..., str]


@pytest.fixture
def report(tmp_path: Path, tts_eval_command: Run) -> Report:
    """The command on what is in `runs`; what it says on stderr."""

    def make(*arguments: Any) -> str:
        status, _, err = tts_eval_command("report", tmp_path / "runs", "--output", tmp_path / "out", *FAST, *arguments)
        assert status == 0, err
        return err

    return make


def budgets_of(folder: Path) -> list[int]:
    """Those that policies are told at."""
    return sorted({int(row["budget"]) for row in rows_of(folder, "policies")})


def solve(folder: Path, right: Callable[[int], bool]) -> Path:
    """Changes which problems the larger model of `write_larger` solves."""
    write_larger(folder)
    path = folder / f"samples_{TASK}_2026-01-01T00-00-00.000000.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    changed = [{**line, "exact_match": float(right(number))} for number, line in enumerate(lines)]
    path.write_text("".join(json.dumps(line) + "\n" for line in changed))
    return folder


@pytest.mark.parametrize("problems", [1, 2])
def test_a_policy_of_few_problems_serves_every_bin(problems: int, tmp_path: Path, report: Report) -> None:
    for strategy in ({"name": "best-of-n"}, {"name": "beam", "width": 4}):
        write_run(tmp_path / "runs", strategy, 4, problems=problems)
    report()
    policy = yaml.safe_load((tmp_path / "out" / "policy.yaml").read_text(encoding="utf-8"))
    assert [len(choice["strategies"]) for choice in policy["choices"]] == [5]
    assert len(policy["difficulty"]["thresholds"]) == 4


@pytest.mark.parametrize(("beams", "told"), [((64,), [1, 2, 4, 8, 16]), ((4, 32, 64), [4])])
def test_runs_above_the_independent_samples_are_no_part_of_the_policies(
    beams: Sequence[int], told: list[int], tmp_path: Path, report: Report
) -> None:
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 16)
    for budget in beams:
        write_run(tmp_path / "runs", {"name": "beam", "width": 4}, budget)
    said = report()
    above = ", ".join(str(budget) for budget in beams if budget > 16)
    assert f"search: of budgets above 16 ({above}) there are no independent samples" in said
    assert "tts-best-of-n with budget=64" in said
    assert budgets_of(tmp_path / "out") == told
    beam = {int(row["budget"]) for row in rows_of(tmp_path / "out", "strategies") if row["strategy"] == "beam"}
    assert beam == set(beams)


def test_a_larger_model_that_solves_nothing_has_no_relative_gains(tmp_path: Path, report: Report) -> None:
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 16)
    report("--times", "14.2", "--larger", solve(tmp_path / "larger", lambda number: False))
    figures = {path.stem.removeprefix("figure_") for path in (tmp_path / "out" / "figures").iterdir()}
    assert "1" in figures and "1b" not in figures
    assert {float(row["larger"]) for row in rows_of(tmp_path / "out", "exchange")} == {0}


def test_bars_of_nothing_and_of_all_have_whiskers() -> None:
    """Rounded, these intervals end a hair inside of what they are of, and matplotlib refuses negative lengths."""
    points = [(0, 0.0, 1e-17, 0.3), (1, 1.0, 0.7, 1.0 - 1e-16)]  # as rounding may have it
    figure = bars_figure([("search", {"beam": points})], ["bin 5", "bin 1"], "accuracy")
    assert len(figure.axes[0].patches) == 2


def test_a_strategy_has_one_colour_in_all_panels_and_the_legend() -> None:
    point = [(0, 0.5, 0.4, 0.6)]
    panels = [("4", {"beam": point, "rebase": point}), ("16", {"beam": point, "lookahead": point, "rebase": point})]
    figure = bars_figure(panels, ["bin 1"], "accuracy")
    colours: dict[str, set[Any]] = {}
    for axes in figure.axes:
        for bars, label in zip(*axes.get_legend_handles_labels(), strict=True):
            colours.setdefault(label, set()).add(bars.patches[0].get_facecolor())
    assert [len(of_name) for of_name in colours.values()] == [1, 1, 1] and len(set.union(*colours.values())) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["beam", "rebase", "lookahead"]


@pytest.mark.parametrize("unfinished", ["orm", "revise"])
def test_an_unfinished_run_is_left_out_not_the_problems_that_it_lacks(
    unfinished: str, tmp_path: Path, report: Report
) -> None:
    write_everything(tmp_path / "runs")
    if unfinished == "orm":
        (path,) = (tmp_path / "runs").glob("candidates_*_best-of-n_16_0_orm.jsonl")
    else:
        (path,) = (tmp_path / "runs").glob("candidates_*_revise_4_4_True_*")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:6]))  # a header and five problems
    said = report()
    assert "left out, 5 of 40 problems; run it again to go on with it" in said
    assert {row["n"] for row in rows_of(tmp_path / "out", "strategies") if not row["level"]} == {"40"}


def test_a_search_that_spends_more_than_all_samples_is_compared_with_nothing(tmp_path: Path, report: Report) -> None:
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 16)
    write_run(tmp_path / "runs", {"name": "lookahead", "lookahead": 3, "width": 4}, 4, generations=16)
    write_run(tmp_path / "runs", {"name": "lookahead", "lookahead": 3, "width": 4}, 16, generations=64)
    report()
    rows = [row for row in rows_of(tmp_path / "out", "strategies") if not row["level"]]
    found = [row for row in rows if row["strategy"] == "lookahead"]
    assert [(row["cost"], bool(row["difference"]), bool(row["detectable"])) for row in found] == [
        ("16.0", True, True),
        ("64.0", False, False),
    ]


def test_the_selection_gap_is_at_one_budget(tmp_path: Path, report: Report) -> None:
    """Best-of-N is measured at the search's 12 too, coverage isn't."""
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 32)
    write_run(tmp_path / "runs", {"name": "beam", "width": 4}, 12)
    report()
    selected = {row["budget"]: row["selected"] for row in rows_of(tmp_path / "out", "selection_gap")}
    rows = [row for row in rows_of(tmp_path / "out", "strategies") if not row["level"]]
    known = {row["budget"]: row["accuracy"] for row in rows if row["strategy"] == "best-of-n"}
    assert list(known) == ["1", "2", "4", "8", "12", "16", "32"]
    assert selected == {budget: known[budget] for budget in ("1", "2", "4", "8", "16", "32")}


def test_samples_asked_otherwise_are_no_outcome_verifier_s_of_the_same_samples(tmp_path: Path, report: Report) -> None:
    write_run(tmp_path / "runs", {"name": "best-of-n", "temperature": 1.0}, 16)
    write_run(tmp_path / "runs", {"name": "best-of-n", "temperature": 0.3}, 16, verifier="orm", outcome=True)
    said = report()
    assert "best-of-n N=16 of small with orm: left out" in said
    assert not (tmp_path / "out" / "figures" / "figure_14.png").exists()


def test_two_outcome_verifiers_are_no_figure_14(tmp_path: Path, report: Report) -> None:
    for verifier in ("orm-a", "orm-b"):
        write_run(tmp_path / "runs", {"name": "best-of-n"}, 16, verifier=verifier, outcome=True)
    report()
    assert not (tmp_path / "out" / "figures" / "figure_14.png").exists()


def test_chains_that_share_only_one_attempt_have_no_figure_15(tmp_path: Path, report: Report) -> None:
    runs = tmp_path / "runs"
    write_run(runs, {"name": "best-of-n"}, 16)
    for history, chains, verifier in ((True, 1, "revision-orm"), (False, 8, "orm")):
        length = 16 // chains if history else 1
        strategy = {"name": "revise", "history": history, "chains": chains, "length": length}
        write_run(runs, strategy, chains * length, model="revision", verifier=verifier, outcome=True)
    report()
    assert not (tmp_path / "out" / "figures" / "figure_15.png").exists()


def test_a_bin_of_predicted_difficulty_may_have_no_problem_by_oracle(tmp_path: Path, report: Report) -> None:
    """One sample a problem: right or wrong, so that pass@1 has two bins, and the verifier's score five."""
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 1)
    report("--times", "14.2", "--larger", write_larger(tmp_path / "larger"))
    stars: dict[str, set[str]] = {}
    for row in rows_of(tmp_path / "out", "figures"):
        if row["line"].startswith("larger model, "):
            stars.setdefault(row["figure"], set()).add(row["line"].removeprefix("larger model, "))
    assert len(stars["9"]) == 2 and stars["12"] == {f"bin {number}" for number in range(1, 6)}


def test_probes_that_no_budget_has_room_for_are_left_out(tmp_path: Path, report: Report) -> None:
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 16)
    said = report("--probes", "32,64")
    assert "no policy pays for 32, 64 probes, the largest budget is 16" in said
    assert not any("charged" in row["policy"] for row in rows_of(tmp_path / "out", "policies"))


def test_lm_eval_s_filters_are_no_answers_of_their_own(tmp_path: Path, report: Report) -> None:
    write_run(tmp_path / "runs", {"name": "best-of-n"}, 16)
    folder = write_larger(tmp_path / "larger")
    path = folder / f"samples_{TASK}_2026-01-01T00-00-00.000000.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    strict = [{**line, "filter": "strict-match", "exact_match": 0.0} for line in lines]
    kind = [{**line, "filter": "flexible-extract"} for line in lines]
    path.write_text("".join(json.dumps(line) + "\n" for line in [*strict, *kind]))
    said = report("--times", "14.2", "--larger", folder)
    assert "filters strict-match, flexible-extract the kindest to it is taken, flexible-extract" in said
    whole = [row for row in rows_of(tmp_path / "out", "exchange") if row["level"] == ""]
    assert all(float(row["larger"]) == pytest.approx(26 / 40) for row in whole)
