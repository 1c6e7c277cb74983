"""What of a report was declared before its first run, by the plan under which the runs were started."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ascent.records import ledger
from ascent.records.declared import Declared, Design
from ascent.records.errors import InputError, differences
from ascent.records.plan import seed_ranges
from ascent.records.read import CellRecord


def undeclared(cell: CellRecord, declared: Declared, runs: Path, design: Design | None = None) -> list[str]:
    """Return what was not declared before the first run of a cell, in a few words each; empty if all was.

    Args:
        cell: the cell, with the seeds that are reported.
        declared: the settings of the report.
        runs: the folder of run records, with its ledger.
        design: the stages of the report.
    """
    if cell.imported:
        return ["imported"]
    names = _plans(cell)
    found: list[str] = []
    for name, seeds in sorted(names.items()):
        where = f"seeds {seed_ranges(seeds)}" if len(names) > 1 else "its runs"
        if not name:
            found.append(f"{where} name no plan")
        elif (plan := ledger.plan(name, runs)) is None:
            found.append(f"{where} name plan {name}, which is not in the ledger")
        else:
            found += [f"by plan {name} of {where}, {what}" for what in _changes(cell, declared, design, plan)]
    return found


def looks(cell: CellRecord, runs: Path) -> tuple[int, ...]:
    """Return the numbers of seeds at which a cell was whole by the plans of its runs, each without a design.

    Whoever adds seeds after a look at the scores looks that often; see `false_alarm_rate`.
    """
    plans = [plan for name in _plans(cell) if (plan := ledger.plan(name, runs)) is not None]
    reported = set(cell.name.seeds)
    sizes = {len(seeds) for plan in plans if (seeds := set(_seeds(plan, cell))) and seeds <= reported}
    return tuple(sorted(sizes | {len(reported)}))


def _plans(cell: CellRecord) -> dict[str, list[int]]:
    """Return the plans that the runs of a cell name, with their seeds; "" is none."""
    names: dict[str, list[int]] = {}
    for run in cell.runs:
        if run.about:
            names.setdefault(str(run.about.get("plan", "")), []).append(run.seed)
    return names


def _seeds(plan: Mapping[str, Any], cell: CellRecord) -> tuple[int, ...]:
    """Return the seeds that a plan has of a cell."""
    return {entry["folder"]: tuple(entry["seeds"]) for entry in plan["cells"]}.get(cell.name.folder, ())


def _design(plan: Mapping[str, Any]) -> Design | None:
    """Return the design of a plan; None if it has none, or one that no version reads."""
    try:
        return Design.of(plan.get("tables", {}))
    except InputError:
        return None


def _changes(
    cell: CellRecord, declared: Declared, design: Design | None, plan: Mapping[str, Any]
) -> list[str]:
    """Return how a plan differs from what is reported."""
    entry: dict[str, Any] = {entry["folder"]: entry for entry in plan["cells"]}.get(cell.name.folder, {})
    seeds, then_design = tuple(entry.get("seeds", ())), _design(plan)
    found = []
    if entry and entry.get("name", "") != cell.name.name:
        called = (repr(name) if name else "without a name" for name in (entry.get("name"), cell.name.name))
        found.append("the system was {}, not {}".format(*called))
    if then_design != design:
        found.append("another design was declared" if then_design and design else
                     "a design was declared" if then_design else "no design was declared")  # fmt: skip
    in_stages = design is not None and design == then_design and len(cell.name.seeds) in design.ends
    if seeds != cell.name.seeds and not (in_stages and seeds[: len(cell.name.seeds)] == cell.name.seeds):
        found.append(f"the seeds are {seed_ranges(seeds) or 'none'}, not {seed_ranges(cell.name.seeds)}")
    # A plan of an earlier version lacks what was added since: then it declares the default.
    then = asdict(Declared()) | plan["report"]
    if changed := differences(then, json.loads(json.dumps(asdict(declared)))):
        found.append(f"other settings were declared: {changed}")
    return found
