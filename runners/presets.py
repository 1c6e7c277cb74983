"""Where presets come from: `algorithms/sources/<algorithm file>.toml` has an entry for each of its presets.

An entry of a preset from a public source has its title, repository, commit and files, the source's own
settings, and `differs`, what stays different from the source. A preset without one has `searched`, what was
tried on which tasks and seeds, or `origin` if nothing was searched.

`ascent tune` writes presets of its own, as files that take the place of a preset's name:

    system = "ppo"
    preset = "cleanrl"        # what the trials began from; without it, the default of the task's suite

    [set]                     # the hyperparameters of the best trial
    learning_rate = 0.0011

    [tuned]                   # where they come from; every run that is trained with them records it
    tuning = "0123456789ab"   # the beginning of the sha256 of tuning.json
    trial = 13                # the best one ...
    trials = 20               # ... of so many
    core_hours = 0.53         # what all trials took
    tasks = ["Pendulum-v1"]
"""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ascent import algorithms
from ascent.records import files, shapes
from ascent.records.errors import InputError

FOLDER = Path(algorithms.__file__).parent / "sources"
SUMMARY = ("title", "repository", "commit", "searched", "origin")  # of an entry, in cell.json
MOST_BYTES = 100_000  # of a tuned preset's file


@dataclass(frozen=True)
class Tuned:
    """A preset that `ascent tune` wrote. `tuned` is the table that runs record."""

    system: str
    preset: str | None
    settings: dict[str, Any]
    tuned: dict[str, Any]


@cache
def sources(algorithm: str) -> dict[str, dict[str, Any]]:
    """Return the entries of an algorithm file's presets; none where only modules were recorded."""
    path = FOLDER / f"{algorithm}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def summary(algorithm: str, preset: str) -> dict[str, str]:
    """Return in brief where a preset comes from; {} if it has no entry."""
    entry = sources(algorithm).get(preset, {})
    return {key: entry[key] for key in SUMMARY if key in entry}


def is_file(preset: str) -> bool:
    """Return whether the name of a preset is that of a file."""
    return preset.endswith(".toml")


def located(preset: str | None, folder: Path) -> str | None:
    """Return the name of a preset as it is, and a file, as seen from `folder`, as an absolute path."""
    return str(folder.resolve() / Path(preset).expanduser()) if preset and is_file(preset) else preset


def read(path: Path, system: str) -> Tuned:
    """Return the preset in a file of `ascent tune`.

    Raises:
        InputError: there is no such file, it is none of `ascent tune`, or it is of another system.
    """
    try:
        content = tomllib.loads(files.read(path.resolve(), MOST_BYTES).decode("utf-8-sig"))
        shapes.check(shapes.PRESET, content, path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from error
    found = Tuned(content["system"], content.get("preset"), content["set"], content["tuned"])
    if found.system != system:
        raise InputError(f"{path} is a preset of {found.system}, not of {system}")
    return found
