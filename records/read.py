"""Read the records of a folder of runs, checked, as `CellRecord`s and `RunRecord`s.

A run is in one of five states, and every expected run is in the result with its state:

| state      | meaning                                                          | counts in a score   |
|------------|------------------------------------------------------------------|---------------------|
| done       | result.json says so, and its CSV files have their digests        | yes                 |
| diverged   | the same, but training diverged                                  | yes, as a failure   |
| unfinished | a folder without result.json: running or interrupted             | no, cell incomplete |
| missing    | expected, but there is no folder                                 | no, cell incomplete |
| damaged    | a file is unreadable, contradicts another or does not match its  | no, cell incomplete |
|            | digest                                                           |                     |

No evaluation of a damaged run is used, not even the part that can still be read.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ascent.records import layout, ledger, run_reader
from ascent.records.cell import FIRST_TUNING_SEED, Cell, chosen, of_kind, overrides, setting, without_tuning
from ascent.records.errors import one_line
from ascent.records.expected import Expected
from ascent.records.run_reader import Columns, Damaged, RunReader
from ascent.records.store import Store

DONE, DIVERGED, UNFINISHED, MISSING, DAMAGED = "done", "diverged", "unfinished", "missing", "damaged"
STATES = (DONE, DIVERGED, UNFINISHED, MISSING, DAMAGED)
MAX_TITLE = 60  # characters of the name of an imported system
IMPORTED = "imported"  # algorithm of cells whose curves were made by another library


@dataclass(frozen=True)
class RunRecord:
    """One seed of a cell, as it was read.

    Attributes:
        seed: the seed.
        folder: path below the runs folder, with forward slashes.
        state: one of `STATES`.
        note: what is wrong, or how far the run is, in one line.
        about: run.json; {} without one.
        result: result.json; {} unless the run is finished.
        evaluations: columns step, policy, episode, return, length and the task's measures; a row per episode.
            None unless finished.
        training: columns return and the task's measures; the last training episodes, in the order in which
            they ended. None without a record.
        measured: content of measures.csv; empty without a record.
        metrics: content of metrics.csv; empty without a record.
    """

    seed: int
    folder: str
    state: str
    note: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    evaluations: Columns | None = None
    training: Columns | None = None
    measured: bytes = b""
    metrics: bytes = b""

    @property
    def finished(self) -> bool:
        """Whether the run is done or has diverged."""
        return self.state in (DONE, DIVERGED)

    @property
    def core_seconds(self) -> float:
        """Wall seconds of each core that the run had. An attempt that was killed did not record its own."""
        attempts = self.about.get("attempts") or []
        return sum((attempt.get("wall_s") or 0) * (attempt.get("env_threads") or 1) for attempt in attempts)

    @property
    def cpu_seconds(self) -> float:
        """Processor seconds of all attempts that recorded theirs."""
        return float(sum(attempt.get("cpu_s") or 0 for attempt in self.about.get("attempts") or []))

    @cached_property
    def means(self) -> Columns:
        """Means over the episodes of each evaluation of a finished run.

        Columns: policy, step, episodes, return, length, the task's measures; sorted by policy and step.
        """
        assert self.evaluations is not None, "means are of finished runs"
        rows = self.evaluations
        order = np.lexsort((rows["step"], rows["policy"]))
        policies, steps = rows["policy"][order], rows["step"][order]
        starts = np.flatnonzero(np.r_[True, (policies[1:] != policies[:-1]) | (np.diff(steps) != 0)])
        episodes = np.diff(np.r_[starts, len(order)])
        means = {"policy": policies[starts], "step": steps[starts], "episodes": episodes}
        for name, values in rows.items():
            if name not in ("step", "policy", "episode"):
                means[name] = np.add.reduceat(values.astype(float)[order], starts) / episodes
        return means

    @cached_property
    def measures(self) -> pd.DataFrame | None:
        """measures.csv, with NaN in empty cells; None without a record. Raises Damaged if it is malformed."""
        return run_reader.measures(self.measured) if self.measured else None

    @cached_property
    def greedy(self) -> pd.Series:
        """Mean return of the greedy policy at each evaluation, (P,) with index step; finite values only."""
        return self.greedy_means("return")

    def greedy_means(self, score: str) -> pd.Series:
        """Return the same of a measure of the task, where the return is finite as well."""
        means = self.means
        values = means[score]
        # Only a diverged run has values that are not finite, and those are no measurements.
        finite = np.isfinite(values) & np.isfinite(means["return"])
        rows = (means["policy"] == "greedy") & finite
        return pd.Series(values[rows], means["step"][rows])

    def training_mean(self, score: str) -> float:
        """Return the mean return or measure of the last training episodes; NaN where none is recorded."""
        episodes = np.empty(0) if self.training is None else self.training[score]
        return float(episodes.mean()) if len(episodes) else np.nan


@dataclass(frozen=True)
class CellRecord:
    """A cell and its expected runs, by seed. `facts` is cell.json, {} if that is missing or damaged.

    `started` are the seeds that were ever started, by ledger and records: of tuning runs the tuning seeds.
    """

    name: Expected
    facts: dict[str, Any]
    runs: tuple[RunRecord, ...]
    started: tuple[int, ...] = ()

    @property
    def chosen(self) -> bool:
        """Whether the seeds are not 0 to n-1."""
        return chosen(self.name.seeds)

    @property
    def tuned(self) -> dict[str, Any]:
        """The tuning that its hyperparameters came of, as its runs tell (`presets.py`); {} if of none."""
        return next((run.about["tuned"] for run in self.runs if run.about.get("tuned")), {})

    @property
    def selection(self) -> str:
        """What a reader must know about the choice of seeds, in a few words; "" if all are here."""
        words = [f"of {len(self.started)} started"] if len(self.started) > len(self.name.seeds) else []
        return ", ".join([*words, *(["seeds chosen"] if self.chosen else [])])

    @property
    def remarks(self) -> str:
        """What must stand beside its score: `selection`, and the core-hours of the tuning that it came of."""
        tuned = self.tuned
        cost = f"tuned in {short_hours(tuned['core_hours'])} core-hours" if tuned else ""
        return ", ".join(filter(None, [self.selection, cost]))

    @property
    def finished(self) -> int:
        """How many runs are finished."""
        return sum(run.finished for run in self.runs)

    @property
    def complete(self) -> bool:
        """Whether every expected seed has a verified result: the condition for showing a score at all."""
        return 0 < len(self.runs) == self.finished

    @property
    def title(self) -> str:
        """The name of the system: the one that its sweep gives it; of an imported cell that of its user."""
        if self.name.name:
            return self.name.name
        name = self.facts["config"].get("name") if self.imported else None
        return one_line(str(name), MAX_TITLE) if name else self.name.system

    @property
    def changed(self) -> list[str]:
        """The hyperparameter overrides as `ascent train --set` takes them: "gamma=0.9"."""
        return [one_line(text) for text in overrides(self.facts.get("changed") or {})]

    @property
    def setting(self) -> str:
        """The preset and its overrides: "code", "code with gamma=0.9"."""
        return one_line(setting(self.name.preset, self.facts.get("changed") or {}))

    @property
    def measures(self) -> dict[str, str]:
        """The recorded measures of the task: name -> how the steps of an episode become one number."""
        return {} if self.imported else measures_of(self.facts)

    @property
    def imported(self) -> bool:
        """Whether the curves come from another library (`ascent import`)."""
        return self.facts.get("algorithm") == IMPORTED


def short_hours(hours: float) -> str:
    """Return core-hours with two digits after the point, or of short ones with two significant digits."""
    return f"{hours:,.2f}" if hours >= 0.1 else f"{hours:.2g}"


def measures_of(facts: dict[str, Any]) -> dict[str, str]:
    """Return the measures of the task in a cell.json: name -> "sum", "mean" or "last"; {} if it has none."""
    return dict((facts.get("spec", {}).get("team") or {}).get("measures", ()))


def load(
    runs: Path,
    expected: Sequence[Expected] | None = None,
    started: Mapping[str, Iterable[int]] | None = None,
) -> list[CellRecord]:
    """Return the cells in a folder of run records, sorted by suite, task, name, system, preset, digest.

    Args:
        runs: the folder of run records.
        expected: exactly these cells and seeds; default: those of `find`.
        started: the seeds that were ever started, by cell folder; default: those in the ledger.

    Raises:
        DamagedFile: the ledger cannot be read.
        ValueError: there are no runs, or tuning seeds and reporting seeds are mixed in `expected`.
    """
    names = find(runs)[0] if expected is None else _merged(expected)
    if started is None:
        ledgers = {home: ledger.started(home) for home in {name.home(runs) for name in names}}
        started = {name.folder: ledgers[name.home(runs)].get(name.folder, ()) for name in names}
    cells = [_load_cell(name.home(runs), name, started.get(name.folder, ())) for name in names]
    if all(run.state == MISSING for cell in cells for run in cell.runs):
        raise ValueError(f"no runs found in {runs}")
    _refuse_mixed_seeds(cells)
    return cells


def find(runs: Path) -> tuple[list[Expected], dict[str, tuple[int, ...]]]:
    """Return the cells of a folder with their seeds, and by cell the tuning seeds that are left out.

    Tuning seeds are left out where any cell has reporting seeds. If there are tuning seeds
    only, nothing is left out.
    """
    names = _names_in(runs)
    tuning = {name.folder: tuple(seed for seed in name.seeds if seed >= FIRST_TUNING_SEED) for name in names}
    if not any(set(name.seeds) - set(tuning[name.folder]) for name in names):
        return names, {}
    kept = [replace(name, seeds=tuple(without_tuning(name.seeds))) for name in names]
    reported = [name for name in kept if not set(name.seeds) & set(tuning[name.folder])]
    return reported, {folder: seeds for folder, seeds in tuning.items() if seeds}


def _names_in(runs: Path) -> list[Expected]:
    """Return every cell folder below `runs` with its seeds, and what the plans in the ledger call it."""
    named = ledger.named_cells(runs)
    patterns = (layout.CELLS, "*/*/*/seed-*", f"*/*/*/{layout.seal('*')}")
    folders = {path.parent for pattern in patterns for path in runs.glob(pattern)}
    names = []
    for folder in folders:
        suite, task, name = folder.relative_to(runs).parts
        system, preset, digest = _split_name(folder, name)
        name, grid = named.get(folder.relative_to(runs).as_posix(), ("", ""))
        names.append(Expected(suite, task, system, preset, digest, seeds_of(folder), "", name, grid))
    return _merged(names)


def seeds_of(cell: Path) -> tuple[int, ...]:
    """Return the seeds of a cell, in folders or sealed. Raises DamagedFile if a seal cannot be read."""
    return tuple(Store(cell).seeds())


def _split_name(folder: Path, name: str) -> tuple[str, str, str]:
    """Return system, preset and digest of a cell folder; cell.json says where to split a name with dashes."""
    try:
        facts = _cell_facts(folder)
        system, preset = facts["system"], facts["preset"]
    except Damaged:
        system, _, preset = name.rpartition("-")[0].rpartition("-")  # a guess: the cell is refused anyway
    digest = name.removeprefix(f"{system}-{preset}-")
    if not system or digest == name:
        raise ValueError(f"{folder} contains runs, but its name is not <system>-<preset>-<digest>")
    return system, preset, digest


def _merged(names: Iterable[Expected]) -> list[Expected]:
    """Return the names sorted; a cell that is named twice is one cell with the seeds of both."""
    seeds: dict[Expected, set[int]] = {}
    for name in names:
        seeds.setdefault(replace(name, seeds=()), set()).update(name.seeds)
    ordered = sorted(seeds, key=lambda x: (x.suite, x.task, x.name, x.system, x.preset, x.digest))
    return [replace(name, seeds=tuple(sorted(seeds[name]))) for name in ordered]


def _refuse_mixed_seeds(cells: list[CellRecord]) -> None:
    tuning = [cell for cell in cells if any(run.seed >= FIRST_TUNING_SEED for run in cell.runs)]
    if tuning and any(run.seed < FIRST_TUNING_SEED for cell in cells for run in cell.runs):
        raise ValueError(
            f"tuning seeds ({FIRST_TUNING_SEED} and up) and reporting seeds must not be mixed in a report; "
            f"tuning seeds are in {', '.join(cell.name.folder for cell in tuning)}"
        )


def _load_cell(runs: Path, name: Expected, started: Iterable[int]) -> CellRecord:
    folder = runs / name.folder
    facts: dict[str, Any] = {}
    fault = ""
    if folder.is_dir():
        try:
            facts = _cell_facts(folder)
            _check_identity(facts, name)
        except Damaged as error:
            facts = {}
            fault = f"../{error}"
    reader = RunReader(folder)
    measures = () if facts.get("algorithm") == IMPORTED else tuple(measures_of(facts))
    runs_of_cell = [_load_run(reader, name.folder, seed, fault, measures) for seed in name.seeds]
    records = tuple(_without_copies(runs_of_cell))
    seeds = ledger.ever_started(started, {run.seed: run.about for run in records if run.state != MISSING})
    return CellRecord(name, facts, records, tuple(of_kind(seeds, name.seeds)))


def _without_copies(runs: list[RunRecord]) -> Iterator[RunRecord]:
    """Mark copies as damaged: two seeds cannot have the same learner at every step."""
    alike: dict[str | None, list[int]] = {}
    ladders = [run.result.get("digests", {}).get(layout.LADDER) for run in runs]
    for run, ladder in zip(runs, ladders, strict=True):
        alike.setdefault(ladder, []).append(run.seed)
    for run, ladder in zip(runs, ladders, strict=True):
        same = alike[ladder]
        if ladder and len(same) > 1:
            seeds = ", ".join(map(str, same))
            note = f"seeds {seeds} have the same {layout.LADDER}: a run was copied"
            yield RunRecord(run.seed, run.folder, DAMAGED, note, run.about)
        else:
            yield run


def _cell_facts(folder: Path) -> dict[str, Any]:
    return run_reader.read_json(folder / layout.CELL)


def _check_identity(facts: dict[str, Any], name: Expected) -> None:
    """Raise Damaged unless cell.json is the folder's: a copy would put its numbers into a wrong row."""
    for key in ("suite", "task", "system", "preset", "digest"):
        if facts[key] != getattr(name, key):
            raise Damaged(
                f"{layout.CELL}: {key} is {facts[key]}, but the folder name says {getattr(name, key)}"
            )
    try:
        content = Cell.from_json(facts).digest
    except (LookupError, TypeError) as error:
        raise Damaged(f"{layout.CELL}: does not describe a cell") from error
    if content != name.digest:
        raise Damaged(f"{layout.CELL}: was modified: its content has digest {content}, not {name.digest}")


