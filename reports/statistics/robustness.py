"""Robustness: the tables of `ascent robustness` beside a cell's runs -> curves, what is kept, comparisons.

The score of a seed at a level is the mean return of its episodes there. What it keeps is the share of its
own nominal score, counted from the task's random score: (score - random) / (nominal - random). The area
of a curve is its mean over the levels of the grid, each counted once, without the nominal one.
"""

import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rich.table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ascent.records.declared import Declared
from ascent.records.read import DONE
from ascent.reports.page import figures
from ascent.reports.page.tables import Table, decimals, interval, limits, number, p_value, texts
from ascent.reports.statistics import stats
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.compare import Tested, both_tests, declared_pairs, hopeless

FOLDER, GRID = "robustness", "grid.json"
NOMINAL = "nominal"
LEAST = 0.05  # nominal score, normalised: a share of less than that is no measurement
_TYPES = {
    "version": int, "kind": str, "level": float, "seed": int, "policy": str, "episode": int, "return": float,
    "length": int, "unstable": int,
}  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A kind of perturbation, as the records describe it."""

    name: str
    title: str
    levels: tuple[float, ...]  # of the grid, which is fixed beforehand; levels may fall
    neutral: float  # the level at which nothing is perturbed

    @property
    def falls(self) -> bool:
        """Whether a smaller level is the harder one."""
        return self.neutral == np.inf


@dataclass(frozen=True)
class Curve:
    """A cell under one kind of perturbation, at L levels beside the nominal one.

    `scores` (L, n) and `nominal` (n,) are in units of return, by seed; `kept` (L, n) shares of the nominal
    score, None unless every seed's nominal score is clearly above the random policy's. `fixed` are the rows
    of the grid's levels, None where not all of them were played: areas and worst levels are of these.
    """

    task: Task
    summary: CellSummary
    kind: Kind
    levels: tuple[float, ...]
    nominal: np.ndarray
    scores: np.ndarray
    kept: np.ndarray | None
    fixed: list[int] | None
    protocol: tuple[int, int]  # episodes of a seed at a level, version
    unstable: int  # steps, over all levels, in which the simulator reset a bad state

    @property
    def worst(self) -> int:
        """The row of the grid's level at which the mean is smallest."""
        return min(self.fixed, key=lambda row: self.scores[row].mean())


@dataclass(frozen=True)
class Pair(Tested):
    """What two systems keep of their nominal scores under a kind, mean over its levels: `x` minus `y`."""

    x: Curve
    y: Curve
    x_kept: float
    y_kept: float


@dataclass(frozen=True)
class Robustness:
    """Everything of a report that was measured under perturbations: with the `refused` tables, why, and the
    sha256 of all `files`, by cell folder and name.
    """

    curves: tuple[Curve, ...]
    pairs: tuple[Pair, ...]
    refused: tuple[str, ...]
    files: dict[str, dict[str, str]]
    family: int  # declared comparisons, of which `pairs` could be made
    hopeless: int  # of these, so many could not have been claimed with so few runs, whatever these score


def measured(runs: Path, tasks: Sequence[Task], declared: Declared) -> Robustness:
    """The tables below `runs` of the cells of a report that have a score."""
    curves: list[Curve] = []
    refused: list[str] = []
    digests: dict[str, dict[str, str]] = {}
    for task in tasks:
        for summary in task.cells:
            name = summary.cell.name.folder
            digests[name] = files(runs / name)
            if summary.score is None or not digests[name]:
                continue
            done = {run.seed: policy(run.result) for run in summary.cell.runs if run.state == DONE}
            kinds, tables, faults = read(runs / name, done)
            refused += [f"{name}/{FOLDER}/{fault}" for fault in faults]
            curves += _curves(task, summary, kinds, tables)
    family = _family(curves, declared_pairs(tasks, declared))
    out_of_reach = hopeless([(len(x.nominal), len(y.nominal)) for x, y in family], len(family))
    pairs = tuple(_pairs(family))
    return Robustness(tuple(curves), pairs, tuple(refused), digests, len(family), out_of_reach)


