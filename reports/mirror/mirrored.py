"""What a W&B run is to carry, made from the record alone: the same record always gives the same.

One row of history for each evaluation of a run; `global_step`, the environment steps so far, is its axis:

    eval/return_mean, eval/return_std, eval/length   over the episodes of the greedy policy's evaluation; the
                                                     deviation is theirs, with divisor n
    eval_sampled/...                                 the same of the sampled policy, where it was evaluated
    train/<name>                                     the row of metrics.csv
    episode/return_mean, episode/return_std,         over the training episodes that ended since the row
    episode/length, episode/count                    before; none of them where none ended
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv as pa_csv

from ascent.records.cell import FIRST_TUNING_SEED
from ascent.records.errors import DamagedFile, InputError
from ascent.records.read import DIVERGED, CellRecord, RunRecord
from ascent.reports.statistics import estimators

TABLES = ("eval.csv", "train.csv", "metrics.csv")  # what rows are made of
_INTEGERS = dict.fromkeys(("step", "env", "episode", "length", "unstable"), pa.int64())
_PREFIX = {"greedy": "eval", "sampled": "eval_sampled"}
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Mirrored:
    """A run of W&B, all of which can be written as JSON. Paths are absolute.

    `tables` maps names to CSV files, `images` names to PNG files; `files` lie below `base`.
    """

    id: str
    name: str
    group: str | None
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    html: str | None = None
    base: str = ""
    files: list[str] = field(default_factory=list)

    @property
    def digest(self) -> str:
        """Of the content: a run of W&B with this id and another digest is not this one."""
        return self.summary["digest"]

    @property
    def lines(self) -> int:
        """Rows of history; the tables, images and page of a report are one row."""
        return len(self.rows) + bool(self.tables or self.images or self.html)


def begun(facts: Mapping[str, Any], about: Mapping[str, Any], group: str, seed: int) -> Mirrored:
    """What is known of a run once it has begun: from cell.json, run.json and the cell folder's name."""
    attempts = about.get("attempts") or [{}]
    platform = about.get("platform") or {}
    first = attempts[0].get("platform") or platform.get("key", "")
    # The platform it began on is part of the id: on another one the same seed is another result.
    name = json.dumps(["ascent", facts["digest"], seed, first])
    tags = [facts[key] for key in ("suite", "task", "system", "preset", "algorithm")]
    config = {key: facts[key] for key in ("suite", "task", "system", "preset", "algorithm", "steps")}
    config |= {"hyperparameters": facts["config"], "evaluation": facts["evaluation"], "seed": seed}
    config |= {"versions": facts["versions"], "digest": facts["digest"], "platform": platform}
    config |= {key: about.get(key) for key in ("commit", "dirty", "source_digest", "packages")}
    return Mirrored(
        id=sha256(name.encode()).hexdigest()[:16],
        name=f"{facts['task']} {group} seed {seed}",
        group=group,
        job_type="train",
        tags=list(dict.fromkeys(tags + (["tuning"] if seed >= FIRST_TUNING_SEED else []))),
        config=config,
    )


def of_run(cell: CellRecord, run: RunRecord, runs: Path) -> Mirrored:
    """A finished run whose record lies below `runs`. Raises DamagedFile where a table has lost its digest."""
    start = begun(cell.facts, run.about, Path(cell.name.folder).name, run.seed)
    content = dict.fromkeys(TABLES, b"")
    for name in content.keys() & run.result["digests"].keys():  # curves made elsewhere have no others
        path = runs / run.folder / name
        content[name] = path.read_bytes()
        if sha256(content[name]).hexdigest() != run.result["digests"][name]:
            raise DamagedFile(f"{path} is damaged: its sha256 differs from result.json")
    summary = {"status": run.state, "digest": run.result["digest"], "steps": run.result["steps"]}
    tags = start.tags + ([DIVERGED] if run.state == DIVERGED else [])
    return Mirrored(
        **{**vars(start), "tags": tags} | {"rows": rows(content), "summary": summary | scores(cell, run)}
    )


def scores(cell: CellRecord, run: RunRecord) -> dict[str, float]:
    """score/<estimator> of a finished run, for the estimators that look at one run alone."""
    greedy = run.greedy
    returns = greedy.to_numpy(float)
    training = np.nan if run.training is None or not len(run.training) else float(run.training.mean())
    if run.state == DIVERGED:
        training = estimators.diverged_score(returns, cell.facts["spec"].get("random_score"))
        returns = np.full_like(returns, training)
    curves = estimators.Curves(greedy.index.to_numpy(), returns[:, None], np.array([training]))
    found = {
        name: float(estimator(curves)[0])
        for name, estimator in estimators.ESTIMATORS.items()
        if name not in estimators.ACROSS_SEEDS
    }
    return {f"score/{name}": value for name, value in found.items() if np.isfinite(value)}


