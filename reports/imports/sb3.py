"""Stable-Baselines3: evaluations.npz of its EvalCallback, and the logs of its Monitor.

Monitor writes one file per environment, `0.monitor.csv`, `1.monitor.csv`, ... in the folder of a run: a line
`#{"t_start": ..., "env_id": ...}`, then columns r (return), l (length), t (seconds since t_start), a row per
episode. The step of an episode is the running sum of the lengths, over all environments, in the order in
which the episodes ended: that of `stable_baselines3.common.results_plotter.ts2xy`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ascent.records.checkpoints import unpack_arrays
from ascent.records.errors import InputError
from ascent.reports.imports.curve import COLUMNS, Asked, Curve, File, Format, points, read_table, real, whole

MAX_ARRAYS = 1 << 25  # bytes of an evaluations.npz: four million numbers
ENVIRONMENT = re.compile(r"\d+\.monitor\.csv")  # the file of one environment of a run


def _read_evaluations(sources: Sequence[File], asked: Asked) -> list[Curve]:
    """Read timesteps (T,), results and ep_lengths (T, episodes)."""
    (file,) = sources
    try:
        arrays = unpack_arrays(file.read(), MAX_ARRAYS)
        steps, returns = arrays["timesteps"], np.asarray(arrays["results"], dtype=float)
        lengths = arrays["ep_lengths"] if "ep_lengths" in arrays else np.zeros(returns.shape, np.int64)
    except (ValueError, KeyError) as error:
        raise InputError(f"{file.name} is not an evaluations.npz of Stable-Baselines3: {error}") from error
    if returns.ndim != 2 or steps.shape != returns.shape[:1] or lengths.shape != returns.shape:
        raise InputError(
            f"{file.name}: the shapes of timesteps {steps.shape} and results {returns.shape} do not match"
        )
    times = np.repeat(whole(pd.Series(steps, name="timesteps"), file.name), returns.shape[1])
    flat = whole(pd.Series(lengths.ravel(), name="ep_lengths"), file.name)
    return [Curve(file.name, points(times, returns.ravel(), file.name, flat), episodes=True)]


def _read_monitor(sources: Sequence[File], asked: Asked) -> list[Curve]:
    tables, environments = [], set()
    for file in sources:
        first, _, rest = file.read().partition(b"\n")
        try:
            about = json.loads(first.lstrip(b"\xef\xbb\xbf").removeprefix(b"#"))
            start, environment = float(about["t_start"]), str(about.get("env_id"))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise InputError(f"{file.name} is no log of Monitor: its first line is damaged") from error
        if rest.count(b"\n") < 2 and not rest.partition(b"\n")[2].strip():
            continue  # an environment in which no episode has ended
        table = read_table(rest, file.name, ["r", "l", "t"])
        ended = start + real(table["t"], file.name)
        length = whole(table["l"], file.name)
        tables.append(pd.DataFrame({"return": real(table["r"], file.name), "length": length, "ended": ended}))
        environments |= {environment} - {"None"}
    name = sources[0].name if len(sources) == 1 else sources[0].folder
    if not tables:
        raise InputError(f"{name}: no episode has ended")
    if len(environments) > 1:
        raise InputError(f"{name}: files of several environments: {', '.join(sorted(environments))}")
    rows = pd.concat(tables).sort_values("ended", kind="stable", ignore_index=True)
    curve = points(
        rows["length"].cumsum().to_numpy(), rows["return"].to_numpy(), name, rows["length"].to_numpy()
    )
    return [Curve(name, curve[COLUMNS], episodes=True, environment="".join(environments))]


def _run(file: File) -> str:
    return str(file.path.parent if ENVIRONMENT.fullmatch(file.path.name) else file.path)


def _is_evaluations(file: File, asked: Asked) -> bool:
    return Path(file.name).suffix == ".npz" and b"timesteps.npy" in file.head


EVALUATIONS = Format(
    "sb3-evaluations", "Stable-Baselines3: evaluations.npz", _is_evaluations, _read_evaluations
)
MONITOR = Format(
    "sb3-monitor",
    "Stable-Baselines3: *monitor.csv",
    lambda file, _: file.head.startswith(b"#{") and b"\nr,l,t" in file.head.replace(b"\r", b""),
    _read_monitor,
    _run,
)
