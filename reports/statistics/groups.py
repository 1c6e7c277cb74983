"""Groups: which cells of a task are alike, so that they may be compared, and what sets the others apart."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ascent.records.read import CellRecord
from ascent.reports.statistics.imported import incomparable

if TYPE_CHECKING:
    from ascent.reports.statistics.aggregate import CellSummary

_Needed = dict[str, str]  # what a comparison needs to be equal, in words -> its value as text
_PACKAGES = "the versions of the packages that define it"
_BUDGET = "the step budget"
_EVALUATION = "the evaluation protocol"
_SPECIFICATION = "the task's specification"
_SUITE = "the suite's version"
_NEEDED = (_PACKAGES, _BUDGET, _EVALUATION, _SPECIFICATION, _SUITE)


def alike(
    summaries: "Sequence[CellSummary]", task: str
) -> "tuple[tuple[tuple[CellSummary, ...], ...], tuple[str, ...]]":
    """Return the cells of one task that may be compared with each other, and notes on what sets cells apart.

    The cells of a group are alike in all that a comparison needs to be equal. A cell that lacks some of it
    joins the largest group that is like it in the rest. Groups are sorted by size, then by first cell.
    Imported curves of another or an unknown environment or convention are in no group.
    """
    outside = {summary: reason for summary in summaries if (reason := incomparable(summary.cell, task))}
    needed = _needed([summary for summary in summaries if summary not in outside])
    groups: list[list[CellSummary]] = []
    inside = [summary for summary in summaries if summary not in outside]
    for summary in sorted(inside, key=lambda summary: -len(needed[summary])):
        like = [group for group in groups if not _unlike(needed[summary], needed[group[0]])]
        if like:
            max(like, key=len).append(summary)
        else:
            groups.append([summary])
    ordered = [tuple(sorted(group, key=list(summaries).index)) for group in groups]
    ordered.sort(key=lambda group: (-len(group), list(summaries).index(group[0])))
    notes = _apart(ordered, needed)
    if outside:
        named = "; ".join(f"{summary.label} ({reason})" for summary, reason in outside.items())
        notes.append(f"Imported, described and not compared: {named}.")
    return tuple(ordered), tuple(notes)


def _apart(groups: "Sequence[tuple[CellSummary, ...]]", needed: "Mapping[CellSummary, _Needed]") -> list[str]:
    """Describe what sets groups of cells apart; [] if there is one group at most."""
    several = [group for group in groups if len(group) > 1]
    single = [group[0] for group in groups if len(group) == 1]
    if len(groups) < 2:
        return []
    every = [needed[group[0]] for group in groups]
    what = " and ".join(
        name for name in _NEEDED if len({needs[name] for needs in every if name in needs}) > 1
    )
    if not several:
        return [f"The cells of this task differ in {what}: they are not compared, and none is bold."]
    notes = []
    if len(several) > 1:
        named = "; ".join(f"{', '.join(s.label for s in group)} ({_protocol(group[0])})" for group in several)
        notes.append(
            f"The cells of this task differ in {what}. They are compared within these groups only: {named}."
        )
    apart: dict[str, list[str]] = {}
    for summary in single:
        from_all = min((_unlike(needed[summary], needed[group[0]]) for group in several), key=len)
        apart.setdefault(" and ".join(from_all), []).append(summary.label)
    return notes + [
        f"Not compared with the other cells, for a difference in {what}: {', '.join(labels)}."
        for what, labels in apart.items()
    ]


def _protocol(summary: "CellSummary") -> str:
    """Return the budget and the evaluations of a cell in a few words."""
    facts = summary.cell.facts
    if not facts:
        return "no cell.json"
    evaluation = facts["evaluation"]
    return (
        f"{facts['steps']:,} steps, {evaluation['points']} evaluations of {evaluation['episodes']} episodes"
    )


def _unlike(one: _Needed, other: _Needed) -> list[str]:
    """Return in what two cells differ that a comparison needs to be equal."""
    return [name for name in _NEEDED if name in one and name in other and one[name] != other[name]]


def _needed(summaries: "Sequence[CellSummary]") -> "dict[CellSummary, _Needed]":
    """Return what a comparison needs to be equal, of each cell as far as it is recorded, as text."""
    return {summary: _needs(summary.cell) for summary in summaries}


def _needs(cell: CellRecord) -> _Needed:
    facts = cell.facts
    if not facts:
        return {}
    values: dict[str, Any] = {_BUDGET: facts["steps"]}
    if not cell.imported:
        values |= {
            _EVALUATION: facts["evaluation"],
            _SPECIFICATION: facts["spec"],
            _SUITE: facts["versions"].get("suite"),
        }
        if cell.finished:
            values[_PACKAGES] = _simulator(cell)
    return {name: json.dumps(value, sort_keys=True) for name, value in values.items()}


def _simulator(cell: CellRecord) -> list[dict[str, str | None]]:
    """Return the distinct sets of versions of the packages that define the task, over the cell's runs."""
    names = cell.facts["spec"].get("packages") or []
    versions = [
        {name: (run.about.get("packages") or {}).get(name) for name in names}
        for run in cell.runs
        if run.finished
    ]
    return [entry for k, entry in enumerate(versions) if entry not in versions[:k]]
