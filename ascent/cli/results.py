"""Commands that report, check, verify and cite results."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascent.cli.options import RUNS, Runs, default_folder, expected, group, note, progress_bar, terminal
from ascent.records.declared import ESTIMATORS, RETURN

if TYPE_CHECKING:
    from ascent.records.expected import Expected
    from ascent.records.plan import Planned

app = group()


@app.command()
def report(
    source: Annotated[
        str, typer.Argument(help="A sweep, its manifest, a folder of run records, or a bundle.")
    ],
    runs: Runs = RUNS,
    out: Annotated[Path | None, typer.Option(help="Folder for the report. Default: out/NAME.")] = None,
    with_results: Annotated[
        str | None,
        typer.Option(
            metavar="SYSTEMS",
            help="Beside these cells, show systems of the results that ship with the suite, such as ppo,sac: "
            "on the same tasks, with the same budget and evaluations.",
        ),
    ] = None,
) -> None:
    """Build the report of a sweep, or of all runs in a folder.

    The report is one stand-alone HTML page, with its figures, tables and data as files beside it. What
    `ascent check` says of the records is printed, too.
    """
    from ascent.records.errors import InputError
    from ascent.records.read import find
    from ascent.reports.checking import bundle as bundles
    from ascent.reports.report import build, rebuild
    from ascent.reports.staged import planned_now
    from ascent.slurm import manifest

    systems = [name.strip() for name in (with_results or "").split(",") if name.strip()]
    try:
        if source.endswith(".zip"):
            if systems:
                raise InputError("--with-results needs a sweep or a folder of run records: unpack the bundle")
            with bundles.opened(Path(source)) as unpacked:
                about = bundles.provenance(unpacked / "report")
                _checked(unpacked / "runs")
                page = rebuild(about, unpacked / "runs", out or default_folder(Path(source).stem))
        elif Path(source).is_dir():
            folder = out or default_folder(Path(source).resolve().name)
            title = f"Runs in {Path(source).name}"
            cells, left_out = find(Path(source))
            cells += _baselines(cells, Path(source), systems)
            grades = _checked(Path(source)) | _shelf_grades(cells)
            page = build(Path(source), folder, cells, title, left_out=left_out, grades=grades)
        else:
            sweep = manifest.open_sweep(source, runs)
            folder = out or default_folder(sweep.name)
            design = sweep.plan.design
            if design and systems:
                raise InputError("--with-results: a design compares its own cells only")
            cells = expected(planned_now(sweep.plan, runs))
            cells += _baselines(cells, runs, systems)
            own = {cell.folder: cell.seeds for cell in cells if not cell.shelf}
            grades = _checked(runs, own) | _shelf_grades(cells)
            page = build(runs, folder, cells, sweep.title, sweep.declared, grades=grades, design=design)
    except ValueError as error:
        raise InputError(str(error)) from error
    print(page)


def _planned(sweep: str, runs: Path) -> "list[Planned]":
    """Return what the records must contain by a sweep, with a design up to its present stage."""
    from ascent.reports.staged import planned_now
    from ascent.slurm import manifest

    return list(planned_now(manifest.open_sweep(sweep, runs).plan, runs))


@app.command()
def power(
    source: Annotated[str, typer.Argument(help="A sweep, its manifest, or a folder of pilot runs.")],
    difference: Annotated[
        float | None,
        typer.Option(
            help="True difference of two systems, as a share of the way from the random to the reference "
            "score, such as 0.1. Default: the difference of the pilot runs."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(help="Show the power at this number of seeds.")] = 10,
    at_least: Annotated[
        float, typer.Option("--power", help="Show the number of seeds for this power.")
    ] = 0.8,
    runs: Runs = RUNS,
) -> None:
    """Say how many seeds the comparisons of a report need, from pilot runs: by simulation with its test.

    Report the new seeds without the pilot's, unless a [design] plans for both.
    """
    from ascent.records.errors import InputError
    from ascent.reports.planning import planned_power, render
    from ascent.slurm import manifest

    try:
        if Path(source).is_dir():
            found = planned_power(Path(source), None, None, seeds, at_least, difference)
        else:
            sweep = manifest.open_sweep(source, runs)
            found = planned_power(runs, expected(sweep.planned), sweep.declared, seeds, at_least, difference)
    except ValueError as error:
        raise InputError(str(error)) from error
    terminal().print(*render(*found, seeds, at_least), sep="\n")


def _baselines(cells: "list[Expected]", runs: Path, systems: list[str]) -> "list[Expected]":
    """Return the cells of the shelf that --with-results adds, and print what it lacks."""
    from ascent.reports.shelf.baselines import baselines

    if not systems:
        return []
    found, lacking = baselines(cells, runs, systems)
    for line in lacking:
        note(line)
    return found


def _shelf_grades(cells: "list[Expected]") -> dict[str, str]:
    """Return what `ascent check` says of the cells of a report that are on the shelf."""
    from ascent.records import shelf

    grades: dict[str, str] = {}
    for name in sorted({cell.shelf for cell in cells} - {""}):
        of_shelf = {cell.folder: cell.seeds for cell in cells if cell.shelf == name}
        grades |= _checked(shelf.named(name).folder, of_shelf)
    return grades


def _checked(runs: Path, cells: Mapping[str, Sequence[int]] | None = None) -> dict[str, str]:
    """Print what `ascent check` says of these cells and seeds, or of all, and return the grades by cell."""
    from ascent.reports.checking import check as checks

    with progress_bar("checking cells") as tell:
        checked = checks.check(runs, tell=tell, cells=cells)
    print(*checks.summary(checked), sep="\n", file=sys.stderr)
    return checked.grades


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(help="Folder of run records, of a cell or of a run, or a bundle.")
    ],
    sweep: Annotated[
        str | None, typer.Option(help="Also require exactly the cells and seeds of this sweep or manifest.")
    ] = None,
    signers: Annotated[
        Path | None,
        typer.Option(
            help="Require a bundle that is signed by one of these: a file of allowed signers, as of git and "
            "ssh-keygen."
        ),
    ] = None,
) -> None:
    """Check run records against the rules for reporting them. Exit code 0 if they pass, else 1."""
    from ascent.records.errors import InputError, printable
    from ascent.reports.checking import bundle as bundles
    from ascent.reports.checking import check as checks

    if signers and not folder.is_file():
        raise InputError("--signers needs a bundle")
    with bundles.records(folder) as records:
        signature = bundles.signed_by(records.parent, signers) if folder.is_file() else None
        planned = _planned(sweep, records) if sweep else None
        with progress_bar("checking cells") as tell:
            checked = checks.check(records, planned, tell)
    terminal().print(checks.render(checked))
    if signature:
        print(f"signature: {printable(signature)}")
    raise typer.Exit(0 if checks.passed(checked.outcomes) else 1)


@app.command()
def verify(
    target: Annotated[
        str, typer.Argument(help="Folder of a report, a cell or a run, or a bundle; or the digest of a cell.")
    ],
    depth: Annotated[
        str | None,
        typer.Option(
            help="records: check what is recorded; policy: play the final policies again; start: retrain the "
            "first steps; whole: retrain completely. Default: policy; of a report or bundle: records."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Steps for --depth start. Default: two evaluations, more if learning begins later."
        ),
    ] = None,
    runs: Runs = RUNS,
    install: Annotated[
        bool,
        typer.Option(
            "--install", help="Create a virtual environment with the recorded packages where needed."
        ),
    ] = False,
    run_recorded_code: Annotated[
        bool,
        typer.Option(
            "--run-recorded-code",
            help="Run recorded sources that differ from the installed ones: code that came with the records.",
        ),
    ] = False,
) -> None:
    """Verify a result and say its grade: imported, recorded, replayed, restarted or retrained.

    Nothing that is stored in the records is run without --run-recorded-code.

    Exit code 0 if all grades are reached, 1 if something differs, 2 if something cannot be verified here or
    its origin is unknown.
    """
    from ascent.records import shelf
    from ascent.records.errors import InputError
    from ascent.reports.checking.outcome import exit_code, render
    from ascent.reports.checking.setting import Allowed
    from ascent.reports.checking.verify import verify as verification

    place = Path(target)
    if "/" not in target and not place.exists():
        try:
            place = shelf.find(target, runs)
        except InputError as error:
            raise InputError(f"{target}: no such folder; {error}") from error
    outcomes = verification(place, depth, steps, runs, Allowed(install, run_recorded_code))
    terminal().print(render(outcomes), soft_wrap=True)
    raise typer.Exit(exit_code(outcomes))


@app.command()
def cite(
    cell: Annotated[
        str,
        typer.Argument(help="Cell: folder, digest or digest prefix; or a system, followed by a task."),
    ],
    task: Annotated[
        str | None, typer.Argument(help="Task of a system in the results that ship with the suite.")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Preset of that system. Default: the algorithm's default.")
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(
            help=f"How a run becomes a score: {', '.join(ESTIMATORS)}. Default: as --report declares, else "
            f"{ESTIMATORS[0]}."
        ),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="What the score of an episode is: return, or a measure of a multi-agent task. Default: as "
            f"--report declares, else {RETURN}."
        ),
    ] = None,
    report_folder: Annotated[
        Path | None,
        typer.Option("--report", help="Cite the score as this report has it: its estimator, seeds, family."),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Print a citation of a cell's score, such as that of `ppo HalfCheetah-v5`.

    It consists of a sentence for a paper, the command that verifies the score, and BibTeX entries.
    """
    from ascent.records import shelf
    from ascent.records.errors import InputError, printable
    from ascent.reports.cite import cite as citation

    if task is None and preset is not None:
        raise InputError("--preset needs a system and a task")
    if report_folder is not None and (estimator is not None or score is not None):
        raise InputError("--report declares the estimator and the score: leave out --estimator and --score")
    folder = shelf.find(cell, runs) if task is None else shelf.choose(cell, task, preset)
    print(printable(citation(folder, estimator, score, report_folder)), end="")
