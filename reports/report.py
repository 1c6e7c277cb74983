"""Build: runs the stages and puts the finished report into place."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from reports import figures, page, tables
from reports.aggregate import Task, aggregate, evaluation_means
from reports.records import Expected, load

FILES = {
    "index.html", "scores.csv", "scores.md", "completeness.csv", "provenance.json", "data.parquet", "figures",
}  # fmt: skip


def build(
    runs: Path, out: Path, expected: Sequence[Expected] | None = None, title: str = "Ascent report"
) -> Path:
    """Write the report on the records below `runs` to the folder `out`, and return its index.html.

    `expected` limits the report to these cells and seeds and lists what is missing of them; without it
    the report takes everything it finds. An older report in `out` is replaced; until the new one is whole
    the old one stays. Raises ValueError if there are no runs, if tuning and reporting seeds are mixed, or
    if `out` holds something that is not a report.
    """
    runs, out = Path(runs), Path(out).resolve()
    _check_replaceable(out, runs)
    cells = load(runs, expected)
    tasks = aggregate(cells)
    style = figures.styles(summary.label for task in tasks for summary in task.cells)
    out.parent.mkdir(parents=True, exist_ok=True)
    # A sibling, because a rename is whole only within one file system.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        new, old = Path(work) / "new", Path(work) / "old"
        (new / "figures").mkdir(parents=True)
        images: dict[str, bytes] = {}
        for task in tasks:
            image = figures.learning_curves(task, style)
            if image is not None:
                images[page.anchor(task)] = image
                (new / figure_path(task, tasks)).write_bytes(image)
        tables.scores(tasks).to_csv(new / "scores.csv", index=False, lineterminator="\n")
        tables.completeness(cells).to_csv(new / "completeness.csv", index=False, lineterminator="\n")
        evaluation_means(cells).to_parquet(new / "data.parquet", index=False)
        _write(new / "scores.md", tables.markdown(tasks, title))
        _write(new / "provenance.json", tables.provenance(tasks))
        _write(new / "index.html", page.render(tasks, style, images, title))
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    return out / "index.html"


def figure_path(task: Task, tasks: Sequence[Task]) -> str:
    """figures/<task>.png, with the suite in front where two suites have a task of that name."""
    shared = sum(other.name == task.name for other in tasks) > 1
    return f"figures/{task.suite}-{task.name}.png" if shared else f"figures/{task.name}.png"


def _check_replaceable(out: Path, runs: Path) -> None:
    """The old folder is deleted in the end, so it must be a report and nothing else."""
    if runs.resolve().is_relative_to(out):
        raise ValueError(f"{out} holds the runs themselves: choose another folder for the report")
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= FILES):
        raise ValueError(f"{out} holds more than an older report: choose another folder")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
