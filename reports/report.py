"""Build a report: load the records, compute the statistics, write the files into place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ascent.records.declared import Declared, Design
from ascent.records.expected import Expected
from ascent.records.read import find, load
from ascent.reports.page.contents import FILES
from ascent.reports.page.write import write
from ascent.reports.replacing import check_replaceable, replacing
from ascent.reports.statistics.study import Study, analyse

# Beside the page in reports of earlier versions.
OLDER_FILES = {"scores.csv", "scores.md", "completeness.csv"}


def build(
    runs: Path,
    out: Path,
    expected: Sequence[Expected] | None = None,
    title: str = "Ascent report",
    declared: Declared | None = None,
    left_out: Mapping[str, Sequence[int]] | None = None,
    started: Mapping[str, Sequence[int]] | None = None,
    grades: Mapping[str, str] | None = None,
    design: Design | None = None,
) -> Path:
    """Write the report on the records below `runs` to the folder `out`, and return its index.html.

    An older report in `out` is replaced once the new one is complete.

    Args:
        runs: folder of run records.
        out: folder of the report.
        expected: cells and seeds to report; missing ones are listed (default: all runs below `runs`).
        title: heading of the page.
        declared: the `[report]` table of the sweep (default: its default values).
        left_out: the tuning seeds that `expected` leaves out, by cell; found below `runs` if it is None.
        started: the seeds that were ever started, by cell (default: those in the ledger).
        grades: what `ascent check` says of the cells, by cell (default: the page shows no grades).
        design: the `[design]` table of the sweep; its stages decide the comparisons (default: none).

    Raises:
        ValueError: there are no runs, tuning and reporting seeds are mixed in `expected`, the declared
            baseline is missing, or `out` holds anything but a report.
    """
    runs, out = Path(runs), Path(out).resolve()
    _check_replaceable(out, runs)
    study = analysed(runs, expected, title, declared, left_out, started, grades, design)
    with replacing(out) as new:
        write(study, new)
    return out / "index.html"


def analysed(
    runs: Path,
    expected: Sequence[Expected] | None = None,
    title: str = "Ascent report",
    declared: Declared | None = None,
    left_out: Mapping[str, Sequence[int]] | None = None,
    started: Mapping[str, Sequence[int]] | None = None,
    grades: Mapping[str, str] | None = None,
    design: Design | None = None,
) -> Study:
    """Return the statistics of a report. Arguments and errors are those of `build`."""
    if expected is None:
        expected, left_out = find(runs)
    cells = load(runs, expected, started)
    return analyse(runs, cells, title, declared or Declared(), left_out or {}, grades or {}, design)


def rebuild(provenance: dict[str, Any], runs: Path, out: Path) -> Path:
    """Build the report with this provenance.json again, from the records below `runs`.

    Raises:
        ValueError: as `build`.
        KeyError, TypeError: `provenance` is not that of a report.
    """
    return build(runs, out, **arguments(provenance))


def arguments(provenance: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `build` and `analysed` with which the report of this provenance.json was made.

    Raises:
        KeyError, TypeError: `provenance` is not that of a report.
    """
    report = provenance["report"]
    return {
        "expected": [Expected.from_json(cell) for cell in report["expected"]],
        "title": report["title"],
        "declared": Declared(**report["settings"]),
        "left_out": report.get("left_out", {}),  # absent from reports of versions before 0.3
        "started": report.get("started"),  # since then, more may have been started
        "grades": report.get("grades"),  # another repository may know other commits
        "design": Design.of(report),
    }


def _check_replaceable(out: Path, runs: Path) -> None:
    """Raise ValueError unless `out` is absent or a report and nothing else: it will be deleted."""
    if runs.resolve().is_relative_to(out):
        raise ValueError(f"{out} contains the runs: choose another folder for the report")
    check_replaceable(out, (FILES | OLDER_FILES).__contains__, "a report")
