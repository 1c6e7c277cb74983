"""The runs of a cell from curves: one grid of evaluations for all seeds, and how each seed ended.

A cell has one grid. Without an interpolation it is that of the seed that has every step; others may lack
some. A seed that lacks the end is unfinished, and one whose last returns are not finite has diverged.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ascent.records.errors import InputError, unknown
from ascent.records.read import DIVERGED, DONE, UNFINISHED
from ascent.records.run_reader import MOST_RETURN
from ascent.reports.imports.curve import COLUMNS, MOST_POINTS, Curve

NEAR = 0.98  # of the step budget: a run that has come so far is at its end
KINDS = {
    "step": "the last point at or before a step of the grid",
    "linear": "on the line between the points before and after it",
    "mean": "the mean of the points since the previous step of the grid, such as of training episodes",
}


@dataclass(frozen=True)
class Interpolation:
    """How curves get a common grid: a key of KINDS, and the distance of the grid's steps."""

    kind: str
    every: int

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("interpolation", self.kind, KINDS)
        if self.every < 1:
            raise InputError("--interpolate: the distance of the grid's steps must be at least 1")


@dataclass(frozen=True)
class Run:
    """One seed of the cell: its evaluations (COLUMNS), how it ended, and the last step that counts."""

    seed: int
    points: pd.DataFrame
    status: str  # DONE, DIVERGED or UNFINISHED
    steps: int


def runs_of(
    curves: Mapping[int, Curve], steps: int | None, interpolation: Interpolation | None
) -> tuple[int, list[int], list[Run], list[str]]:
    """Return the step budget, the grid, the runs by seed, and notes on what is not as usual.

    Args:
        curves: by seed.
        steps: the step budget; default: the last step of the grid.
        interpolation: how the curves get a common grid; default: they have one.

    Raises:
        InputError: the curves have no common grid, or a return in the middle is infinite.
    """
    cut = {seed: _cut(curve) for seed, curve in sorted(curves.items())}
    if interpolation is None:
        grid = _common_grid(curves, cut)
        budget = _budget(grid[-1], steps)
        used = {seed: table for seed, (table, _) in cut.items()}
    else:
        budget = steps or _round_budget(
            max(int(table["step"].max()) for table, _ in cut.values()), interpolation
        )
        used, grid = _interpolated(curves, cut, budget, interpolation)
    runs, notes = [], []
    for seed, table in used.items():
        diverged = cut[seed][1]
        last = int(table["step"].max())
        status = DIVERGED if diverged is not None else DONE
        if diverged is not None:
            last = diverged
            notes.append(f"seed {seed} diverged: its returns are not finite from step {diverged:,} on")
        elif last < grid[-1] or last < NEAR * budget:
            status = UNFINISHED
            notes.append(
                f"seed {seed} ends at step {last:,} of {budget:,}: unfinished, the cell has no score"
            )
        here = set(table["step"])
        if lacking := [step for step in grid if step not in here and step < last]:
            notes.append(
                f"seed {seed} has no evaluation at step {lacking[0]:,}"
                + (f" and {len(lacking) - 1:,} more" if len(lacking) > 1 else "")
                + ": the statistics of the cell use the steps that all seeds have"
            )
        runs.append(Run(seed, table[COLUMNS], status, last))
    return budget, grid, runs, notes


def _cut(curve: Curve) -> tuple[pd.DataFrame, int | None]:
    """Return the points of a curve that are evaluations, and the step from which on none is finite.

    A NaN between finite returns is no evaluation: nothing was measured.
    """
    table = curve.points
    finite = (table["return"].abs() < MOST_RETURN).groupby(table["step"]).all()
    if not finite.any():
        raise InputError(f"{curve.name} has no finite return")
    last = int(finite.index[finite][-1])
    bad = finite.index[~finite]
    inside = table[table["step"].isin(bad[bad < last])]
    if (infinite := inside[inside["return"].notna() & (inside["return"].abs() >= MOST_RETURN)]).size:
        row = infinite.iloc[0]
        raise InputError(
            f"{curve.name}, step {row['step']:.0f}: return is {row['return']}, not a finite number"
        )
    after = bad[bad > last]
    return table[~table["step"].isin(inside["step"])], int(after[0]) if len(after) else None


