"""Curves in numpy arrays: .npy with the returns, .npz with returns and steps.

Returns are (P,) of one run, (S, P) of a run per row, or (S, P, E) with the episodes of each point. Steps are
(P,), or (S, P). Arrays without steps need `--points FIRST:EVERY`.
"""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ascent.records.checkpoints import unpack_arrays
from ascent.records.errors import InputError, unknown
from ascent.records.files import zip_files
from ascent.reports.imports.curve import Asked, Curve, File, Format, choose, points, whole

MAX_ARRAYS = 1 << 28  # bytes
RETURNS = ("returns", "return", "scores", "rewards", "results")
STEPS = ("steps", "step", "timesteps")
ARRAY = "array"


def _read(sources: Sequence[File], asked: Asked) -> list[Curve]:
    (file,) = sources
    content = file.read()
    if Path(file.name).suffix == ".npy":  # as the only array of an archive, whose reader checks it
        content = zip_files({f"{ARRAY}.npy": content}, zipfile.ZIP_STORED)
    try:
        arrays = unpack_arrays(content, MAX_ARRAYS)
    except ValueError as error:
        raise InputError(f"{file.name} holds no arrays of numbers: {error}") from error
    returns = np.asarray(_named(arrays, asked.column, (ARRAY, *RETURNS), "--column", file.name))
    if returns.dtype.kind not in "iufb" or returns.ndim not in (1, 2, 3) or not returns.size:
        raise InputError(f"{file.name}: returns {returns.shape} of {returns.dtype} are no curves of numbers")
    returns = returns.astype(float).reshape((1, -1) if returns.ndim == 1 else returns.shape)
    steps = _steps(arrays, asked, returns.shape[:2], file.name)
    found = []
    for row, (curve, times) in enumerate(zip(returns, steps, strict=True)):
        episodes = curve.shape[1] if curve.ndim == 2 else 1
        name = file.name if len(returns) == 1 else f"{file.name} row {row}"
        table = points(np.repeat(times, episodes), curve.ravel(), name)
        found.append(Curve(name, table, episodes=curve.ndim == 2))
    return found


def _steps(arrays: Mapping[str, np.ndarray], asked: Asked, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return the steps (S, P) of the points."""
    if asked.points is not None:
        first, every = asked.points
        return np.broadcast_to(first + every * np.arange(shape[1]), shape)
    if asked.step is None and not any(key in arrays for key in STEPS):
        raise InputError(f"{name} has no steps: say by --points FIRST:EVERY at which steps the returns are")
    steps = _named(arrays, asked.step, STEPS, "--step-column", name)
    if steps.shape not in (shape, shape[1:]):
        raise InputError(
            f"{name}: the shapes of the steps {steps.shape} and the returns {shape} do not match"
        )
    flat = whole(pd.Series(steps.ravel(), name="step"), name)
    return np.broadcast_to(flat.reshape(steps.shape), shape)


def _named(
    arrays: Mapping[str, np.ndarray], asked: str | None, names: Sequence[str], option: str, file: str
) -> np.ndarray:
    if asked is not None:
        if asked not in arrays:
            raise unknown(f"array of {file}", asked, arrays)
        return arrays[asked]
    found = [name for name in names if name in arrays]
    if len(found) != 1:
        raise choose(option, file, found or list(arrays))
    return arrays[found[0]]


NUMPY = Format(
    "numpy",
    "numpy: .npy, .npz",
    lambda file, _: Path(file.name).suffix in (".npy", ".npz"),
    _read,
)
