"""Ascent: a reproducible benchmark suite for policy-gradient reinforcement learning.

    import ascent

    ascent.train("ppo", "CartPole-v1", seeds=range(10))
    curves = ascent.read("runs").curves
    policy = ascent.load("0123456789", seed=0)
    ascent.report("runs", "out/report")

Importing this package is cheap: torch and pandas are imported by the functions that need them.
"""

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from ascent.records.policy import Policy
    from ascent.reports.frames import Frames

    __version__: str

__all__ = ["__version__", "figures", "load", "read", "report", "results", "sweep", "train"]


def train(
    algorithm: str,
    task: str,
    *,
    seeds: Iterable[int] = range(10),
    steps: int | None = None,
    preset: str | None = None,
    overrides: Mapping[str, object] | None = None,
    evaluations: int = 50,
    episodes: int = 10,
    measures: Iterable[str] = (),
    runs: str | PathLike[str] = "runs",
    pack: int = 10,
    jobs: int = 0,
    device: str = "cpu",
) -> Path:
    """Train one algorithm on one task in worker processes, as the command `ascent train` does.

    Finished runs are skipped and interrupted ones are resumed, so that the same call again trains what is
    missing. Progress is shown on standard error.

    Args:
        algorithm: name from `ascent list algorithms`, or a file of your own such as "mine.py".
        task: name from `ascent list tasks`, or an environment such as "gym:LunarLander-v3".
        seeds: one run each; seeds from 1000 up are for tuning, and not mixed with others.
        steps: environment steps per seed; default: the task's budget.
        preset: hyperparameter preset; default: the algorithm's default for the task's suite.
        overrides: hyperparameters that differ from the preset.
        evaluations: number of evaluations after the one at step 0.
        episodes: episodes per evaluation.
        measures: costly measures that are also taken at evaluations: "gradient_variance".
        runs: folder of run records.
        pack: seeds trained in one process; on the CPU, results do not depend on it.
        jobs: number of parallel processes; 0 means one per core, or one on a GPU.
        device: "cpu" or "cuda".

    Returns:
        The folder of the cell, which has one folder per seed.

    Raises:
        ascent.records.errors.InputError: invalid arguments, too little memory, or a run failed.

    Example:
        >>> ascent.train("ppo", "CartPole-v1", seeds=range(3), overrides={"gamma": 0.98})
        PosixPath('runs/classic/CartPole-v1/ppo-classic-0123456789')
    """
    from ascent.records.cell import Evaluation
    from ascent.records.plan import Plan, Planned, check_seeds
    from ascent.runners.local import train_locally
    from ascent.runners.resolve import resolve

    cell = resolve(
        algorithm,
        task,
        preset=preset,
        overrides=dict(overrides or {}),
        steps=steps,
        evaluation=Evaluation(evaluations, episodes),
        measures=tuple(measures),
    )
    seeds = tuple(seeds)
    check_seeds(seeds)
    train_locally(Plan((Planned(cell, seeds),)), Path(runs), pack, jobs, device)
    return cell.folder(Path(runs))


def sweep(
    name_or_file: str | PathLike[str],
    *,
    runs: str | PathLike[str] = "runs",
    pack: int = 10,
    jobs: int = 0,
    device: str = "cpu",
) -> list[Path]:
    """Train the missing runs of a sweep in worker processes, as the command `ascent sweep` does.

    A sweep with a design is trained stage by stage.

    Args:
        name_or_file: name from `ascent list sweeps`, or a TOML file.
        runs: folder of run records.
        pack: seeds trained in one process; on the CPU, results do not depend on it.
        jobs: number of parallel processes; 0 means one per core, or one on a GPU.
        device: "cpu" or "cuda".

    Returns:
        The folders of the cells.

    Raises:
        ascent.records.errors.InputError: an invalid sweep, too little memory, or a run failed.

    Example:
        >>> ascent.sweep("demo")
        [PosixPath('runs/classic/CartPole-v1/a2c-zoo-0123456789'), ...]
    """
    from ascent.reports import staged
    from ascent.runners import sweep as sweeps

    loaded = sweeps.load(str(name_or_file))
    staged.train(loaded.plan, Path(runs), pack, jobs, device)
    return [planned.cell.folder(Path(runs)) for planned in loaded.planned]


