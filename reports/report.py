"""Build a report: load the records, compute the statistics, write the files into place."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ascent.records.declared import Declared, Design
from ascent.records.expected import Expected
from ascent.records.read import find, load
from ascent.reports.page.contents import FILES
from ascent.reports.page.write import write
from ascent.reports.statistics.study import analyse

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
    if expected is None:
        expected, left_out = find(runs)
    cells = load(runs, expected, started)
    study = analyse(runs, cells, title, declared or Declared(), left_out or {}, grades or {}, design)
    out.parent.mkdir(parents=True, exist_ok=True)
    # A sibling folder, because a rename is atomic only within one file system.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:40]}-") as work:
        new, old = Path(work) / "new", Path(work) / "old"
        write(study, new)
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    return out / "index.html"


def rebuild(provenance: dict[str, Any], runs: Path, out: Path) -> Path:
    """Build the report with this provenance.json again, from the records below `runs`.

    Raises:
        ValueError: as `build`.
        KeyError, TypeError: `provenance` is not that of a report.
    """
    report = provenance["report"]
    expected = [Expected.from_json(cell) for cell in report["expected"]]
    left_out = report.get("left_out", {})  # absent from reports of versions before 0.3
    started = report.get("started")  # since then, more may have been started
    grades = report.get("grades")  # another repository may know other commits
    declared = Declared(**report["settings"])
    design = Design.of(report)
    return build(runs, out, expected, report["title"], declared, left_out, started, grades, design)


def _check_replaceable(out: Path, runs: Path) -> None:
    """Raise ValueError unless `out` is absent or a report and nothing else: it will be deleted."""
    if runs.resolve().is_relative_to(out):
        raise ValueError(f"{out} contains the runs: choose another folder for the report")
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= FILES | OLDER_FILES):
        raise ValueError(f"{out} contains files that are not part of a report: choose another folder")
