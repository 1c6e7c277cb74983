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
    MOST_NUMBER,
    Absent,
    Asked,
    Curve,
    File,
    Format,
    choose,
    likely,
    points,
)

STEPS = (
    "num_env_steps_sampled_lifetime", "env_runners/num_env_steps_sampled_lifetime", "num_env_steps_sampled",
    "timesteps_total",
)  # fmt: skip
RETURNS = ("episode_return_mean", "episode_reward_mean")
MOST_DEPTH = 6  # of the keys that are read
MOST_LINE = 1 << 24  # bytes


def _read(sources: Sequence[File], asked: Asked) -> list[Curve]:
    (file,) = sources
    steps: list[float] = []
    returns: list[float] = []
    keys: dict[str, None] = {}
    column = asked.column
    environment = ""
    for number, line in enumerate(file.read().splitlines(), 1):
        if not line.strip():
            continue
        row = _parse(line, number, file.name)
        flat = dict(_flat(row))
        keys |= dict.fromkeys(flat)
        if column is None:
            column = _only([key for key in flat if key.rpartition("/")[2] in RETURNS], flat, file.name)
        step = next(
            (key for key in ((asked.step,) if asked.step else STEPS) if flat.get(key) is not None), None
        )
        if step is None:
            raise InputError(
                f"{file.name}, line {number}: no {asked.step or STEPS[0]}: name the key by --step-column"
            )
        config = row.get("config")
        if isinstance(config, dict) and isinstance(config.get("env"), str):
            environment = config["env"]
        value = flat.get(column)
        if value is not None and not math.isnan(value):  # NaN: no episode has ended
            steps.append(flat[step])
            returns.append(value)
    if column not in keys:
        raise Absent(str(unknown(f"key of {file.name}", str(column), likely(list(keys)))))
    times = np.array(steps)
    if (times % 1 != 0).any() or (times < 0).any():
        raise InputError(f"{file.name}: a step is not a whole number of at least 0")
    return [Curve(file.name, points(times, np.array(returns), file.name), environment=environment)]


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
            yield above + key, float(value) if abs(value) < MOST_NUMBER else math.copysign(math.inf, value)


def _only(keys: Sequence[str], flat: Mapping[str, float], name: str) -> str:
    """Return the only key of returns. Raises InputError if there is another number of them."""
    # The old API has the same mean at two places.
    distinct = [key for key in keys if key.removeprefix("sampler_results/") == key or len(keys) == 1]
    if len(distinct) != 1:
        raise choose("--column", name, distinct or list(flat))
    return distinct[0]


RLLIB = Format(
    "rllib",
    "RLlib: result.json",
    lambda file, _: file.head.lstrip().startswith(b"{") and b'"training_iteration"' in file.head,
    _read,
)
