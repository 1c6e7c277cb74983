"""The files of a tuning: `tuning.json`, its record; `trials.csv`; and `preset.toml`, which sweeps take.

`tuning.json` has what was declared and all trials, and nothing that depends on time or place: a tuning that
was stopped and resumed ends with the same bytes. What the trials took is in `trials.csv` and `preset.toml`.
"""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ascent.records import files
from ascent.records.errors import DamagedFile, InputError, differences
from ascent.reports.tuning.declaration import Tuning
from ascent.reports.tuning.search import Trial, best

RECORD, TRIALS, PRESET = "tuning.json", "trials.csv", "preset.toml"
FORMAT = 1


class Record:
    """The record of a tuning, in its folder. Trials that it has already must come again.

    Raises:
        InputError: the folder has the record of another tuning.
    """

    def __init__(self, tuning: Tuning, folder: Path) -> None:
        self.tuning, self.folder = tuning, folder
        self.path = folder / RECORD
        self.declared: dict[str, Any] = json.loads(
            json.dumps(tuning.to_json() | {"optuna": version("optuna")}, default=str)
        )
        self.earlier: list[dict[str, Any]] = []
        if not self.path.exists():
            return
        content = files.read_json(self.path)
        declared, trials = content.get("tuning"), content.get("trials")
        if content.get("format") != FORMAT or not isinstance(declared, dict) or not isinstance(trials, list):
            raise DamagedFile(f"{self.path} is no record of a tuning of format {FORMAT}")
        if declared != self.declared:
            raise InputError(
                f"{folder} has another tuning: {differences(declared, self.declared)}; choose another --out"
            )
        if len(trials) > tuning.trials:
            raise InputError(f"{folder} has {len(trials)} trials already: trials must be at least that many")
        self.earlier = trials

    def write(self, trials: Sequence[Trial]) -> str:
        """Write the trials so far, and return the digest of the record.

        Raises:
            DamagedFile: a recorded trial is not what its runs and the sampler say.
        """
        found: list[dict[str, Any]] = json.loads(
            json.dumps([trial.to_json() for trial in trials], default=str)
        )
        for recorded, trial in zip(self.earlier, found, strict=False):
            if recorded != trial:
                changed = differences(recorded, trial) if isinstance(recorded, dict) else "it is no table"
                raise DamagedFile(
                    f"{self.path}: trial {trial['number']} is not what its runs give: {changed}"
                )
        found += self.earlier[len(found) :]
        seeds, tasks = len(self.tuning.seeds), len(self.tuning.tasks)
        budget = {"trials": self.tuning.trials, "runs": self.tuning.trials * seeds * tasks}
        content = {"format": FORMAT, "tuning": self.declared, "budget": budget, "trials": found}
        data = files.json_bytes(content)
        self.folder.mkdir(parents=True, exist_ok=True)
        files.write(self.path, data)
        return sha256(data).hexdigest()

    def finish(self, trials: Sequence[Trial]) -> Path:
        """Write all files of a tuning that has its trials, and return the preset's."""
        digest = self.write(trials)
        rows = [
            {
                "trial": trial.number,
                "state": trial.state,
                "seeds": trial.seeds,
                "score": trial.score,
                "core_hours": round(trial.core_seconds / 3600, 6),
                **{name: _text(value) for name, value in trial.values.items()},
            }
            for trial in trials
        ]
        files.write(
            self.folder / TRIALS, pd.DataFrame(rows).to_csv(index=False, lineterminator="\n").encode()
        )
        path = self.folder / PRESET
        files.write(path, preset(self.tuning, trials, digest).encode())
        return path


def core_hours(trials: Sequence[Trial]) -> float:
    """Return what the runs of the trials took, in hours of one core."""
    return sum(trial.core_seconds for trial in trials) / 3600


def preset(tuning: Tuning, trials: Sequence[Trial], digest: str) -> str:
    """Return the text of the best trial's preset; `digest` is that of the record."""
    found = best(trials)
    bases = {cell.preset for cell in tuning.base}
    head: dict[str, Any] = {"system": tuning.system}
    if len(bases) == 1:
        head["preset"] = bases.pop()
    tuned = {
        "tuning": digest[:12],
        "trial": found.number,
        "trials": len(trials),
        "core_hours": float(f"{core_hours(trials):.4g}"),
        "tasks": list(tuning.tasks),
    }
    return "\n".join(
        [
            f"# The best of {len(trials)} trials of `ascent tune`, for sweeps and --preset: docs/tuning.md.",
            *_lines(head),
            "",
            "[set]",
            *_lines({**tuning.fixed, **found.values}),
            "",
            "[tuned]",
            *_lines(tuned),
            "",
        ]
    )


def _lines(table: Mapping[str, Any]) -> list[str]:
    """Return the lines of a TOML table of texts, numbers, flags and lists of them."""
    return [f"{name} = {json.dumps(value, default=str)}" for name, value in table.items()]


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple) else value
