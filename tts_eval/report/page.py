"""The report as one HTML page that opens offline, as markdown, and as files of figures and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from tabulate import tabulate

from tts_eval.report.charts import Chart, Missing, as_svg
from tts_eval.report.table import Table, to_csv
from tts_eval.report.transcripts import Example
from tts_eval.types import TtsEvalError


_DIGITS = 6  # of an accuracy; whatever comes after differs between machines


@dataclass(frozen=True)
class Page:
    """Everything that a report holds.

    Attributes:
        title: Its heading.
        headlines: The answers to the paper's questions, a sentence each.
        charts: The figures.
        missing: The figures for which there is no data.
        tables: The tables.
        examples: Solutions with the scores of their steps.
        notes: What was left out, and what a reader should know.
    """

    title: str
    headlines: Sequence[str]
    charts: Sequence[Chart]
    missing: Sequence[Missing]
    tables: Sequence[Table]
    examples: Sequence[Example]
    notes: Sequence[str]


def write_page(page: Page, folder: Path) -> list[Path]:
    """Writes report.html, report.md, figures/ and tables/.

    Args:
        page: What to write.
        folder: Where; made if it doesn't exist, and files of an earlier report are overwritten.

    Returns:
        The files.

    Raises:
        TtsEvalError: If jinja2 or matplotlib is missing, or a file can't be written.
    """
    pictures = []
    try:
        for part in ("figures", "tables"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        written = [folder / "report.html", folder / "report.md"]
        for chart in page.charts:
            figure = chart.figure()
            pictures.append(as_svg(figure, chart.number))
            written.append(folder / "figures" / f"figure_{chart.number}.png")
            figure.savefig(written[-1], dpi=110)
        for name, rows in [*((table.name, table.rows) for table in page.tables), ("figures", _numbers(page))]:
            if rows:
                written.append(folder / "tables" / f"{name}.csv")
                written[-1].write_text(to_csv(rows, _DIGITS), encoding="utf-8", newline="")
        for path in written[:2]:
            path.write_text(_render(page, path.name, pictures), encoding="utf-8", newline="")
    except OSError as error:
        raise TtsEvalError(f"{folder}: {error}; choose another --output") from error
    return written


def _numbers(page: Page) -> list[Any]:
    return [row for chart in page.charts for row in chart.numbers]


def _render(page: Page, name: str, pictures: Sequence[str]) -> str:
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError as error:
        raise TtsEvalError("a report needs jinja2: pip install 'tts-eval[report]'") from error
    html = name.endswith(".html")
    environment = Environment(autoescape=html, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters["pipes"] = _pipes
    template = environment.from_string(files(__package__).joinpath(f"{name}.jinja").read_text(encoding="utf-8"))
    return template.render(page=page, pictures=pictures) + "\n"


def _pipes(table: Table) -> str:
    """A table in markdown; text that a model or a user wrote doesn't break its lines."""
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in table.cells]
    return tabulate(cells, table.heads, "github", disable_numparse=True)
