"""Seeds in stages: the decisions of a sweep's `[design]`, by a group-sequential test with step-down.

As in AdaStop (Mathieu et al. 2023, arXiv 2306.10882), all pairs of the declared family are tested after every
stage, on all seeds so far; a rejected pair leaves the family, which makes the next tests easier; and a system
without open pairs gets no further seeds. Two things differ. The tests are those of every claim in a report
(`comparisons.both_tests`), because AdaStop's permutes the runs of all systems at once and compares means: it
takes systems of unlike spread for different. And each look at a pair counts as one more comparison of the
family: Bonferroni's correction over the looks, Holm's over the pairs, which is a closed test (Maurer and
Bretz 2013, "Multiple testing in group sequential trials using graphical approaches"). So the chance of any
false claim, at any stage, is that of one family of pairs times looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import special

from ascent.records.declared import Declared, Design
from ascent.reports.statistics.aggregate import CellSummary, Task, mixed_versions
from ascent.reports.statistics.comparisons import (
    TestedDifference,
    alike_pairs,
    both_tests,
    declared_pairs,
    family_size,
)
from ascent.reports.statistics.estimators import ESTIMATORS, Curves
from ascent.reports.statistics.intervals import ALPHA
from ascent.reports.statistics.significance import smallest_permutation_p


@dataclass(frozen=True)
class Decision:
    """How a pair was decided: at which stage (from 1), by which test of which samples x and y."""

    stage: int
    tested: TestedDifference
    x: np.ndarray
    y: np.ndarray
    given_up: bool = False  # as futile, before the last stage


@dataclass(frozen=True)
class Staged:
    """The state of a design.

    Attributes:
        design: the declared stages.
        looks: the stages after which pairs are tested.
        family: number of declared pairs.
        complete: number of stages whose runs are all finished.
        pairs: cell folders of x and y -> the decision; None: open. Pairs that can be compared only.
        seeds: cell folder -> number of seeds up to now, the next stage of open pairs included.
    """

    design: Design
    looks: tuple[int, ...]
    family: int
    complete: int
    pairs: dict[tuple[str, str], Decision | None]
    seeds: dict[str, int]

    @property
    def open(self) -> int:
        """Number of pairs that are not decided."""
        return sum(decision is None for decision in self.pairs.values())

    @property
    def saved(self) -> int:
        """Number of runs that are not needed, of those that the plan has."""
        return sum(self.design.ends[-1] - seeds for seeds in self.seeds.values())


def stage(tasks: Sequence[Task], declared: Declared, design: Design) -> Staged:
    """Decide what the finished runs of a sweep decide. Its cells may lack seeds.

    Raises:
        ValueError: the declared baseline is not among the systems.
    """
    is_declared = declared_pairs(tasks, declared)
    family = family_size(tasks, is_declared)
    cells = [(task, summary) for task in tasks for summary in task.cells]
    samples = {summary: _samples(task, summary, declared, design) for task, summary in cells}
    pairs = [
        (x, y)
        for _, x, y in alike_pairs(tasks, is_declared)
        if samples[x] is not None and samples[y] is not None
    ]
    known = {summary: found for summary, found in samples.items() if found is not None}
    numbers = {summary: k for k, summary in enumerate(known)}
    decisions, complete = decide(
        list(known.values()), [(numbers[x], numbers[y]) for x, y in pairs], family, design
    )
    seeds = {}
    for _, summary in cells:
        mine = [found for pair, found in zip(pairs, decisions, strict=True) if summary in pair]
        last = max((found.stage for found in mine if found), default=len(design.stages))
        reached = complete + 1 if None in mine else last
        seeds[summary.cell.name.folder] = design.ends[reached - 1]
    return Staged(
        design,
        looks_of(design, family),
        family,
        complete,
        {
            (x.cell.name.folder, y.cell.name.folder): found
            for (x, y), found in zip(pairs, decisions, strict=True)
        },
        seeds,
    )


def looks_of(design: Design, family: int) -> tuple[int, ...]:
    """Return the stages, from 1, after which pairs are tested: the last ones, as many as can claim anything.

    The permutation test cannot reach the level of a large family with few seeds. A look that cannot claim
    anything would only make the others stricter.
    """
    count = len(design.stages)
    for looks in range(count, 0, -1):
        n = design.ends[count - looks]
        if smallest_permutation_p(n, n) * family * looks < ALPHA:
            return tuple(range(count - looks + 1, count + 1))
    return ()


def decide(
    cells: Sequence[Sequence[np.ndarray]], pairs: Sequence[tuple[int, int]], family: int, design: Design
) -> tuple[list[Decision | None], int]:
    """Return the decision on each pair, None where it is open, and the number of complete stages.

    Args:
        cells: for each cell, the run scores (n,) of its first seeds at the end of each stage; a cell that
            lacks runs of a stage has fewer.
        pairs: cells that are compared, by their places in `cells`.
        family: number of declared pairs, at least that of `pairs`.
        design: the stages.
    """
    looks, last = looks_of(design, family), len(design.stages)
    decisions: list[Decision | None] = [None] * len(pairs)
    for number in range(1, last + 1):
        open_ = [k for k, found in enumerate(decisions) if found is None]
        if any(len(cells[cell]) < number for k in open_ for cell in pairs[k]):
            return decisions, number - 1
        if number not in looks and number < last:
            continue
        while open_:
            samples = [(cells[x][number - 1], cells[y][number - 1]) for x, y in (pairs[k] for k in open_)]
            claims = sum(found is not None and found.tested.differs for found in decisions)
            comparisons = (family - claims) * max(len(looks), 1)
            found = {
                k: Decision(number, tested, *both)
                for k, tested, both in zip(open_, both_tests(samples, comparisons), samples, strict=True)
            }
            claimed = [k for k in open_ if found[k].tested.differs]
            if not claimed:
                break
            for k in claimed:
                decisions[k] = found[k]
            open_ = [k for k in open_ if k not in claimed]
        for k in open_:
            if number == last:
                decisions[k] = found[k]
            elif chance(found[k], design, ALPHA / comparisons) < design.futility:
                decisions[k] = Decision(number, found[k].tested, found[k].x, found[k].y, given_up=True)
    return decisions, last


def chance(found: Decision, design: Design, level: float) -> float:
    """Return the probability that an open pair is claimed at the last stage, if the trend goes on.

    The conditional power of Lan and Wittes (1988), with the standardised difference z as a Brownian motion
    and the test at `level`. z is that of the larger of both p values; 0 where they differ in direction.
    """
    tested, share = found.tested, design.ends[found.stage - 1] / design.ends[-1]
    agree = tested.superior * tested.welch.difference > 0
    p = max(tested.p_permutation, tested.welch.p) if agree else 1.0
    z, bound = -special.ndtri(p / 2), -special.ndtri(level / 2)
    return float(special.ndtr((z / np.sqrt(share) - bound) / np.sqrt(1 - share)))


def false_alarm_rate(sizes: Sequence[int]) -> float:
    """Return the chance that a test at ALPHA rejects at any of several looks, if nothing differs.

    Looks at growing numbers of seeds, without a design (Armitage, McPherson and Rowe 1969): the standardised
    difference as a Brownian motion, its density carried from look to look by numerical integration.
    """
    bound = -special.ndtri(ALPHA / 2)
    steps = np.linspace(-1, 1, 1001)
    inside = steps * bound * np.sqrt(sizes[0])  # sums of differences at which no look has rejected
    density = np.exp(-(inside**2) / (2 * sizes[0])) / np.sqrt(2 * np.pi * sizes[0])
    for before, size in pairwise(sizes):
        weights, variance = density * (inside[1] - inside[0]), size - before
        after = steps * bound * np.sqrt(size)
        kernel = np.exp(-((after[:, None] - inside) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
        inside, density = after, kernel @ weights
    return float(1 - np.trapezoid(density, inside))


def _samples(task: Task, summary: CellSummary, declared: Declared, design: Design) -> list[np.ndarray] | None:
    """Return the run scores of a cell at the end of each stage that it has finished.

    None where they cannot be compared: no recorded score, or runs of different package versions.
    """
    if summary.curves is None or mixed_versions(summary.cell):
        return None
    finished = {run.seed for run in summary.cell.runs if run.finished}
    places = {seed: k for k, seed in enumerate(summary.seeds.columns)}
    sign, curves, samples = task.measured.sign, summary.curves, []
    for end in design.ends:
        seeds = summary.cell.name.seeds[:end]
        if len(seeds) < end or not finished.issuperset(seeds):
            break
        rows = [places[seed] for seed in seeds]
        part = Curves(curves.steps, curves.returns[:, rows], curves.training[rows])
        scores = sign * ESTIMATORS[declared.estimator](part)
        if np.isnan(scores).any():
            return None
        samples.append(scores)
    return samples