def _load_run(
    reader: RunReader, cell_name: str, seed: int, cell_fault: str, measures: tuple[str, ...]
) -> RunRecord:
    name = f"{cell_name}/{layout.seed_folder(seed)}"
    about: dict[str, Any] = {}
    try:
        if not reader.has(seed):
            return RunRecord(seed, name, MISSING, "no folder")
        if cell_fault:
            raise Damaged(cell_fault)
        if not reader.has(seed, layout.RESULT):
            about = reader.json(seed, layout.RUN) if reader.has(seed, layout.RUN) else {}
            return RunRecord(seed, name, UNFINISHED, _progress(reader, seed), about)
        about = reader.json(seed, layout.RUN)
        if about.get("seed") != seed:
            raise Damaged(f"{layout.RUN}: seed is {about.get('seed')}, but the folder name says {seed}")
        result = reader.json(seed, layout.RESULT)
        status = result.get("status")
        if status not in (DONE, DIVERGED):
            raise Damaged(f"{layout.RESULT}: status is {status}")
        reader.check_digests(seed, result)
        evaluations = run_reader.evaluations(reader.read(seed, layout.EVAL), status == DONE, measures)
        training = None
        if layout.TRAIN in result["digests"]:
            content = reader.training(seed)
            training = run_reader.last_training_episodes(content, status == DONE, measures)
        measured, metrics = (
            reader.read(seed, name) if name in result["digests"] else b""
            for name in (layout.MEASURES, layout.METRICS)
        )
    except Damaged as error:
        return RunRecord(seed, name, DAMAGED, str(error), about)
    return RunRecord(seed, name, status, "", about, result, evaluations, training, measured, metrics)


def _progress(reader: RunReader, seed: int) -> str:
    try:
        return f"at step {int(reader.json(seed, layout.PROGRESS)['step']):,}"
    except (Damaged, KeyError, TypeError, ValueError, OverflowError):
        return "no progress recorded"  # it is rewritten while running and covered by no digest: a hint only
