"""Rules of `check` on what is inside a run's tables: what the training loop writes, no more and no less.

The loop steps E environments at a time. It evaluates at the first step at or after each point of the grid,
and an episode ends in the row of the step at which it ended, so every table can be held against the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ascent.records.read import DIVERGED, DONE
from ascent.reports.checking.folder import CellFiles, RunFiles


@dataclass(frozen=True)
class Finding:
    """Where a rule is broken (a folder's name), and how. A note breaks nothing, but a reader should know."""

    where: str
    what: str
    note: bool = False


def _trained(cell: CellFiles) -> list[RunFiles]:
    """The finished runs that this project trained: imported curves have neither its protocol nor tables."""
    return [] if cell.imported or cell.cell is None else cell.finished


def _first_difference(found: list, wanted: list) -> str:
    """Where two lists of rows part, in words."""
    for index, (one, other) in enumerate(zip(found, wanted, strict=False)):
        if one != other:
            return f"row {index + 1} is {', '.join(map(str, one))}, not {', '.join(map(str, other))}"
    return f"has {len(found)} rows, not {len(wanted)}"


def _evaluated(cell: CellFiles, run: RunFiles) -> int:
    """How many evaluations the run should have: all, or as many as its table has if it diverged."""
    steps, table = cell.evaluation_steps(), run.table("eval.csv")
    if run.result["status"] == DONE or table is None:
        return len(steps)
    return max(1, min(int(table["step"].nunique()), len(steps) - 1))


def whole_tables(cell: CellFiles) -> Iterator[Finding]:
    """Tables have their columns, and every line is whole."""
    for run in _trained(cell):
        yield from (Finding(run.name, fault) for fault in run.tables.values() if isinstance(fault, str))


def evaluation_protocol(cell: CellFiles) -> Iterator[Finding]:
    """eval.csv has the declared grid and episodes, greedy, and the sampled policy at the end."""
    for run in _trained(cell):
        table = run.table("eval.csv")
        if table is None:
            continue
        steps, episodes = cell.evaluation_steps(), range(cell.cell.evaluation.episodes)
        wanted = [(step, "greedy", e) for step in steps[: _evaluated(cell, run)] for e in episodes]
        if run.result["status"] == DONE:
            wanted += [(steps[-1], "sampled", e) for e in episodes]
        found = list(zip(table["step"], table["policy"], table["episode"], strict=True))
        if found != wanted:
            yield Finding(run.name, f"eval.csv: {_first_difference(found, wanted)}")
        if (table["length"] < 1).any():
            yield Finding(run.name, "eval.csv: an episode has no length")


def team_returns(cell: CellFiles) -> Iterator[Finding]:
    """A team's return is the mean of those of the agents that the task scores."""
    spec = cell.facts.get("spec")
    scored = (spec.get("team") or {}).get("scored") if isinstance(spec, dict) else None
    for run in _trained(cell) if scored else ():
        for file in ("eval.csv", "train.csv"):
            table = run.table(file)
            if table is not None and not np.allclose(
                table["return"], table[list(scored)].mean(axis=1), rtol=1e-9, atol=1e-9, equal_nan=True
            ):
                yield Finding(run.name, f"{file}: a return is not the mean of {', '.join(scored)}")


def training_episodes(cell: CellFiles) -> Iterator[Finding]:
    """train.csv has every episode: in each environment one after the other, within the budget."""
    for run in _trained(cell):
        table = run.table("train.csv")
        if table is None:
            continue
        step, env, length = (table[column].to_numpy() for column in ("step", "env", "length"))
        order = step * cell.envs + env
        taken, total = {}, int(run.result.get("steps", 0))
        if (np.diff(order) <= 0).any():
            row = int(np.flatnonzero(np.diff(order) <= 0)[0]) + 2
            yield Finding(run.name, f"train.csv: row {row} (step {step[row - 1]}) is out of order")
        if len(step) and (step.max() > total or env.min() < 0 or env.max() >= cell.envs):
            yield Finding(run.name, f"train.csv: more than {total} steps in {cell.envs} environments")
        for row, (at, e, n) in enumerate(zip(step.tolist(), env.tolist(), length.tolist(), strict=True)):
            taken[e] = taken.get(e, 0) + n
            if n < 1 or taken[e] * cell.envs != at:
                what = f"the episodes of environment {e} have {taken[e]} steps, not {at / cell.envs:g}"
                yield Finding(run.name, f"train.csv: up to row {row + 1} (step {at}) {what}")
                break
        else:
            horizon = (cell.facts.get("spec") or {}).get("horizon")
            for e in range(cell.envs):
                if horizon and total // cell.envs - taken.get(e, 0) >= horizon:
                    what = f"an episode that ended after step {taken.get(e, 0) * cell.envs} is missing"
                    yield Finding(run.name, f"train.csv: environment {e}: {what}")
            if horizon and len(length) and length.max() > horizon:
                yield Finding(run.name, f"train.csv: an episode is longer than {horizon} steps")


def digest_ladder(cell: CellFiles) -> Iterator[Finding]:
    """ladder.csv has start, first update and evaluations, and the learner changes where it learned."""
    for run in _trained(cell):
        ladder, metrics = run.table("ladder.csv"), run.table("metrics.csv")
        if ladder is None:
            continue
        rows = list(zip(ladder["step"], ladder["event"], ladder["digest"], strict=True))
        steps = cell.evaluation_steps()
        # A diverged run has the digest of the evaluation at which it was seen, and no evaluation there.
        wanted = steps[: _evaluated(cell, run) + (run.result["status"] == DIVERGED)]
        events = [(0, "start"), *((step, "evaluation") for step in wanted)]
        updates = [(step, event) for step, event, _ in rows if event == "first update"][:1]
        if updates and 0 < updates[0][0] <= wanted[-1] and updates[0][0] % cell.envs == 0:
            at = 1 + sum(step < updates[0][0] for step in wanted)
            events[at:at] = updates
        if [row[:2] for row in rows] != events:
            what = _first_difference([row[:2] for row in rows], events)
            yield Finding(run.name, f"ladder.csv: {what}")
            continue
        if faults := [step for step, _, text in rows if len(text) != 16 or text.strip("0123456789abcdef")]:
            yield Finding(run.name, f"ladder.csv: no digest at step {faults[0]}")
        learned = None if metrics is None else set(metrics["step"])
        for (_, _, before), (step, event, now) in pairwise(rows):
            if event == "first update" and now == before:
                yield Finding(run.name, f"ladder.csv: the first update at step {step} changes nothing")
            after = updates and step >= updates[0][0]
            if event == "evaluation" and not after and now != before:
                yield Finding(run.name, f"ladder.csv: the learner at step {step} differs before any update")
        if learned is None:
            continue
        digests = [digest for _, event, digest in rows if event == "evaluation"]
        changed = {
            step for step, before, now in zip(wanted[1:], digests, digests[1:], strict=False) if now != before
        }
        if learned != changed or not metrics["step"].is_monotonic_increasing or len(metrics) != len(learned):
            odd = sorted(learned ^ changed)
            what = f"has a row too few or too many at step {odd[0]}" if odd else "is out of order"
            yield Finding(run.name, f"metrics.csv: {what}, by the learner's changes in ladder.csv")


def finite_numbers(cell: CellFiles) -> Iterator[Finding]:
    """Numbers of a run that is done are finite; a diverged run's policy is not."""
    for run in cell.finished:
        policy, done = run.policy, run.result["status"] == DONE
        for file in ("eval.csv", "train.csv", "metrics.csv") if done else ():
            table = run.table(file)
            if table is not None and not np.isfinite(table.select_dtypes("number").to_numpy(float)).all():
                yield Finding(run.name, f"{file}: a number is not finite, yet the run is called done")
        if cell.imported:
            continue
        if policy is None:
            yield Finding(run.name, "policy.npz cannot be read")
            continue
        finite = all(np.isfinite(array).all() for name, array in policy.items() if name.startswith("params/"))
        if finite != done:
            are, called = ("finite", "diverged") if finite else ("not finite", "done")
            yield Finding(run.name, f"policy.npz: parameters are {are}, yet the run is called {called}")


def results_agree(cell: CellFiles) -> Iterator[Finding]:
    """result.json says what the tables say: steps, score, unstable steps."""
    for run in _trained(cell):
        result, table, training = run.result, run.table("eval.csv"), run.table("train.csv")
        steps = cell.evaluation_steps()
        last = steps[min(_evaluated(cell, run), len(steps) - 1)]
        if result.get("steps") != last:
            yield Finding(run.name, f"result.json: {result.get('steps')} steps, not {last}")
        if table is None or training is None:
            continue
        score = None
        if result["status"] == DONE:
            rows = (table["policy"] == "greedy") & (table["step"] == table["step"].max())
            score = float(table["return"][rows].mean())
        said = result.get("score")
        if (said is None) != (score is None) or (score is not None and not np.isclose(said, score, 1e-9, 0)):
            yield Finding(run.name, f"result.json: score {said}, but the last evaluation has {score}")
        unstable = result.get("unstable_steps") or {}
        if unstable.get("eval") != table["unstable"].sum():
            yield Finding(run.name, "result.json: unstable steps are not those of eval.csv")
        if not training["unstable"].sum() <= unstable.get("train", -1):
            yield Finding(run.name, "result.json: fewer unstable steps than train.csv has")
