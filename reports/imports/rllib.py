"""RLlib: result.json of a trial, with a line of JSON per iteration.

Keys are joined by "/". Versions differ: `episode_reward_mean` and `timesteps_total` are of the old API;
`env_runners/episode_return_mean` and `num_env_steps_sampled_lifetime` are of the new one. Both means are over
episodes of training, NaN or nothing where none has ended: such a line is no point. With evaluations during
training, a line has further means below `evaluation/`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from ascent.records.errors import InputError, unknown
from ascent.reports.imports.curve import (
    Absent,
    Asked,
    Curve,
    File,
    Format,
    choose,
    likely,
    number,
    points,
)

STEPS = (
    "num_env_steps_sampled_lifetime", "env_runners/num_env_steps_sampled_lifetime", "num_env_steps_sampled",
    "timesteps_total",
)  # fmt: skip
TRAINING = ("env_runners/episode_return_mean", "env_runners/episode_reward_mean", "episode_reward_mean")
EVALUATION = "evaluation/"
RETURNS = ("episode_return_mean", "episode_reward_mean")
MOST_DEPTH = 6  # of the keys that are read
MOST_LINE = 1 << 24  # bytes


def _read(sources: Sequence[File], asked: Asked) -> list[Curve]:
    (file,) = sources
    keys: dict[str, None] = {}
    rows: list[tuple[float, dict[str, float]]] = []  # step, means
    environment = ""
    for place, line in enumerate(file.read().splitlines(), 1):
        if not line.strip():
            continue
        row = _parse(line, place, file.name)
        flat = dict(_flat(row))
        keys |= dict.fromkeys(flat)
        step = next((key for key in ([asked.step] if asked.step else STEPS) if key in flat), None)
        if step is None:
            raise InputError(
                f"{file.name}, line {place}: no {asked.step or STEPS[0]}: name the key by --step-column"
            )
        means = {key: flat[key] for key in flat if key == asked.column or key.rpartition("/")[2] in RETURNS}
        rows.append((flat[step], means))
        config = row.get("config")
        if isinstance(config, dict) and isinstance(config.get("env"), str):
            environment = config["env"]
    column = asked.column or _only(list(keys), file.name)
    if column not in keys:
        raise Absent(str(unknown(f"key of {file.name}", column, likely(list(keys)))))
    # NaN: no episode has ended.
    logged = [(step, means[column]) for step, means in rows if not math.isnan(means.get(column, math.nan))]
    steps, returns = (np.array([pair[k] for pair in logged]) for k in range(2))
    if (steps % 1 != 0).any() or (steps < 0).any() or (steps > 2**53).any():
        raise InputError(f"{file.name}: a step is not a whole number of at least 0")
    return [Curve(file.name, points(steps, returns, file.name), environment=environment)]


def _parse(line: bytes, number: int, name: str) -> dict[str, Any]:
    try:
        if len(line) > MOST_LINE:
            raise ValueError(f"{len(line):,} bytes: at most {MOST_LINE:,} are read")
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise InputError(f"{name}, line {number}: no line of RLlib's result.json: {error}") from error
    return row


def _flat(row: Mapping[str, Any], above: str = "", depth: int = 1) -> Iterator[tuple[str, float]]:
    """Yield the numbers of a line by their joined keys; those of the config and of lists are left out."""
    for key, value in row.items():
        if isinstance(value, dict) and depth < MOST_DEPTH and key != "config":
            yield from _flat(value, f"{above}{key}/", depth + 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield above + key, number(value)


def _only(keys: Sequence[str], name: str) -> str:
    """Return the key of the mean over training. Raises InputError if there are means of evaluations, too."""
    means = [key for key in keys if key.rpartition("/")[2] in RETURNS]
    if not means or any(key.startswith(EVALUATION) for key in means):
        raise choose("--column", name, means or keys)
    return next((key for key in TRAINING if key in means), means[0])  # versions have it at several places


RLLIB = Format(
    "rllib",
    "RLlib: result.json",
    lambda file, _: file.head.lstrip().startswith(b"{") and b'"training_iteration"' in file.head,
    _read,
)
