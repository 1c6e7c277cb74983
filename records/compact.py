"""The compact form of train.csv, which grows to megabytes where episodes are short: its last rows, and bins.

    train-last.csv    the last 1,000 rows of train.csv
    train-bins.csv    bin,episodes and, of each number of an episode, <name>_mean, <name>_sd, <name>_min,
                      <name>_max, to six digits

The steps of a run are cut into 200 bins of equal length, 0 to 199; a bin without an episode has no row. An
episode belongs to the bin of the step at which it ended. The standard deviation has divisor n - 1, and is 0
of a single episode. result.json has the digests of both files from the start, so that train.csv can be left
out later (`seal.py`).
"""

import math
from collections.abc import Iterable, Sequence
from itertools import groupby

from ascent.records import layout

LAST = 1000  # rows
BINS = 200
STATISTICS = ("mean", "sd", "min", "max")
PLACE = ("step", "env")  # columns that say where an episode ended


def compact(train: bytes, steps: int) -> dict[str, bytes]:
    """Return the two files of the compact form, by name.

    Args:
        train: content of train.csv.
        steps: environment steps that the run reached.
    """
    head, *lines = train.decode().splitlines()
    names = head.split(",")
    rows = [line.split(",") for line in lines]
    numbers = [position for position, name in enumerate(names) if name not in PLACE]
    table = [",".join(header(names))]
    for number, of_bin in groupby(rows, lambda row: bin_of(int(row[0]), steps)):
        episodes = list(of_bin)
        cells = (text for n in numbers for text in _summary([float(row[n]) for row in episodes]))
        table.append(",".join([str(number), str(len(episodes)), *cells]))
    return {
        layout.TRAIN_LAST: _text([head, *lines[-LAST:]]),
        layout.TRAIN_BINS: _text(table),
    }


def header(names: Iterable[str]) -> list[str]:
    """Return the columns of train-bins.csv, given those of train.csv."""
    numbers = (name for name in names if name not in PLACE)
    return ["bin", "episodes", *(f"{name}_{word}" for name in numbers for word in STATISTICS)]


def bin_of(step: int, steps: int) -> int:
    """Return the bin of an episode that ended at a step from 1 to `steps`."""
    return (step - 1) * BINS // steps


def _summary(values: Sequence[float]) -> list[str]:
    """Return mean, standard deviation, minimum and maximum as train-bins.csv has them."""
    if not all(map(math.isfinite, values)):
        return ["nan"] * len(STATISTICS)
    try:
        mean = math.fsum(values) / len(values)
        square = math.fsum((value - mean) ** 2 for value in values) / max(1, len(values) - 1)
    except OverflowError:
        return ["nan"] * len(STATISTICS)
    return [f"{number:.6g}" for number in (mean, math.sqrt(square), min(values), max(values))]


def _text(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
