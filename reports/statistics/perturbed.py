"""The tables of `ascent robustness`: returns of a cell's final policies at each level of a perturbation."""

import hashlib
import io
import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ascent.records import layout
from ascent.records.errors import DamagedFile, one_line
from ascent.records.files import read as read_file

GRID = "grid.json"
NOMINAL = "nominal"
MOST_TITLE = 100  # characters
# What parsing JSON, and taking its values for numbers, may raise.
UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError)
_TYPES = {
    "version": int, "kind": str, "level": float, "seed": int, "policy": str, "episode": int, "return": float,
    "length": int, "unstable": int,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of perturbation, as the records describe it."""

    name: str
    title: str
    levels: tuple[float, ...]  # of the grid, which is fixed beforehand; perhaps with the neutral one
    neutral: float  # the level without a perturbation

    @property
    def falls(self) -> bool:
        """Whether smaller levels are harder."""
        return self.neutral == np.inf


def files(cell: Path) -> dict[str, str]:
    """Return file name -> sha256 of all that `ascent robustness` recorded of a cell."""
    paths = sorted(
        path for path in (cell / layout.ROBUSTNESS).glob("*") if path.name == GRID or path.suffix == ".csv"
    )
    return {path.name: hashlib.sha256(read_file(path)).hexdigest() for path in paths}


def policy(result: dict[str, Any]) -> str:
    """Return the name of a run's policy in the tables, from its result.json."""
    digests = result.get("digests")
    return str(digests.get(layout.POLICY, ""))[:16] if isinstance(digests, dict) else ""


@dataclass(frozen=True)
class Means:
    """The content of a table: mean return of each seed, index seed."""

    kind: str
    level: float
    protocol: tuple[int, int]  # episodes per seed, version
    returns: pd.Series
    unstable: int  # steps in which the simulator reset a bad state


Tables = dict[str, dict[float, Means]]  # kind -> level -> table


def read(cell: Path, policies: dict[int, str]) -> tuple[list[Kind], Tables, list[str]]:
    """Read the tables of a cell whose runs have these policies, by seed.

    Returns the kinds of perturbation, the tables, and the faults of files that are not used, as "name:
    reason". All tables that are used have the protocol of the nominal task.
    """
    try:
        kinds = _kinds(json.loads(read_file(cell / layout.ROBUSTNESS / GRID)))
    except (OSError, DamagedFile, *UNREADABLE):
        return [], {}, [f"{GRID}: missing or damaged"]
    tables: Tables = defaultdict(dict)
    faults: list[str] = []
    protocol: tuple[int, int] | None = None
    nominal = cell / layout.ROBUSTNESS / f"{NOMINAL}-0.csv"
    if not nominal.exists():
        faults.append(f"{nominal.name}: missing; all tables are ignored")
    paths = (cell / layout.ROBUSTNESS).glob("*.csv")
    for path in sorted(paths, key=lambda path: (path != nominal, path.name)):
        try:
            means = _means(read_file(path), policies, {NOMINAL, *(kind.name for kind in kinds)})
            kind, _, level = path.stem.partition("-")
            if (kind, float(level)) != (means.kind, means.level):
                raise ValueError(f"contains {means.kind} at {means.level:g}")
            protocol = means.protocol if path == nominal else protocol
            if protocol not in (None, means.protocol):
                raise ValueError(f"differs from {nominal.name} in its episodes or version")
        except ValueError as error:
            faults.append(f"{path.name}: {error}")
        else:
            tables[means.kind][means.level] = means
    for one in kinds:
        played = tables.get(one.name, {})
        if played and one.neutral in one.levels and one.neutral not in played:
            faults.append(f"{one.name}-{one.neutral:g}.csv: missing; all tables of {one.name} are ignored")
            del tables[one.name]
    return kinds, tables, faults


def _kinds(about: list[dict[str, Any]]) -> list[Kind]:
    return [
        Kind(
            one_line(str(facts["kind"]), MOST_TITLE),
            one_line(str(facts["title"]), MOST_TITLE),
            tuple(map(float, facts["levels"])),
            np.inf if facts["neutral"] is None else float(facts["neutral"]),
        )
        for facts in about
    ]


def _means(content: bytes, policies: dict[int, str], known: set[str]) -> Means:
    """Parse and check a table.

    Raises:
        ValueError: the table is not used; the message has the reason.
    """
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=_TYPES)[list(_TYPES)]
    except (ValueError, KeyError) as error:
        raise ValueError("not a table of episodes") from error
    kinds, levels = table["kind"].unique(), table["level"].unique()
    if set(zip(table["seed"], table["policy"], strict=True)) != set(policies.items()):
        raise ValueError("was not played by the final policies of these runs")
    if table.duplicated(["seed", "episode"]).any():
        raise ValueError("contains a duplicate episode")
    episodes = table.groupby("seed")["episode"].nunique()
    if max(len(kinds), len(levels), episodes.nunique(), table["version"].nunique()) != 1:
        raise ValueError("mixes perturbations, versions or numbers of episodes")
    if kinds[0] not in known:
        raise ValueError(f"{GRID} does not list {kinds[0]}")
    if not np.isfinite(table["return"]).all():
        raise ValueError("contains returns that are not finite")
    protocol = int(episodes.iloc[0]), int(table["version"].iloc[0])
    return Means(
        str(kinds[0]),
        float(levels[0]),
        protocol,
        table.groupby("seed")["return"].mean(),
        int(table["unstable"].sum()),
    )


def read_scores(table: Path) -> tuple[str, float, np.ndarray]:
    """Return the kind and the level of a table, and the mean return of each seed."""
    episodes = pd.read_csv(table, dtype=_TYPES)
    scores = episodes.groupby("seed")["return"].mean().to_numpy()
    return str(episodes["kind"].iloc[0]), float(episodes["level"].iloc[0]), scores