def load(target: str | PathLike[str], seed: int = 0, runs: str | PathLike[str] = "runs") -> "Policy":
    """Load a trained policy, which acts on NumPy arrays.

    It needs neither torch nor the version that trained it; a file alone is enough.

    Args:
        target: a file such as policy.npz, the folder of a run, or a cell: its folder, its digest or the
            beginning of its digest, in `runs` or on the shelf of results that ships with the suite.
        seed: the seed, if the target is a cell.
        runs: folder of run records.

    Returns:
        A policy `p`: p(observation) is the greedy action for an observation (size,) or a batch (n, size).

    Raises:
        ascent.records.errors.InputError: there is no such policy, or it is damaged.

    Example:
        >>> policy = ascent.load("runs/classic/CartPole-v1/ppo-cleanrl-0123456789", seed=3)
        >>> policy(np.zeros(4))
        1
    """
    from ascent.records.policy import load as load_policy

    return load_policy(Path(target) if Path(target).exists() else str(target), seed, Path(runs))


def read(runs: str | PathLike[str] = "runs") -> "Frames":
    """Return the records of all cells in a folder as data frames: cells, runs, curves and episodes.

    Tuning seeds are left out where there are reporting seeds.

    Raises:
        ValueError: there are no runs.

    Example:
        >>> curves = ascent.read("runs").curves
        >>> curves[curves.policy == "greedy"].groupby(["task", "system", "step"])["return"].mean()
    """
    from ascent.reports import frames

    return frames.read(Path(runs))


def report(runs: str | PathLike[str], out: str | PathLike[str]) -> Path:
    """Make the report of all runs in a folder: an HTML page with its figures, tables and data.

    Args:
        runs: folder of run records.
        out: folder for the report; an older report there is replaced.

    Returns:
        The page, `out`/index.html.

    Raises:
        ValueError: there are no runs, or `out` contains something other than a report.

    Example:
        >>> ascent.report("runs", "out/report")
        PosixPath('/home/me/out/report/index.html')
    """
    from ascent.reports.report import build

    return build(Path(runs), Path(out), title=f"Runs in {Path(runs).name}")


def figures(
    report: str | PathLike[str],
    *,
    venue: str = "neurips",
    width: str = "column",
    systems: Iterable[str] | None = None,
    labels: Mapping[str, str] | None = None,
    font_size: int = 8,
    seeds: bool = False,
    out: str | PathLike[str] | None = None,
    form: str = "pdf",
    runs: str | PathLike[str] = "runs",
) -> "dict[str, Figure]":
    """Draw the figures of a paper, in the width of a venue's column or text, as `ascent figures` does.

    Args:
        report: folder of a report, a sweep, its manifest, a folder of run records, or a bundle.
        venue: "neurips", "icml", "iclr", "jmlr" or "rlc".
        width: "column" or "text".
        systems: which systems, in this order; default: all, sorted by name.
        labels: system -> name to show instead.
        font_size: size of the text in points, from 7 to 10.
        seeds: draw the curve of every seed, too.
        out: folder for the files, with tables and captions in LaTeX; default: no files are written.
        form: "pdf", "png" or "svg", of the files.
        runs: folder of the run records of a report or a sweep.

    Returns:
        Name -> figure of matplotlib: "curves", and "aggregate_steps", "intervals" and "profiles" where a
        system has scores on two tasks.

    Raises:
        ascent.records.errors.InputError: invalid arguments, or the records of the report have changed.

    Example:
        >>> ascent.figures("out/demo", venue="icml", labels={"ppo": "PPO"}, out="paper")["curves"]
        <Figure size 520x366 with 4 Axes>
    """
    from ascent.reports.paper.venues import page
    from ascent.reports.paper.write import check, make, write
    from ascent.studies import study

    size = page(venue, width, font_size)
    if out is not None:
        check(Path(out), form)
    chosen = None if systems is None else list(systems)
    paper = make(study(str(report), Path(runs)), size, chosen, labels, seeds)
    if out is not None:
        write(paper, size, Path(out), form)
    return paper.figures


def results(name: str | None = None) -> "pd.DataFrame":
    """Return the learning curves that ship with the suite, a row per run, policy and evaluation.

    Columns: suite, task, system, preset, setting, budget, digest, seed, state, policy, step, episodes, return
    and length, which are means over the episodes, and the measures of multi-agent tasks.

    Args:
        name: name of a set of results, such as "2026.12"; default: the newest that is released.

    Raises:
        ascent.records.errors.InputError: there is no such set.

    Example:
        >>> curves = ascent.results()
        >>> ppo = curves[(curves.system == "ppo") & (curves.task == "CartPole-v1")]
        >>> ppo.pivot_table(index="step", columns="seed", values="return")
    """
    import pandas as pd

    from ascent.records import shelf
    from ascent.records.errors import DamagedFile

    found = shelf.current() if name is None else shelf.named(name)
    path = found.folder / shelf.CURVES
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise DamagedFile(f"{path} cannot be read: {error}") from error


if not TYPE_CHECKING:  # for a type checker, any other name stays an error

    def __getattr__(name: str) -> object:
        """Return the version of the installed distribution as `__version__`."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version

        return version("ascent-rl")
