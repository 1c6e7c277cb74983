"""Describe the tables of a shelf in Croissant 1.0, the metadata format for datasets of MLCommons.

Specification: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

import json
from collections.abc import Mapping
from typing import Any

from ascent.records.shelf import Shelf

TEXT, INTEGER, FLOAT = "sc:Text", "sc:Integer", "sc:Float"
FORMATS = {"csv": "text/csv", "parquet": "application/x-parquet"}
CURVES = {
    "suite": (TEXT, "Suite of the task: classic, mujoco or particle"),
    "task": (TEXT, "Task"),
    "system": (TEXT, "Algorithm, or a variant of one"),
    "preset": (TEXT, "Hyperparameter preset, named after its source"),
    "setting": (TEXT, "Preset with its overrides"),
    "budget": (INTEGER, "Environment steps per seed"),
    "digest": (TEXT, "Digest of the cell, which covers all that may change a result"),
    "seed": (INTEGER, "Seed"),
    "state": (TEXT, "done or diverged"),
    "policy": (TEXT, "Policy that was evaluated, such as greedy"),
    "step": (INTEGER, "Environment steps before the evaluation"),
    "episodes": (INTEGER, "Episodes of the evaluation"),
    "return": (FLOAT, "Mean undiscounted return of the episodes"),
    "length": (FLOAT, "Mean length of the episodes, in steps"),
}
SCORES = {
    "suite": CURVES["suite"],
    "task": CURVES["task"],
    "budget": CURVES["budget"],
    "system": CURVES["system"],
    "setting": CURVES["setting"],
    "rank_from": (INTEGER, "1 + number of systems that are better on the task with this budget"),
    "rank_to": (INTEGER, "Number of systems on the task with this budget that are not worse"),
    "fragility": (INTEGER, "Failed runs that undo the weakest claim behind the rank; empty without a claim"),
    "n": (INTEGER, "Seeds"),
    "diverged": (INTEGER, "Seeds whose training diverged; they are included"),
    "mean": (FLOAT, "Mean over seeds of the mean return of the last ten evaluations"),
    "low": (FLOAT, "Lower Student-t limit of the mean; empty where more than half of the runs are equal"),
    "high": (FLOAT, "Upper Student-t limit of the mean; empty where more than half of the runs are equal"),
    "std": (FLOAT, "Standard deviation over seeds"),
    "iqm": (FLOAT, "Interquartile mean over seeds"),
    "median": (FLOAT, "Median over seeds"),
    "median_low": (FLOAT, "Lower limit of the distribution-free interval of the median"),
    "median_high": (FLOAT, "Upper limit of the distribution-free interval of the median"),
    "core_hours": (FLOAT, "Processor time of all seeds, in hours of one core"),
    "grade": (TEXT, "What stands behind the cell: recorded, replayed, restarted or retrained"),
    "policies": (TEXT, "Seeds whose final policies are kept"),
    "trained": (TEXT, "Day on which the training ended, UTC"),
    "digest": CURVES["digest"],
    "sources": (TEXT, "Digests of the sources that ran"),
    "platforms": (TEXT, "Platform keys: within one, the same run gives the same bytes"),
    "folder": (TEXT, "Folder of the cell's records"),
    "seal": (TEXT, "File with the records of all seeds"),
}


def describe(shelf: Shelf, checksums: Mapping[str, str]) -> bytes:
    """Return the content of croissant.json.

    Args:
        shelf: the shelf.
        checksums: sha256 of the tables, by file name.
    """
    content = {
        "@context": {
            "@language": "en",
            "@vocab": "https://schema.org/",
            "sc": "https://schema.org/",
            "cr": "http://mlcommons.org/croissant/",
            "dct": "http://purl.org/dc/terms/",
            "citeAs": "cr:citeAs",
            "column": "cr:column",
            "conformsTo": "dct:conformsTo",
            "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
            "extract": "cr:extract",
            "field": "cr:field",
            "fileObject": "cr:fileObject",
            "recordSet": "cr:recordSet",
            "source": "cr:source",
        },
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": f"ascent-{shelf.name}",
        "description": "Per-seed learning curves and scores of policy-gradient algorithms.",
        "license": "https://creativecommons.org/licenses/by/4.0/",
        "version": shelf.name,
        "creator": {"@type": "sc:Organization", "name": "The Ascent authors"},
        "citeAs": f"The Ascent authors: Ascent results {shelf.name}, commit {shelf.commit[:12]}",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": name,
                "name": name,
                "contentUrl": name,
                "encodingFormat": FORMATS[name.rpartition(".")[2]],
                "sha256": digest,
            }
            for name, digest in sorted(checksums.items())
        ],
        "recordSet": [
            _records("curves", "curves.parquet", CURVES),
            _records("scores", "scores.csv", SCORES),
        ],
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _records(name: str, file: str, columns: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "field": [
            {
                "@type": "cr:Field",
                "@id": f"{name}/{column}",
                "name": column,
                "description": description,
                "dataType": kind,
                "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
            }
            for column, (kind, description) in columns.items()
        ],
    }
