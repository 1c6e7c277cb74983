"""Robustness: mean returns of final policies under perturbations, from the tables of `ascent robustness`.

The score of a seed at a level is the mean return of its episodes. The retained share of a score is
(score - random) / (nominal - random), with the seed's own nominal score and the task's random score. The area
of a curve is its mean over the levels of the grid, each counted once, without the nominal one. The nominal
score of a kind whose neutral level was played is the score there: under `rpc_dropout` it is that of sampled
actions.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ascent.records import layout
from ascent.records.declared import Declared
from ascent.records.read import DONE
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import (
    PairFilter,
    TestedDifference,
    both_tests,
    count_unreachable,
    declared_pairs,
)
from ascent.reports.statistics.perturbed import NOMINAL, Kind, Tables, files, policy, read

LEAST = 0.05  # smallest normalised nominal score of which a retained share is computed


@dataclass(frozen=True)
class Curve:
    """A cell under one kind of perturbation, at L levels besides the nominal one.

    Attributes:
        task: the task of the cell.
        summary: the cell.
        kind: the kind of perturbation.
        levels: the L levels, without the neutral one, the mildest first.
        nominal: (n,) scores without a perturbation, by seed, in units of return.
        scores: (L, n) scores at each level.
        retained: (L, n) retained shares of the nominal score; None unless the nominal score of every seed is
            clearly above the random score.
        grid_rows: indices of the grid's levels, over which area and worst level are taken; None where not all
            of the grid was played.
        protocol: episodes per seed and level, and version of the perturbations.
        unstable: steps, over all levels, in which the simulator reset a bad state.
    """

    task: Task
    summary: CellSummary
    kind: Kind
    levels: tuple[float, ...]
    nominal: np.ndarray
    scores: np.ndarray
    retained: np.ndarray | None
    grid_rows: list[int] | None
    protocol: tuple[int, int]
    unstable: int

    @property
    def worst(self) -> int:
        """Index of the grid's level with the smallest mean. Raises ValueError without the whole grid."""
        return min(self.grid_rows or [], key=lambda row: self.scores[row].mean())

    @property
    def area(self) -> np.ndarray:
        """(n,) mean score of each seed over the grid's levels."""
        return self.scores[self.grid_rows].mean(0)

    @property
    def mean_retained(self) -> np.ndarray:
        """(n,) mean retained share of each seed over the grid's levels; needs `retained`."""
        assert self.retained is not None
        return self.retained[self.grid_rows].mean(0)

    @property
    def points(self) -> list["Point"]:
        """All levels in order, the nominal one in its place among them."""
        ones = None if self.retained is None else np.ones_like(self.nominal)
        points = [Point(self.kind.neutral, self.nominal, ones)]
        for row, level in enumerate(self.levels):
            retained = None if self.retained is None else self.retained[row]
            points.append(Point(level, self.scores[row], retained))
        return sorted(points, key=lambda point: point.level, reverse=self.kind.falls)


@dataclass(frozen=True)
class Point:
    """Scores (n,) at one level, and the retained shares of the nominal score where they are defined."""

    level: float
    scores: np.ndarray
    retained: np.ndarray | None


@dataclass(frozen=True)
class Pair(TestedDifference):
    """The difference `x` minus `y` of the mean retained shares of two systems, for a kind."""

    x: Curve
    y: Curve
    x_retained: float
    y_retained: float


@dataclass(frozen=True)
class Robustness:
    """All scores of a report under perturbations.

    Attributes:
        curves: of each cell and kind of perturbation.
        pairs: comparisons of the retained shares of two systems.
        refused: tables that are not used, each as "file: reason".
        files: cell folder -> file name -> sha256.
        family: number of declared comparisons, of which `pairs` could be made.
        unreachable: number of `pairs` that cannot become significant with their number of runs.
    """

    curves: tuple[Curve, ...]
    pairs: tuple[Pair, ...]
    refused: tuple[str, ...]
    files: dict[str, dict[str, str]]
    family: int
    unreachable: int


def measure(runs: Path, tasks: Sequence[Task], declared: Declared) -> Robustness:
    """Read the tables of `ascent robustness` of all cells with a score, and compare systems.

    Raises:
        ValueError: the declared baseline is not among the systems.
    """
    curves: list[Curve] = []
    refused: list[str] = []
    digests: dict[str, dict[str, str]] = {}
    for task in tasks:
        for summary in task.cells:
            name = summary.cell.name.folder
            home = summary.cell.name.home(runs)
            digests[name] = files(home / name)
            if summary.score is None or not digests[name]:
                continue
            done = {run.seed: policy(run.result) for run in summary.cell.runs if run.state == DONE}
            kinds, tables, faults = read(home / name, done)
            refused += [f"{name}/{layout.ROBUSTNESS}/{fault}" for fault in faults]
            curves += _curves(task, summary, kinds, tables)
    family = _family(curves, declared_pairs(tasks, declared))
    unreachable = count_unreachable([(len(x.nominal), len(y.nominal)) for x, y in family], len(family))
    pairs = tuple(_pairs(family))
    return Robustness(tuple(curves), pairs, tuple(refused), digests, len(family), unreachable)


def _curves(task: Task, summary: CellSummary, kinds: Sequence[Kind], tables: Tables) -> Iterator[Curve]:
    """Yield the curve of a cell under each kind of perturbation."""
    nominal = tables.get(NOMINAL, {}).get(0.0)
    if nominal is None:
        return
    anchors = dict(task.anchors)
    for kind in kinds:
        played = tables.get(kind.name, {})
        levels = tuple(sorted(played.keys() - {kind.neutral}, reverse=kind.falls))
        if not levels:
            continue
        base = played.get(kind.neutral, nominal).returns.to_numpy()
        scores = np.array([played[level].returns.to_numpy() for level in levels])
        retained = None
        if len(anchors) == 2:
            random = anchors["random"]
            if (base - random > LEAST * abs(anchors["reference"] - random)).all():
                retained = (scores - random) / (base - random)
        grid_rows = [row for row, level in enumerate(levels) if level in kind.levels]
        complete = set(kind.levels) <= played.keys()
        yield Curve(
            task,
            summary,
            kind,
            levels,
            base,
            scores,
            retained,
            grid_rows if complete else None,
            nominal.protocol,
            sum(means.unstable for means in played.values()),
        )


def _family(curves: Sequence[Curve], is_declared: PairFilter) -> list[tuple[Curve, Curve]]:
    """Return the declared comparisons: two systems on a task, under each kind whose grid both have played."""
    groups = defaultdict(list)
    for curve in curves:
        place = next((k for k, group in enumerate(curve.task.groups) if curve.summary in group), None)
        if curve.grid_rows and len(curve.nominal) > 1 and place is not None:
            groups[curve.task.suite, curve.task.name, place, curve.kind, curve.protocol].append(curve)
    pairs = (pair for group in groups.values() for pair in combinations(group, 2))
    return [(x, y) for x, y in pairs if is_declared(x.summary.label, y.summary.label)]


def _pairs(family: Sequence[tuple[Curve, Curve]]) -> list[Pair]:
    """Make the comparisons that have retained shares, corrected for the whole declared family."""
    pairs = [(x, y) for x, y in family if x.retained is not None and y.retained is not None]
    samples = [(x.mean_retained, y.mean_retained) for x, y in pairs]
    results = both_tests(samples, len(family))
    return [
        Pair(**vars(result), x=x, y=y, x_retained=x_share.mean(), y_retained=y_share.mean())
        for (x, y), (x_share, y_share), result in zip(pairs, samples, results, strict=True)
    ]
