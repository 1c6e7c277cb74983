"""Rules of `check` that compare the tables of a run with what the training loop writes.

The loop steps E environments at once. It evaluates at the first step at or after each point of the grid, and
records every episode with the step at which it ended. The tables can therefore be checked against each other.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ascent.records import layout
from ascent.records.compact import BINS, LAST, STATISTICS, compact
from ascent.records.read import DIVERGED, DONE
from ascent.records.tables import EPISODE_TABLES, GRADIENTS, VALUES
from ascent.reports.checking.folder import CellFiles, Columns, RunFiles


@dataclass(frozen=True)
class Finding:
    """A violation of a rule: the name of the folder, and what is wrong there. A note is information only."""

    where: str
    what: str
    note: bool = False


def _trained(cell: CellFiles) -> list[RunFiles]:
    """Return the finished runs that Ascent trained. Imported curves lack its protocol and tables."""
    return [] if cell.imported or cell.cell is None else cell.finished


def _first_difference(rows: list, expected: list) -> str:
    """Describe the first difference between two unequal lists of rows."""
    for number, (row, expected_row) in enumerate(zip(rows, expected, strict=False), 1):
        if row != expected_row:
            actual_text, expected_text = (", ".join(map(str, values)) for values in (row, expected_row))
            return f"row {number} is ({actual_text}), not ({expected_text})"
    return f"has {len(rows)} rows, not {len(expected)}"


def _rows(table: Columns, *names: str) -> list[tuple]:
    return list(zip(*(table[name].tolist() for name in names), strict=True))


def _evaluations(cell: CellFiles, run: RunFiles) -> int:
    """Return the number of evaluations of a run: all of them; if it diverged, those in its table."""
    steps = cell.evaluation_steps()
    table = run.table(layout.EVAL)
    if run.result["status"] == DONE or table is None:
        return len(steps)
    return max(1, min(len(np.unique(table["step"])), len(steps) - 1))


def whole_tables(cell: CellFiles) -> Iterator[Finding]:
    """Tables have the expected columns, and every line is complete."""
    for run in _trained(cell):
        yield from (Finding(run.name, fault) for fault in run.tables.values() if isinstance(fault, str))


def evaluation_protocol(cell: CellFiles) -> Iterator[Finding]:
    """eval.csv has the declared steps and episodes: greedy policy, at the end the sampled policy too."""
    for run in _trained(cell):
        table = run.table(layout.EVAL)
        if table is None:
            continue
        steps = cell.evaluation_steps()
        played = steps[: _evaluations(cell, run)]
        sampled = steps[-1:] if run.result["status"] == DONE else []
        episodes = cell.described().evaluation.episodes
        names = ["greedy"] * (len(played) * episodes) + ["sampled"] * (len(sampled) * episodes)
        expected = {
            "step": np.repeat([*played, *sampled], episodes),
            "policy": np.array(names, object),
            "episode": np.tile(np.arange(episodes), len(played) + len(sampled)),
        }
        if not all(np.array_equal(table[name], column) for name, column in expected.items()):
            rows = _rows(table, *expected), _rows(expected, *expected)
            yield Finding(run.name, f"eval.csv: {_first_difference(*rows)}")
        if (table["length"] < 1).any():
            yield Finding(run.name, "eval.csv: the length of an episode is below 1")


def team_returns(cell: CellFiles) -> Iterator[Finding]:
    """A multi-agent return is the mean return of the agents that the task scores."""
    spec = cell.facts.get("spec")
    scored = (spec.get("team") or {}).get("scored") if isinstance(spec, dict) else None
    if not scored:
        return
    for run in _trained(cell):
        for file in EPISODE_TABLES:
            table = run.table(file)
            if table is None:
                continue
            means = np.mean([table[agent] for agent in scored], axis=0)
            if not np.allclose(table["return"], means, rtol=1e-9, atol=1e-9, equal_nan=True):
                yield Finding(run.name, f"{file}: a return is not the mean of {', '.join(scored)}")


def training_episodes(cell: CellFiles) -> Iterator[Finding]:
    """train.csv has every episode within the budget, one after another in each environment.

    Of a compact record, this is checked of the last rows. Episodes that run when the environments are reset,
    or at the end, are not recorded: each is shorter than the time limit.
    """
    for run in _trained(cell):
        table = run.table(layout.TRAIN_LAST if run.compact else layout.TRAIN)
        if table is None:
            continue
        whole = not run.compact or _episodes(run) == len(table["step"])
        envs, horizon = cell.envs, cell.horizon
        step, env, length = (table[column] for column in ("step", "env", "length"))
        order = step * envs + env
        total = int(run.result.get("steps", 0))
        if (np.diff(order) <= 0).any():
            row = int(np.flatnonzero(np.diff(order) <= 0)[0]) + 2
            yield Finding(run.name, f"train.csv: row {row} (step {step[row - 1]}) is out of order")
        if len(step) and (step.max() > total or env.min() < 0 or env.max() >= envs):
            yield Finding(run.name, f"train.csv: exceeds {total} steps in {envs} environments")
        time = total // envs
        ends, gaps, fault = _follow(cell, table, whole)
        if fault:
            yield Finding(run.name, f"train.csv: {fault}")
            continue
        reset = cell.last_reset(time)
        for e in range(envs):
            ended = ends.get(e, 0 if whole else time)
            gaps += [(e, ended, reset), (e, max(ended, reset), time)]
        for e, since, until in gaps:
            if horizon and until - since >= horizon:
                what = f"an episode that ended after step {since * envs} is missing"
                yield Finding(run.name, f"train.csv: environment {e}: {what}")
        if horizon and len(length) and length.max() > horizon:
            yield Finding(run.name, f"train.csv: an episode is longer than {horizon} steps")


_Gap = tuple[int, int, int]  # an environment, and the time steps between which no episode ended


def _follow(cell: CellFiles, table: Columns, whole: bool) -> tuple[dict[int, int], list[_Gap], str]:
    """Follow the episodes of each environment, one after another.

    `whole` says that the table has all episodes, from the first one on.

    Returns:
        The time step at which the last episode of each environment ended, the gaps before resets, and what is
        wrong with the first row that does not follow from those before; "" if all do.
    """
    if not len(table["step"]):
        return {}, [], ""
    envs, window = cell.envs, cell.window
    index = (table["step"] // envs - 1) // window if window else np.zeros_like(table["step"])
    order = np.lexsort((index, table["env"]))  # by environment, then by the window in which the episode ended
    step, env, length, index = (x[order] for x in (table["step"], table["env"], table["length"], index))
    first = np.flatnonzero(np.r_[True, (np.diff(env) != 0) | (np.diff(index) != 0)])  # of each window
    begin = index[first] * window
    if not whole:  # the first episode began wherever it did
        fresh = np.r_[True, np.diff(env[first]) != 0]
        begin[fresh] = np.maximum(begin[fresh], (step // envs - length)[first][fresh])
    counts = np.diff(np.r_[first, len(order)])
    sums = np.cumsum(length)
    taken = sums - np.repeat((sums - length)[first] - begin, counts)  # time steps up to the end of each row
    faulty = np.flatnonzero((length < 1) | (taken * envs != step))
    if len(faulty):
        k = faulty[order[faulty].argmin()]
        what = f"the episodes of environment {env[k]} have {taken[k]} steps, not {step[k] / envs:g}"
        return {}, [], f"up to row {order[k] + 1} (step {step[k]}), {what}"
    last = taken[first + counts - 1]
    gaps: list[_Gap] = []
    ends: dict[int, int] = {}
    for e, start, end in zip(env[first].tolist(), begin.tolist(), last.tolist(), strict=True):
        if whole or e in ends:
            gaps.append((e, ends.get(e, 0), start))
        ends[e] = end
    return ends, gaps, ""


def _episodes(run: RunFiles) -> int | None:
    """Return the number of training episodes of a compact record; None if it is not known."""
    bins = run.table(layout.TRAIN_BINS)
    return None if bins is None else int(bins["episodes"].sum())


def episode_bins(cell: CellFiles) -> Iterator[Finding]:
    """train-bins.csv of a compact record fits its last rows, the budget and result.json."""
    for run in _trained(cell):
        bins = run.table(layout.TRAIN_BINS)
        last = run.table(layout.TRAIN_LAST)
        if bins is not None and last is not None:
            for what in _bin_faults(cell, run, bins, len(last["step"])):
                yield Finding(run.name, f"{layout.TRAIN_BINS}: {what}")


def _bin_faults(cell: CellFiles, run: RunFiles, bins: Columns, rows: int) -> Iterator[str]:
    """Say what is wrong with bins, which have six digits, of a run whose train-last.csv has `rows` rows."""
    total = int(run.result.get("steps", 0))
    number, episodes = bins["bin"], bins["episodes"]
    if (np.diff(number) <= 0).any() or (len(number) and not 0 <= number[0] <= number[-1] < BINS):
        yield "bins are out of order"
        return
    if (episodes < 1).any() or min(LAST, episodes.sum()) != rows:
        yield f"{episodes.sum()} episodes, {layout.TRAIN_LAST} has {rows}"
    for name in (name.removesuffix("_mean") for name in bins if name.endswith("_mean")):
        mean, sd, low, high = (bins[f"{name}_{word}"] for word in STATISTICS)
        slack = 1e-5 * (abs(low) + abs(high))
        if ((mean < low - slack) | (mean > high + slack) | (sd < 0) | (sd > high - low + slack)).any():
            yield f"the statistics of {name} contradict each other"
    scored = ((cell.facts.get("spec") or {}).get("team") or {}).get("scored")
    if scored:
        means = np.mean([bins[f"{agent}_mean"] for agent in scored], axis=0)
        if not np.allclose(bins["return_mean"], means, rtol=1e-4, atol=1e-4, equal_nan=True):
            yield f"a return is not the mean of {', '.join(scored)}"
    longest = cell.horizon or np.inf
    if (bins["length_min"] < 1).any() or (bins["length_max"] > longest).any():
        yield f"an episode is shorter than 1 or longer than {longest}"
    unstable = (run.result.get("unstable_steps") or {}).get("train", -1)
    if (episodes * bins["unstable_mean"]).sum() > unstable * (1 + 1e-5):
        yield "more unstable steps than in result.json"
    steps = float((episodes * bins["length_mean"]).sum())
    running = cell.envs * cell.horizon  # at the end
    resets = cell.last_reset(total // cell.envs) > 0
    if steps > total * (1 + 1e-5) or (running and not resets and steps < (total - running) * (1 - 1e-5)):
        yield f"its episodes have {steps:.6g} steps, not {total}"
    recorded = run.contents[layout.TRAIN_BINS].splitlines()
    again = compact(run.contents[layout.TRAIN_LAST], total)[layout.TRAIN_BINS].splitlines()
    partial = episodes.sum() > rows  # the first bin of the last rows began before them
    covered = len(again) - 1 - partial
    if covered > 0 and recorded[-covered:] != again[-covered:]:
        yield f"does not follow from {layout.TRAIN_LAST}"


def digest_ladder(cell: CellFiles) -> Iterator[Finding]:
    """ladder.csv has start, first update and evaluations; its digests agree with metrics.csv."""
    for run in _trained(cell):
        ladder = run.table(layout.LADDER)
        metrics = run.table(layout.METRICS)
        if ladder is None:
            continue
        rows = _rows(ladder, "step", "event", "digest")
        steps = cell.evaluation_steps()
        # A diverged run has a digest at the evaluation that detected it, but not the evaluation itself.
        evaluated = steps[: _evaluations(cell, run) + (run.result["status"] == DIVERGED)]
        events = [(0, "start"), *((step, "evaluation") for step in evaluated)]
        updates = [(step, event) for step, event, _ in rows if event == "first update"][:1]
        if updates and 0 < updates[0][0] <= evaluated[-1] and updates[0][0] % cell.envs == 0:
            position = 1 + sum(step < updates[0][0] for step in evaluated)
            events[position:position] = updates
        if [row[:2] for row in rows] != events:
            what = _first_difference([row[:2] for row in rows], events)
            yield Finding(run.name, f"ladder.csv: {what}")
            continue
        if faults := [step for step, _, text in rows if len(text) != 16 or text.strip("0123456789abcdef")]:
            yield Finding(run.name, f"ladder.csv: invalid digest at step {faults[0]}")
        for (_, _, before), (step, event, after) in pairwise(rows):
            if event == "first update" and after == before:
                yield Finding(
                    run.name, f"ladder.csv: the first update at step {step} leaves the learner unchanged"
                )
            updated = updates and step >= updates[0][0]
            if event == "evaluation" and not updated and after != before:
                yield Finding(run.name, f"ladder.csv: the learner changes at step {step}, before any update")
        if metrics is None:
            continue
        digests = [digest for _, event, digest in rows if event == "evaluation"]
        transitions = zip(evaluated[1:], digests, digests[1:], strict=False)
        changed = {step for step, before, after in transitions if after != before}
        at = metrics["step"].tolist()
        learned = set(at)
        if learned != changed or at != sorted(learned):
            odd = sorted(learned ^ changed)
            what = (
                f"does not match ladder.csv at step {odd[0]}"
                if odd
                else "has duplicate rows or rows out of order"
            )
            yield Finding(run.name, f"metrics.csv {what}")


def measures(cell: CellFiles) -> Iterator[Finding]:
    """measures.csv has the measures of every evaluation, which fit each other and what run.json asks for."""
    for run in _trained(cell):
        table = run.table(layout.MEASURES)
        if table is None:
            continue
        steps = cell.evaluation_steps()[: _evaluations(cell, run)]
        if table["step"].tolist() != steps:
            what = _first_difference([(step,) for step in table["step"]], [(step,) for step in steps])
            yield Finding(run.name, f"{layout.MEASURES}: {what}")
        done = run.result["status"] == DONE
        for count, columns in (("value_states", VALUES), ("gradient_windows", GRADIENTS)):
            measured = table[count] > 0
            numbers = np.stack([table[column] for column in columns], 1)
            if (table[count] < 0).any() or not np.isnan(numbers[~measured]).all():
                yield Finding(run.name, f"{layout.MEASURES}: {count} contradicts the columns behind it")
            if done and not np.isfinite(numbers[measured]).all():
                yield Finding(run.name, f"{layout.MEASURES}: a number is missing or not finite")
        estimate, returned, bias, rmse = (table[name] for name in VALUES)
        scale = 1e-9 * (1 + abs(estimate) + abs(returned))
        if (abs(estimate - returned - bias) > scale).any() or (abs(bias) - rmse > scale).any():
            yield Finding(run.name, f"{layout.MEASURES}: a bias or an error does not follow from the means")
        windows = table["gradient_windows"]
        asked = "gradient_variance" in (run.about.get("measures") or ())
        if not (windows > 1 if asked else windows == 0).all():
            yield Finding(run.name, f"{layout.MEASURES}: gradient_windows is not what run.json asks for")


def finite_numbers(cell: CellFiles) -> Iterator[Finding]:
    """All numbers of a run with status done are finite; the policy of a diverged run is not."""
    for run in cell.finished:
        parameters = run.parameters
        done = run.result["status"] == DONE
        for file in (layout.EVAL, layout.TRAIN, *layout.COMPACT, layout.METRICS) if done else ():
            table = run.table(file)
            numbers = (column for column in (table or {}).values() if column.dtype != object)
            if not all(np.isfinite(column).all() for column in numbers):
                yield Finding(run.name, f"{file}: a number is not finite, but the status is done")
        if cell.imported or (run.compact and layout.POLICY not in run.contents):
            continue
        if parameters is None:
            yield Finding(run.name, "policy.npz cannot be read")
            continue
        finite = all(np.isfinite(array).all() for array in parameters.values())
        if finite != done:
            what = "finite, but the status is diverged" if finite else "not finite, but the status is done"
            yield Finding(run.name, f"policy.npz: the parameters are {what}")


def results_agree(cell: CellFiles) -> Iterator[Finding]:
    """result.json agrees with the tables: steps, score, unstable steps."""
    for run in _trained(cell):
        result = run.result
        table = run.table(layout.EVAL)
        training = run.table(layout.TRAIN_LAST if run.compact else layout.TRAIN)
        steps = cell.evaluation_steps()
        last = steps[min(_evaluations(cell, run), len(steps) - 1)]
        if result.get("steps") != last:
            yield Finding(run.name, f"result.json: steps is {result.get('steps')}, not {last}")
        if table is None or training is None:
            continue
        score = None
        if result["status"] == DONE:
            rows = (table["policy"] == "greedy") & (table["step"] == table["step"].max())
            score = float(table["return"][rows].mean())
        recorded = result.get("score")
        if not _same_score(recorded, score):
            yield Finding(run.name, f"result.json: score is {recorded}, the last evaluation has {score}")
        unstable = result.get("unstable_steps") or {}
        if unstable.get("eval") != table["unstable"].sum():
            yield Finding(run.name, "result.json: unstable_steps differs from eval.csv")
        if not training["unstable"].sum() <= unstable.get("train", -1):
            yield Finding(run.name, "result.json: unstable_steps is smaller than in train.csv")


def _same_score(recorded: float | None, score: float | None) -> bool:
    if recorded is None or score is None:
        return recorded is score
    return bool(np.isclose(recorded, score, 1e-9, 0))