def rows(content: Mapping[str, bytes], until: int | None = None) -> list[dict[str, Any]]:
    """The rows of history of a run with these tables, in order; `until`: no later step than this."""
    evaluations, episodes, metrics = (_read(content[name]) for name in TABLES)
    marks = {int(step) for table in (evaluations, metrics) if len(table) for step in table["step"]}
    if len(episodes):
        marks.add(max(marks | {int(episodes["step"].max())}))  # of a run that diverged after an evaluation
    steps = sorted(mark for mark in marks if until is None or mark <= until)
    found: dict[int, dict[str, Any]] = {step: {"global_step": step} for step in steps}
    if len(evaluations):
        for policy, table in evaluations.groupby("policy"):
            _add(found, _PREFIX.get(policy, f"eval_{policy}"), table, table["step"])
    if len(metrics):
        names = [f"train/{name}" for name in metrics.columns[1:]]
        for step, *values in zip(*(metrics[name].tolist() for name in metrics), strict=True):
            if step in found:
                found[step] |= dict(zip(names, map(float, values), strict=True))
    if len(episodes) and steps:
        table = episodes[episodes["step"] <= steps[-1]]
        row_of = np.array(steps)[np.searchsorted(steps, table["step"])]
        _add(found, "episode", table, pd.Series(row_of, table.index))
        for step, count in zip(*np.unique(row_of, return_counts=True), strict=True):
            found[int(step)]["episode/count"] = int(count)
    return list(found.values())


def _add(found: dict[int, dict[str, Any]], prefix: str, episodes: pd.DataFrame, row_of: pd.Series) -> None:
    """Put the statistics of episodes into the rows that they belong to."""
    groups = episodes.groupby(row_of.rename("row"))
    returns, lengths = groups["return"], groups["length"]
    columns = {"return_mean": returns.mean(), "return_std": returns.std(ddof=0), "length": lengths.mean()}
    for name, column in columns.items():
        for step, value in column.items():
            if step in found:
                found[step][f"{prefix}/{name}"] = float(value)


def _read(content: bytes) -> pd.DataFrame:
    """A table of a run; empty where nothing is written yet. A last line that is not whole does not count."""
    whole = content[: content.rfind(b"\n") + 1]
    if not whole:
        return pd.DataFrame()
    names = whole[: whole.index(b"\n")].decode().split(",")
    types = {name: _INTEGERS.get(name, pa.float64()) for name in names} | {"policy": pa.string()}
    options = pa_csv.ConvertOptions(column_types=types, null_values=[])
    return pa_csv.read_csv(pa.BufferReader(whole), convert_options=options).to_pandas()


def of_report(folder: Path) -> Mirrored:
    """A report's folder: its CSV tables, PNG figures and page, and all of its files as they are."""
    folder = folder.resolve()
    try:
        provenance = json.loads((folder / "provenance.json").read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is no report: provenance.json cannot be read") from error
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # All files, not provenance.json alone: another version of the page is another report.
    digest = sha256(json.dumps([[str(path.relative_to(folder)), _digest(path)] for path in files]).encode())
    page = folder / "index.html"
    return Mirrored(
        id=digest.hexdigest()[:16],
        name=f"report {folder.name}",
        group=None,
        job_type="report",
        tags=["report"],
        config={"report": provenance.get("report", {}), "digest": digest.hexdigest()},
        summary={"digest": digest.hexdigest()},
        # A table without rows has no columns either: an empty line.
        tables={
            _name(path, folder): str(path)
            for path in files
            if path.suffix == ".csv" and path.read_bytes().strip()
        },
        images={_name(path, folder): str(path) for path in files if path.suffix == ".png"},
        html=str(page) if page.exists() else None,
        base=str(folder),
        files=[str(path) for path in files],
    )


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def table_cells(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Columns and rows of a CSV file. A column is of finite numbers, or of booleans, if all its cells are, or
    it is of text; empty cells are None.

    W&B's tables lose NaN, which text keeps. Digests and commits stay text: 12e4567890 is no number.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    columns = {name: _typed(name, table[name].tolist()) for name in table}
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _typed(name: str, values: list[str]) -> list[Any]:
    filled = [value for value in values if value]
    kind: Any = str
    if filled and "digest" not in name and "commit" not in name:
        if all(value in ("True", "False") for value in filled):
            kind = "True".__eq__
        elif all(re.fullmatch(r"-?\d+", value) for value in filled):
            kind = int
        elif all(_NUMBER.fullmatch(value) for value in filled):
            kind = float
    return [kind(value) if value else None for value in values]