def _common_grid(
    curves: Mapping[int, Curve], cut: Mapping[int, tuple[pd.DataFrame, int | None]]
) -> list[int]:
    """Return the steps of all curves. Raises InputError unless one of them has every step."""
    steps = {seed: set(curve.points["step"].tolist()) for seed, curve in curves.items()}
    union = set().union(*steps.values())
    longest = max(steps, key=lambda seed: len(steps[seed]))
    if len(steps[longest]) < len(union):
        step = min(union - steps[longest])
        raise InputError(
            f"the seeds have different steps: {curves[longest].name} lacks step {step}, which others have; "
            "give them a grid, such as --interpolate linear 10000, or mean 10000 for episodes of training"
        )
    logged = set().union(*(table["step"].tolist() for table, _ in cut.values()))
    if max(logged) == 0:
        raise InputError(f"{curves[longest].name} has no evaluation after step 0")
    return sorted(logged)


def _budget(last: int, steps: int | None) -> int:
    if steps is not None and last > steps / NEAR:
        raise InputError(f"--steps: {steps} is less than the step of the last evaluation, {last}")
    return last if steps is None else steps


def _round_budget(last: int, interpolation: Interpolation) -> int:
    """Return the multiple of the distance that is nearest to the last step, or the one before it if that is
    more than 2% later.
    """
    every = interpolation.every
    near = (last + every // 2) // every * every
    budget = near if NEAR * near <= last else last // every * every
    if budget == 0:
        raise InputError(f"--interpolate: the curves end at step {last}, before the first step of the grid")
    return budget


def _interpolated(
    curves: Mapping[int, Curve],
    cut: Mapping[int, tuple[pd.DataFrame, int | None]],
    budget: int,
    interpolation: Interpolation,
) -> tuple[dict[int, pd.DataFrame], list[int]]:
    """Return the curves on a common grid, and its steps."""
    every = interpolation.every
    if budget // every > MOST_POINTS:
        raise InputError(
            f"--interpolate: {budget // every:,} steps of the grid: at most {MOST_POINTS:,} are used"
        )
    grid = np.arange(0, budget + 1, every)
    if grid[-1] < NEAR * budget:
        raise InputError(
            f"--interpolate: the grid ends at step {grid[-1]}, long before the budget of {budget} steps"
        )
    first = max(int(table["step"].min()) for table, _ in cut.values())
    grid = grid[grid >= first] if interpolation.kind != "mean" or first else grid
    grid = grid[grid > 0] if interpolation.kind == "mean" and first else grid
    if not len(grid) or grid[-1] == 0:
        raise InputError(f"--interpolate: a seed begins at step {first}, after the last step of the grid")
    used = {}
    for seed, (table, diverged) in cut.items():
        last = int(table["step"].max())
        reached = grid if last >= NEAR * budget else grid[grid <= last]
        if not len(reached):
            raise InputError(f"{curves[seed].name} ends at step {last}, before the first step of the grid")
        place = _windows if interpolation.kind == "mean" else _points
        used[seed] = place(table, diverged, reached, interpolation, curves[seed].name)
        if not np.isfinite(used[seed].groupby("step")["return"].mean()).any():
            raise InputError(f"{curves[seed].name} diverged before the first step of the grid")
    return used, grid.tolist()


def _points(
    table: pd.DataFrame, diverged: int | None, grid: np.ndarray, interpolation: Interpolation, name: str
) -> pd.DataFrame:
    """Return the curve at the steps of a grid, by the points around each; NaN once the run has diverged."""
    means = table.groupby("step")["return"].mean()
    known = means if diverged is None else means[means.index < diverged]
    steps, values = known.index.to_numpy(), known.to_numpy()
    if interpolation.kind == "step":
        returns = values[np.searchsorted(steps, grid, side="right") - 1]
    else:
        returns = np.interp(grid, steps, values)
    if diverged is not None:
        returns = np.where(grid >= diverged, np.nan, returns)
    return pd.DataFrame({"step": grid, "episode": 0, "return": returns, "length": 0})[COLUMNS]


def _windows(
    table: pd.DataFrame, diverged: int | None, grid: np.ndarray, interpolation: Interpolation, name: str
) -> pd.DataFrame:
    """Return the points as episodes of the first step of the grid that is not before them."""
    steps = -(-table["step"].to_numpy() // interpolation.every) * interpolation.every
    inside = np.isin(steps, grid)
    windows = table[inside].assign(step=steps[inside])
    empty = sorted(set(grid.tolist()) - set(windows["step"].tolist()))
    if empty:
        raise InputError(
            f"{name} has no point in the {interpolation.every} steps before step {empty[0]}: take more"
        )
    windows["episode"] = windows.groupby("step").cumcount()
    return windows[COLUMNS]