def files(cell: Path) -> dict[str, str]:
    """Name -> sha256 of everything that was measured of a cell."""
    paths = sorted(path for path in (cell / FOLDER).glob("*") if path.name == GRID or path.suffix == ".csv")
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def policy(result: dict[str, Any]) -> str:
    """How tables call the policy of the run with this result.json."""
    digests = result.get("digests")
    return str(digests.get("policy.npz", ""))[:16] if isinstance(digests, dict) else ""


@dataclass(frozen=True)
class Means:
    """A table: mean return of each seed, index seed."""

    kind: str
    level: float
    protocol: tuple[int, int]  # episodes of a seed, version
    returns: pd.Series
    unstable: int  # steps in which the simulator met a bad state and reset itself


Found = dict[str, dict[float, Means]]  # kind -> level -> table


def read(cell: Path, policies: dict[int, str]) -> tuple[list[Kind], Found, list[str]]:
    """What was measured of a cell whose runs have these policies, by seed: kinds, means, and what is wrong
    with files that are not used, "name: why". All that is used has the protocol of the nominal task.
    """
    try:
        kinds = _kinds(json.loads((cell / FOLDER / GRID).read_bytes()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return [], {}, [f"{GRID}: missing or damaged"]
    found: Found = defaultdict(dict)
    faults, protocol = [], None
    nominal = cell / FOLDER / f"{NOMINAL}-0.csv"
    if not nominal.exists():
        faults.append(f"{nominal.name}: missing; without it nothing is used")
    for path in sorted((cell / FOLDER).glob("*.csv"), key=lambda path: (path != nominal, path.name)):
        try:
            means = _means(path.read_bytes(), policies, {NOMINAL, *(kind.name for kind in kinds)})
            kind, _, level = path.stem.partition("-")
            if (kind, float(level)) != (means.kind, means.level):
                raise ValueError(f"is of {means.kind} at {means.level:g}")
            protocol = means.protocol if path == nominal else protocol
            if protocol not in (None, means.protocol):
                raise ValueError(f"has other episodes or another version than {nominal.name}")
        except ValueError as error:
            faults.append(f"{path.name}: {error}")
        else:
            found[means.kind][means.level] = means
    return kinds, found, faults


def _kinds(about: list[dict[str, Any]]) -> list[Kind]:
    return [
        Kind(
            str(said["kind"]),
            str(said["title"]),
            tuple(map(float, said["levels"])),
            np.inf if said["neutral"] is None else float(said["neutral"]),
        )
        for said in about
    ]


def _means(content: bytes, policies: dict[int, str], known: set[str]) -> Means:
    """What a table holds. Raises ValueError, saying what it is not."""
    try:
        table = pd.read_csv(io.BytesIO(content), dtype=_TYPES)[list(_TYPES)]
    except (ValueError, KeyError) as error:
        raise ValueError("no table of this kind") from error
    kinds, levels = table["kind"].unique(), table["level"].unique()
    if set(zip(table["seed"], table["policy"], strict=True)) != set(policies.items()):
        raise ValueError("was played by other policies than the runs'")
    if table.duplicated(["seed", "episode"]).any():
        raise ValueError("has an episode twice")
    episodes = table.groupby("seed")["episode"].nunique()
    if max(len(kinds), len(levels), episodes.nunique(), table["version"].nunique()) != 1:
        raise ValueError("is of several perturbations, versions or numbers of episodes")
    if kinds[0] not in known:
        raise ValueError(f"{GRID} has no {kinds[0]}")
    if not np.isfinite(table["return"]).all():
        raise ValueError("has returns that are no numbers")
    protocol = int(episodes.iloc[0]), int(table["version"].iloc[0])
    return Means(
        str(kinds[0]),
        float(levels[0]),
        protocol,
        table.groupby("seed")["return"].mean(),
        int(table["unstable"].sum()),
    )


def _curves(task: Task, summary: CellSummary, kinds: Sequence[Kind], tables: Found) -> Iterator[Curve]:
    nominal = tables.get(NOMINAL, {}).get(0.0)
    if nominal is None:
        return
    anchors, base = dict(task.anchors), nominal.returns.to_numpy()
    random = anchors.get("random")
    for kind in (kind for kind in kinds if kind.name in tables):
        levels = tuple(sorted(tables[kind.name], reverse=kind.falls))
        scores = np.array([tables[kind.name][level].returns.to_numpy() for level in levels])
        kept = None
        if len(anchors) == 2 and (base - random > LEAST * abs(anchors["reference"] - random)).all():
            kept = (scores - random) / (base - random)
        fixed = [row for row, level in enumerate(levels) if level in kind.levels]
        whole = len(fixed) == len(kind.levels)
        yield Curve(
            task,
            summary,
            kind,
            levels,
            base,
            scores,
            kept,
            fixed if whole else None,
            nominal.protocol,
            sum(means.unstable for means in tables[kind.name].values()),
        )


def _family(curves: Sequence[Curve], wanted: Callable[[str, str], bool]) -> list[tuple[Curve, Curve]]:
    """The comparisons that are declared: systems of a task, under each kind whose grid both have played."""
    groups = defaultdict(list)
    for curve in curves:
        if curve.fixed and len(curve.nominal) > 1 and not curve.task.unlike:
            groups[curve.task.suite, curve.task.name, curve.kind, curve.protocol].append(curve)
    pairs = (pair for group in groups.values() for pair in combinations(group, 2))
    return [(x, y) for x, y in pairs if wanted(x.summary.label, y.summary.label)]


def _pairs(family: Sequence[tuple[Curve, Curve]]) -> list[Pair]:
    """Those that can be made, corrected for all that are declared."""
    found = [(x, y) for x, y in family if x.kept is not None and y.kept is not None]
    samples = [(x.kept[x.fixed].mean(0), y.kept[y.fixed].mean(0)) for x, y in found]
    return [
        Pair(**vars(result), x=x, y=y, x_kept=own.mean(), y_kept=other.mean())
        for (x, y), (own, other), result in zip(found, samples, both_tests(samples, len(family)), strict=True)
    ]


# ---- tables


def terminal(paths: Sequence[Path], title: str) -> rich.table.Table:
    """The tables of one cell for a terminal: mean returns with their intervals over seeds."""
    result = rich.table.Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in ("perturbation", "level", "return", f"{stats.LEVEL:.0%} interval", "n"):
        result.add_column(head, justify="left" if head == "perturbation" else "right", no_wrap=True)
    for path in paths:
        table = pd.read_csv(path, dtype=_TYPES)
        scores = table.groupby("seed")["return"].mean().to_numpy()
        low, high = stats.student_t_interval(scores)
        ends = "" if np.isnan(low) else interval(low, high, 1)
        row = (table["kind"].iloc[0], f"{table['level'].iloc[0]:g}", number(scores.mean(), 1), ends)
        result.add_row(*row, str(len(scores)))
    return result


def levels(found: Robustness) -> Table:
    """One row per cell, kind and level."""
    data = []
    for curve in found.curves:
        for level, scores, kept in _rows(curve):
            mean, (low, high) = scores.mean(), stats.student_t_interval(scores)
            row = {**_names(curve), "kind": curve.kind.name, "level": level, "n": len(scores), "mean": mean}
            row |= {"low": low, "high": high}
            if kept is not None:
                low, high = stats.student_t_interval(kept)
                row |= {"kept": kept.mean(), "kept_low": low, "kept_high": high}
            data.append(row)
    columns = ["suite", "task", "system", "digest", "kind", "level", "n", "mean", "low", "high", "kept",
               "kept_low", "kept_high"]  # fmt: skip
    frame = pd.DataFrame(data, columns=columns)
    places = {curve.summary.cell.name.digest: decimals(curve.task) for curve in found.curves}
    shown = [
        {
            "task": row["task"], "system": row["system"], "perturbation": row["kind"],
            "level": f"{row['level']:g}",
            "return": limits(row["mean"], row["low"], row["high"], places[row["digest"]]),
            "kept": limits(row["kept"], row["kept_low"], row["kept_high"], 2), "n": str(row["n"]),
        }
        for row in frame.to_dict("records")
    ]  # fmt: skip
    heads = ["task", "system", "perturbation", "level", "return", "kept", "n"]
    keys = {"level": "level", "return": "mean", "kept": "kept", "n": "n"}
    return Table("robustness", "Every level", frame, texts(shown, heads), keys)


def areas(found: Robustness) -> Table:
    """One row per cell and kind: nominal score, area under the curve, worst level, share that is kept."""
    data, shown = [], []
    for curve in (curve for curve in found.curves if curve.fixed):
        area, worst = curve.scores[curve.fixed].mean(0), curve.scores[curve.worst]
        row = {**_names(curve), "kind": curve.kind.name, "n": len(area), "levels": len(curve.fixed)}
        for name, sample in (("nominal", curve.nominal), ("area", area), ("worst", worst)):
            low, high = stats.student_t_interval(sample)
            row |= {name: sample.mean(), f"{name}_low": low, f"{name}_high": high}
        row["worst_level"] = curve.levels[curve.worst]
        if curve.kept is not None:
            kept = curve.kept[curve.fixed].mean(0)
            low, high = stats.student_t_interval(kept)
            row |= {"kept": kept.mean(), "kept_low": low, "kept_high": high}
        data.append(row)
        places = decimals(curve.task)
        shown.append({
            "task": curve.task.name, "system": curve.summary.label, "perturbation": curve.kind.name,
            **{
                name: limits(row[name], row[f"{name}_low"], row[f"{name}_high"], places)
                for name in ("nominal", "area")
            },
            "worst": f"{number(row['worst'], places)} (at {row['worst_level']:g})",
            "kept": limits(row["kept"], row["kept_low"], row["kept_high"], 2) if "kept" in row else "",
            "n": str(row["n"]),
        })  # fmt: skip
    columns = ["suite", "task", "system", "digest", "kind", "n", "levels",
               *(f"{name}{end}" for name in ("nominal", "area", "worst") for end in ("", "_low", "_high")),
               "worst_level", "kept", "kept_low", "kept_high"]  # fmt: skip
    heads = ["task", "system", "perturbation", "nominal", "area", "worst", "kept", "n"]
    keys = {name: name for name in ("nominal", "area", "worst", "kept", "n")}
    frame = pd.DataFrame(data, columns=columns)
    return Table("robustness_areas", "Areas and worst cases", frame, texts(shown, heads), keys)


def comparisons(found: Robustness) -> Table:
    """One row per kind and two systems: who keeps more."""
    data, shown = [], []
    for pair in found.pairs:
        welch = pair.welch
        x, y = pair.x.summary, pair.y.summary
        data.append({
            "suite": pair.x.task.suite, "task": pair.x.task.name, "kind": pair.x.kind.name,
            "x": x.label, "x_digest": x.cell.name.digest, "y": y.label, "y_digest": y.cell.name.digest,
            "x_kept": pair.x_kept, "y_kept": pair.y_kept,
            "difference": welch.difference, "low": welch.low, "high": welch.high, "t": welch.t,
            "df": welch.df, "p_welch": welch.p, "p_permutation": pair.p_permutation,
            "p_welch_holm": pair.p_welch_holm, "p_permutation_holm": pair.p_permutation_holm,
            "differs": pair.differs,
        })  # fmt: skip
        shown.append({
            "task": pair.x.task.name, "perturbation": pair.x.kind.name, "x": x.label, "y": y.label,
            "x keeps": number(pair.x_kept, 2), "y keeps": number(pair.y_kept, 2),
            "x - y": number(welch.difference, 2),
            "95% interval": "" if np.isnan(welch.low) else interval(welch.low, welch.high, 2),
            "differ": "yes" if pair.differs else "not shown",
            "Holm: Welch": p_value(pair.p_welch_holm), "Holm: permutation": p_value(pair.p_permutation_holm),
        })  # fmt: skip
    heads = ["task", "perturbation", "x", "y", "x keeps", "y keeps", "x - y", "95% interval", "differ",
             "Holm: Welch", "Holm: permutation"]  # fmt: skip
    keys = {
        "x keeps": "x_kept", "y keeps": "y_kept", "x - y": "difference", "95% interval": "low",
        "Holm: Welch": "p_welch_holm", "Holm: permutation": "p_permutation_holm",
    }  # fmt: skip
    frame = pd.DataFrame(data)
    return Table("robustness_comparisons", "Who keeps more", frame, texts(shown, heads), keys)


def _names(curve: Curve) -> dict[str, str]:
    name = curve.summary.cell.name
    return {"suite": name.suite, "task": name.task, "system": curve.summary.label, "digest": name.digest}


def _rows(curve: Curve) -> Iterator[tuple[float, np.ndarray, np.ndarray | None]]:
    """Level, scores and what is kept; the nominal level in its place among the others."""
    ones = None if curve.kept is None else np.ones_like(curve.nominal)
    rows = [(curve.kind.neutral, curve.nominal, ones)]
    kept = curve.kept if curve.kept is not None else [None] * len(curve.levels)
    rows += zip(curve.levels, curve.scores, kept, strict=True)
    return iter(sorted(rows, key=lambda row: row[0], reverse=curve.kind.falls))


# ---- figures


def figure(curves: Sequence[Curve], style: figures.Style) -> Figure:
    """The cells of one task: a panel for each kind, a line for each system, bands as in learning curves.

    Levels stand at equal distances. Call it within `figures.drawing()`.
    """
    kinds = list(dict.fromkeys(curve.kind for curve in curves))
    labels = list(dict.fromkeys(curve.summary.label for curve in curves))
    columns = min(len(kinds), 4)
    rows = -(-len(kinds) // columns)
    legend, panel, gap = 0.2 + 0.2 * -(-len(labels) // 4), 1.7, 0.75
    result = Figure(figsize=(figures.WIDTH, legend + rows * (panel + gap)))
    box = figures.Boxes(result, left=0.75, right=0.2)
    limits = [curve.scores.mean(1) for curve in curves] + [curve.nominal.mean()[None] for curve in curves]
    limits += [np.array([score]) for name, score in curves[0].task.anchors if name == "random"]
    low, high = min(map(np.min, limits)), max(map(np.max, limits))
    margin = 0.05 * (high - low) or 1.0
    for k, kind in enumerate(kinds):
        row, column = divmod(k, columns)
        top = legend + 0.25 + row * (panel + gap)
        axes = result.add_axes(box.place(top, panel, column, columns))
        _draw(axes, [curve for curve in curves if curve.kind == kind], style)
        axes.set_ylim(low - margin, high + margin)
        axes.tick_params(labelleft=column == 0, labelsize=7)
        axes.set_title(kind.title, fontsize=8, loc="left")
        if column == 0:
            axes.set_ylabel("return")
    for label in labels:
        colour, dash = style[label]
        axes.plot([], [], color=colour, linestyle=dash, lw=1.8, label=label)
    result.legend(
        loc="upper left", bbox_to_anchor=(0.65 / figures.WIDTH, 1.0), ncols=min(len(labels), 4), frameon=False
    )
    return result


def _draw(axes: Axes, curves: Sequence[Curve], style: figures.Style) -> None:
    table = [(curve, list(_rows(curve))) for curve in curves]
    places = sorted({row[0] for _, rows in table for row in rows}, reverse=curves[0].kind.falls)
    for curve, rows in table:
        colour, dash = style[curve.summary.label]
        x = [places.index(level) for level, _, _ in rows]
        scores = np.array([scores for _, scores, _ in rows])
        low, high = stats.student_t_interval(scores.T)
        axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
        axes.plot(x, scores.mean(1), color=colour, linestyle=dash, lw=1.6, marker=".", ms=4)
    neutral = curves[0].kind.neutral
    axes.axvline(places.index(neutral), color=figures.ANCHOR, lw=0.8, linestyle=":", zorder=1)
    names = ["never" if np.isinf(place) else f"{place:g}" for place in places]
    axes.set_xticks(range(len(places)), names)
