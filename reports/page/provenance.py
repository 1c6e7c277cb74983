"""Provenance: where the numbers of a report come from, per run and for the whole report (provenance.json)."""

import json
import platform
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import numpy as np

from ascent.records.read import STATES, RunRecord
from ascent.reports.statistics.aggregate import CellSummary
from ascent.reports.statistics.study import Study

PACKAGES = ("matplotlib", "numpy", "pandas", "pyarrow", "scipy", "seaborn", "statsmodels")


def provenance(study: Study) -> str:
    """Return the text of provenance.json.

    It holds what the report was made from (enough to make it again), the settings of its cells, and every
    expected run.
    """
    cells = [summary for task in study.tasks for summary in task.cells]
    keys = ("algorithm", "config", "source", "steps", "evaluation", "versions", "spec")
    report = {
        "title": study.title,
        "settings": asdict(study.declared),
        "expected": [summary.cell.name.to_json() for summary in cells],
        "left_out": study.left_out,
        "started": {cell.name.folder: list(cell.started) for cell in study.cells},
        "grades": dict(study.grades),
        "family": study.comparisons.family,
        "made_with": made_with(),
    }
    if study.staged:
        report["design"] = asdict(study.staged.design)
    content = {
        "report": report,
        "estimator": study.declared.estimator,
        "cells": [
            {
                "folder": summary.cell.name.folder,
                "robustness": study.robustness.files.get(summary.cell.name.folder, {}),
            }
            | {key: summary.cell.facts.get(key) for key in keys}
            for summary in cells
        ],
        "runs": [run_provenance(summary, run) for summary in cells for run in summary.cell.runs],
    }
    if study.crossplay.files:
        content["crossplay"] = study.crossplay.files
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def made_with() -> dict[str, str]:
    """Return what the bytes of a report depend on beside its records: package versions and vector units."""
    config: dict[str, Any] = np.show_config(mode="dicts")  # type: ignore[assignment]  # typed as None
    extensions = config["SIMD Extensions"].get("found") or ["baseline"]
    machine = f"{platform.machine()}/{extensions[-1]}"
    return {
        "python": platform.python_version(),
        "platform": machine,
        **{name: version(name) for name in PACKAGES},
    }


def run_provenance(summary: CellSummary, run: RunRecord) -> dict[str, Any]:
    """Return where the numbers of a run come from; values are None where the record does not say."""
    attempts = run.about.get("attempts") or []
    platform = run.about.get("platform") or {}
    scores = {name: by_seed.get(run.seed) for name, by_seed in summary.run_scores.items()}
    return {
        "folder": run.folder,
        "seed": run.seed,
        "state": run.state,
        "note": run.note,
        "scores": {
            name: None if score != score else score for name, score in scores.items()
        },  # no NaN in JSON
        "steps": run.result.get("steps"),
        "unstable_steps": run.result.get("unstable_steps") or {},
        "result_digest": run.result.get("digest"),
        "source_digest": run.about.get("source_digest"),
        "lock_digest": run.about.get("lock_digest"),
        "commit": run.about.get("commit"),
        "dirty": run.about.get("dirty"),
        "packages": run.about.get("packages") or {},
        "platform": platform.get("key"),
        "cpu": platform.get("cpu"),
        "threads": platform.get("threads"),
        "flags": platform.get("flags") or {},
        "mixed_platforms": mixed_platforms(run),
        "attempts": len(attempts),
        "devices": _distinct(attempt.get("device") for attempt in attempts),
        "packs": _distinct(attempt.get("pack") for attempt in attempts),
        "wall_s": sum(attempt.get("wall_s") or 0 for attempt in attempts),
        "cpu_s": sum(attempt.get("cpu_s") or 0 for attempt in attempts),
        "core_s": run.core_seconds,
        "restarts": max(len(attempts) - 1, 0),
        "lost_wall_s": sum(attempt.get("lost_wall_s") or 0 for attempt in attempts),
    }


def mixed_platforms(run: RunRecord) -> list[str]:
    """Return the platforms that a finished run used in turn; none alone need reproduce its bytes."""
    return run.about.get("mixed_platforms") or [] if run.finished else []


def state_counts(runs: Iterable[RunRecord]) -> dict[str, int]:
    """Return the number of runs in each of the five states."""
    states = [run.state for run in runs]
    return {state: states.count(state) for state in STATES}


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Return the distinct values in the order of first appearance; values may be lists."""
    distinct: list[Any] = []
    for value in values:
        if value is not None and value not in distinct:
            distinct.append(value)
    return distinct
