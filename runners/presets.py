"""Where presets come from: `algorithms/sources/<algorithm file>.toml` has an entry for each of its presets.

An entry of a preset from a public source has its title, repository, commit and files, the source's own
settings, and `differs`, what stays different from the source. A preset without one has `searched`, what was
tried on which tasks and seeds, or `origin` if nothing was searched.
"""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from ascent import algorithms

FOLDER = Path(algorithms.__file__).parent / "sources"
SUMMARY = ("title", "repository", "commit", "searched", "origin")  # of an entry, in cell.json


@cache
def sources(algorithm: str) -> dict[str, dict[str, Any]]:
    """Return the entries of an algorithm file's presets; none where only modules were recorded."""
    path = FOLDER / f"{algorithm}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def summary(algorithm: str, preset: str) -> dict[str, str]:
    """Return in brief where a preset comes from; {} if it has no entry."""
    entry = sources(algorithm).get(preset, {})
    return {key: entry[key] for key in SUMMARY if key in entry}
