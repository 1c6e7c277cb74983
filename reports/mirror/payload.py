"""The content of W&B runs, derived from the records alone: equal records give equal content.

A run's history has one row per evaluation. Its axis is `global_step`, the environment steps so far:

    eval/return_mean, eval/return_std, eval/length   over the episodes of the greedy policy's evaluation; the
                                                     standard deviation has divisor n
    eval_sampled/...                                 the same for the sampled policy, where it was evaluated
    train/<name>                                     the row of metrics.csv
    episode/return_mean, episode/return_std,         over the training episodes that ended since the previous
    episode/length, episode/count                    row; absent if none ended, and of a compact record
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as pa_csv

from ascent.records import layout
from ascent.records.cell import FIRST_TUNING_SEED
from ascent.records.errors import DamagedFile
from ascent.records.read import DIVERGED, CellRecord, RunRecord
from ascent.records.store import Store
from ascent.reports.statistics import estimators

Cells = tuple[list[str], list[list[Any]]]  # columns and rows of a table
TABLES = (layout.EVAL, layout.TRAIN, layout.METRICS)  # the sources of the history rows
_INTEGERS = dict.fromkeys(("step", "env", "episode", "length", "unstable"), pa.int64())
_PREFIX = {"greedy": "eval", "sampled": "eval_sampled"}


@dataclass(frozen=True)
class Payload:
    """The content of one W&B run, in values that JSON can hold. Paths are absolute.

    `tables` maps names to columns and rows, `images` names to PNG files; `files` are below `base`.
    """

    id: str
    name: str
    group: str | None
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, Cells] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    html: str | None = None
    base: str = ""
    files: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Digest of the content. A W&B run with the same id and another digest holds another result."""
        return self.summary["digest"]

    @property
    def row_count(self) -> int:
        """Number of history rows. The tables, images and page of a report share one row."""
        return len(self.rows) + bool(self.tables or self.images or self.html)


def started_payload(facts: Mapping[str, Any], about: Mapping[str, Any], group: str, seed: int) -> Payload:
    """Return what is known once a run has started: cell.json, run.json and the name of the cell's folder."""
    attempts = about.get("attempts") or [{}]
    platform = about.get("platform") or {}
    first = attempts[0].get("platform") or platform.get("key", "")
    # The first platform is part of the id: the same seed gives another result on another platform.
    name = json.dumps(["ascent", facts["digest"], seed, first])
    tags = [facts[key] for key in ("suite", "task", "system", "preset", "algorithm")]
    config = {key: facts[key] for key in ("suite", "task", "system", "preset", "algorithm", "steps")}
    config |= {"hyperparameters": facts["config"], "evaluation": facts["evaluation"], "seed": seed}
    config |= {"versions": facts["versions"], "digest": facts["digest"], "platform": platform}
    config |= {key: about.get(key) for key in ("commit", "dirty", "source_digest", "packages")}
    return Payload(
        id=sha256(name.encode()).hexdigest()[:16],
        name=f"{facts['task']} {group} seed {seed}",
        group=group,
        job_type="train",
        tags=list(dict.fromkeys(tags + (["tuning"] if seed >= FIRST_TUNING_SEED else []))),
        config=config,
    )


def run_payload(cell: CellRecord, run: RunRecord, runs: Path) -> Payload:
    """Return the payload of a finished run whose record is below `runs`.

    Raises DamagedFile if a table does not match its digest in result.json.
    """
    start = started_payload(cell.facts, run.about, Path(cell.name.folder).name, run.seed)
    if called := cell.name.name:  # by the sweep
        start = replace(
            start,
            name=f"{cell.name.task} {called} seed {run.seed}",
            tags=list(dict.fromkeys([*start.tags, called])),
            config=start.config | {"name": called},
        )
    content = dict.fromkeys(TABLES, b"")
    store = Store(cell.name.home(runs) / cell.name.folder)
    # Imported curves lack some tables, and a compact record has no train.csv.
    for name in content.keys() & run.result["digests"].keys() & set(store.names(run.seed)):
        content[name] = store.read(run.seed, name)
        if sha256(content[name]).hexdigest() != run.result["digests"][name]:
            path = runs / run.folder / name
            raise DamagedFile(f"{path} is damaged: its sha256 differs from result.json")
    summary = {"status": run.state, "digest": run.result["digest"], "steps": run.result["steps"]}
    return replace(
        start,
        tags=start.tags + ([DIVERGED] if run.state == DIVERGED else []),
        rows=history_rows(content),
        summary=summary | scores(cell, run),
    )


