"""Tables of the available algorithms, tasks and sweeps, for `ascent list`."""

from collections.abc import Iterator
from importlib.metadata import version

from gymnasium import spaces
from gymnasium.spaces.utils import flatdim
from rich.table import Table

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.runners import presets, sweep

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
            f"{spec.random_score:,.2f}",
            f"{spec.reference_score:,.2f}",
        )
    return table


def versions() -> Iterator[str]:
    """Yield one line per suite: its version, and the packages that define its tasks."""
    for suite in suites.SUITES:
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
