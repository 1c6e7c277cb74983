"""The statistics of a report, from whatever names one."""

from pathlib import Path
from typing import TYPE_CHECKING

from ascent.records.errors import InputError

if TYPE_CHECKING:
    from ascent.reports.statistics.study import Study


def study(source: str, runs: Path) -> "Study":
    """Return the statistics of a report, as it declares them.

    Args:
        source: the folder of a report, a sweep, its manifest, a folder of run records, or a bundle.
        runs: folder of the run records of a report or a sweep.

    Raises:
        InputError: there is no such source, it has no runs, or the records of a report have changed.
    """
    from ascent.records.expected import Expected
    from ascent.reports.checking import bundle
    from ascent.reports.report import analysed
    from ascent.reports.staged import planned_now
    from ascent.slurm import manifest

    place = Path(source)
    try:
        if source.endswith(".zip"):
            with bundle.opened(place) as unpacked:
                return _of_report(unpacked / "report", unpacked / "runs")
        if (place / "provenance.json").is_file():
            return _of_report(place, runs)
        if place.is_dir():
            return analysed(place, title=f"Runs in {place.name}")
        sweep = manifest.open_sweep(source, runs)
        design = sweep.plan.design
        cells = [Expected.planned(plan) for plan in planned_now(sweep.plan, runs)]
        return analysed(runs, cells, sweep.title, sweep.declared, design=design)
    except ValueError as error:
        raise InputError(str(error)) from error


def _of_report(report: Path, runs: Path) -> "Study":
    from ascent.reports.checking import bundle
    from ascent.reports.report import analysed, arguments

    about = bundle.provenance(report)
    try:
        found = analysed(runs, **arguments(about))
    except ValueError as error:
        raise InputError(f"{error}; name the folder of the report's records with --runs") from error
    if changes := bundle.changed_runs(about, found.cells):
        more = f"; and {len(changes) - 1:,} more" if len(changes) > 1 else ""
        raise InputError(
            f"{report} has other records than {runs}: {changes[0]}{more}; name their folder with --runs, or "
            "build the report again"
        )
    return found