def scores(cell: CellRecord, run: RunRecord) -> dict[str, float]:
    """Return score/<estimator> of a finished run, for the estimators that need one run only."""
    greedy = run.greedy
    returns = greedy.to_numpy(float)
    training = run.training_mean("return")
    if run.state == DIVERGED:
        training = estimators.diverged_score(returns, cell.facts["spec"].get("random_score"))
        returns = np.full_like(returns, training)
    curves = estimators.Curves(greedy.index.to_numpy(), returns[:, None], np.array([training]))
    values = {
        name: float(estimator(curves)[0])
        for name, estimator in estimators.ESTIMATORS.items()
        if name not in estimators.ACROSS_SEEDS
    }
    return {f"score/{name}": value for name, value in values.items() if np.isfinite(value)}


def history_rows(content: Mapping[str, bytes], until: int | None = None) -> list[dict[str, Any]]:
    """Return the history rows of a run, in order of steps.

    `content` maps the names in `TABLES` to the bytes of the files. `until` is the last step to include
    (default: all).
    """
    try:
        evaluations, episodes, metrics = (_read(content[name]) for name in TABLES)
    except (ValueError, LookupError) as error:
        raise DamagedFile(f"{' or '.join(TABLES)} is damaged: {error}") from error
    marks = {int(step) for table in (evaluations, metrics) if len(table) for step in table["step"]}
    if len(episodes):
        marks.add(max(marks | {int(episodes["step"].max())}))  # a run may diverge after its last evaluation
    steps = sorted(mark for mark in marks if until is None or mark <= until)
    rows: dict[int, dict[str, Any]] = {step: {"global_step": step} for step in steps}
    if len(evaluations):
        for policy, table in evaluations.groupby("policy"):
            _add_statistics(rows, _PREFIX.get(str(policy), f"eval_{policy}"), table, table["step"])
    if len(metrics):
        names = [f"train/{name}" for name in metrics.columns[1:]]
        for step, *values in zip(*(metrics[name].tolist() for name in metrics), strict=True):
            if step in rows:
                rows[step] |= dict(zip(names, map(float, values), strict=True))
    if len(episodes) and steps:
        table = episodes[episodes["step"] <= steps[-1]]
        row_steps = np.array(steps)[np.searchsorted(steps, table["step"])]
        _add_statistics(rows, "episode", table, pd.Series(row_steps, table.index))
        for step, count in zip(*np.unique(row_steps, return_counts=True), strict=True):
            rows[int(step)]["episode/count"] = int(count)
    return list(rows.values())


def _add_statistics(
    rows: dict[int, dict[str, Any]], prefix: str, episodes: pd.DataFrame, row_steps: pd.Series
) -> None:
    """Add the statistics of episodes to their rows; `row_steps` has the step of each episode's row."""
    groups = episodes.groupby(row_steps.rename("row"))
    returns, lengths = groups["return"], groups["length"]
    columns = {"return_mean": returns.mean(), "return_std": returns.std(ddof=0), "length": lengths.mean()}
    for name, column in columns.items():
        for step, value in column.items():
            if step in rows:
                rows[step][f"{prefix}/{name}"] = float(value)


def _read(content: bytes) -> pd.DataFrame:
    """Parse a table of a run, without an incomplete last line; empty if there is nothing else."""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        return pd.DataFrame()
    names = whole[: whole.index(b"\n")].decode().split(",")
    types = {name: _INTEGERS.get(name, pa.float64()) for name in names} | {"policy": pa.string()}
    options = pa_csv.ConvertOptions(column_types=types, null_values=[])
    return pa_csv.read_csv(pa.BufferReader(whole), convert_options=options).to_pandas()
