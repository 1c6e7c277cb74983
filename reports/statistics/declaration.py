"""What of a report was declared before its first run, by the plan under which the runs were started."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ascent.records import ledger
from ascent.records.declared import Declared
from ascent.records.errors import differences
from ascent.records.plan import seed_ranges
from ascent.records.read import CellRecord


def undeclared(cell: CellRecord, declared: Declared, runs: Path) -> list[str]:
    """Return what was not declared before the first run of a cell, in a few words each; empty if all was.

    Args:
        cell: the cell, with the seeds that are reported.
        declared: the settings of the report.
        runs: the folder of run records, with its ledger.
    """
    if cell.imported:
        return ["imported"]
    names: dict[str, list[int]] = {}
    for run in cell.runs:
        if run.about:
            names.setdefault(str(run.about.get("plan", "")), []).append(run.seed)
    found: list[str] = []
    for name, seeds in sorted(names.items()):
        where = f"seeds {seed_ranges(seeds)}" if len(names) > 1 else "its runs"
        if not name:
            found.append(f"{where} name no plan")
        elif (plan := ledger.plan(name, runs)) is None:
            found.append(f"{where} name plan {name}, which is not in the ledger")
        else:
            found += [f"by plan {name} of {where}, {what}" for what in _changes(cell, declared, plan)]
    return found


def _changes(cell: CellRecord, declared: Declared, plan: Mapping[str, Any]) -> list[str]:
    """Return how a plan differs from what is reported."""
    seeds = {entry["folder"]: tuple(entry["seeds"]) for entry in plan["cells"]}.get(cell.name.folder, ())
    found = []
    if seeds != cell.name.seeds:
        found.append(f"the seeds are {seed_ranges(seeds) or 'none'}, not {seed_ranges(cell.name.seeds)}")
    # A plan of an earlier version lacks what was added since: then it declares the default.
    then = asdict(Declared()) | plan["report"]
    if changed := differences(then, json.loads(json.dumps(asdict(declared)))):
        found.append(f"other settings were declared: {changed}")
    return found
