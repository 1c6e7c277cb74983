"""Tables of the available algorithms, tasks and sweeps, for `ascent list`."""

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from gymnasium import spaces
from gymnasium.spaces.utils import flatdim
from rich.table import Table

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.records.plan import Planned
from ascent.runners import estimate, presets, sweep

LEGEND = """\
observations, actions: sizes of the spaces ("8+10": one per agent of a multi-agent task);
    "3 choices": three discrete actions; "6 in [-1, 1]": six continuous actions with these bounds
horizon: time limit of an episode, in steps; steps: default training budget per seed
random: mean return of the uniform random policy (normalised score 0)
reference: mean return that counts as a normalised score of 1"""


def algorithms() -> Table:
    """Return a table of every system with its presets."""
    table = Table("algorithm", "presets", "description", box=None, pad_edge=False)
    for name, system in SYSTEMS.items():
        table.add_row(name, ", ".join(presets.sources(system.algorithm)), system.about)
    return table


def tasks() -> Table:
    """Return a table of every task; `LEGEND` explains its columns."""
    table = Table(box=None, pad_edge=False)
    table.add_column("task", no_wrap=True)
    for column in ("observations", "actions", "horizon", "steps", "random", "reference"):
        table.add_column(column, justify="right")
    for name, spec in suites.TASKS.items():
        table.add_row(
            name,
            "+".join(str(flatdim(space)) for space in _per_agent(spec.observation_space)),
            _actions(spec),
            f"{spec.horizon:,}",
            f"{spec.budget:,}",
            *(f"{score:,.2f}" for score in (spec.random_score, spec.reference_score) if score is not None),
        )
    return table


def versions() -> Iterator[str]:
    """Yield one line per suite: its version, and the packages that define its tasks."""
    for suite in (name for name in suites.SUITES if name not in suites.FOREIGN):
        packages = {name for spec in suites.TASKS.values() if spec.suite == suite for name in spec.packages}
        installed = ", ".join(f"{package} {version(package)}" for package in sorted(packages))
        yield f"suite {suite}: version {suites.version(suite)}, {installed}"


def sweeps() -> Table:
    """Return a table of the sweeps that come with the package."""
    table = Table("sweep", "runs", "description", box=None, pad_edge=False)
    for name in sweep.names():
        title, runs = sweep.summary(name)
        table.add_row(name, str(runs), title)
    return table


def planned(plans: Sequence[Planned], runs: Path) -> tuple[Table, str]:
    """Return a table of the systems of a sweep with their runs, and a line with the size of the whole."""
    from ascent.runners.memory import replay_bytes  # needs torch, which the lists do not

    table = Table("system", box=None, pad_edge=False)
    for column in ("cells", "runs", "missing", "core-hours"):
        table.add_column(column, justify="right")
    rows: dict[str, list[float]] = {}
    for plan in plans:
        cell, missing = plan.cell, len(plan.cell.missing(plan.seeds, runs))
        hours = estimate.core_hours(cell, missing, replay_bytes(cell, 1) > 0, runs) if missing else 0.0
        row = rows.setdefault(plan.name or f"{cell.system} ({cell.preset})", [0, 0, 0, 0.0])
        for k, more in enumerate((1, len(plan.seeds), missing, hours)):
            row[k] += more
    for name, row in rows.items():
        table.add_row(name, *(f"{number:,.0f}" for number in row[:3]), f"{row[3]:,.1f}")
    cells, number, missing, hours = map(sum, zip(*rows.values(), strict=True))
    return table, f"{number:,.0f} runs of {cells:,.0f} cells; {missing:,.0f} missing, {hours:,.1f} core-hours"


def _per_agent(space: spaces.Space) -> tuple[spaces.Space, ...]:
    """Return the space of each agent; a single-agent task has one."""
    return tuple(space) if isinstance(space, spaces.Tuple) else (space,)


def _actions(spec: suites.Spec) -> str:
    per_agent = _per_agent(spec.action_space)
    sizes = [str(space.n if isinstance(space, spaces.Discrete) else flatdim(space)) for space in per_agent]
    if spec.bounds is None:
        return f"{'+'.join(sizes)} choices"
    low, high = spec.bounds
    return f"{'+'.join(sizes)} in [{low.min():g}, {high.max():g}]"
