"""Logs in text files with one run each: TensorBoard's downloads, Spinning Up, Tianshou.

TensorBoard's CSV download has the columns Wall time, Step, Value. Spinning Up's progress.txt is separated by
tabs, and has a row per epoch. Tianshou's test_rew.csv has the columns env_step, rew, time; the file that its
tools merge has also the mean over the runs (rew), its spread (rew:shaded) and a column per run (rew:PATH).
"""

from collections.abc import Sequence

from ascent.records.errors import InputError
from ascent.reports.imports.curve import (
    Absent,
    Asked,
    Curve,
    File,
    Format,
    choose,
    logged,
    read_table,
)

WALL_TIME = ("Wall time", "Step", "Value")
INTERACTS = "TotalEnvInteracts"
SPINUP_RETURNS = ("AverageEpRet", "AverageTestEpRet")
SHADED = "rew:shaded"


def _log(file: File, step: str, column: str, separator: str = ",") -> Curve:
    table = read_table(file.read(), file.name, [step, column], separator)
    return Curve(file.name, logged(table, step, column, file.name))


def _read_tensorboard(sources: Sequence[File], asked: Asked) -> list[Curve]:
    return [_log(file, asked.step or "Step", asked.column or "Value") for file in sources]


def _read_spinup(sources: Sequence[File], asked: Asked) -> list[Curve]:
    (file,) = sources
    columns = [*_tabs(file)]
    column = asked.column
    if column is None:
        found = [name for name in SPINUP_RETURNS if name in columns]
        if len(found) != 1:
            raise choose("--column", file.name, found or columns)
        column = found[0]
    return [_log(file, asked.step or INTERACTS, column, "\t")]


def _read_tianshou(sources: Sequence[File], asked: Asked) -> list[Curve]:
    (file,) = sources
    step = asked.step or "env_step"
    if SHADED not in file.columns:
        return [_log(file, step, asked.column or "rew")]
    runs = [name for name in file.columns if name.startswith("rew:") and name != SHADED]
    if not runs:
        raise InputError(
            f"{file.name} holds the mean over runs, and a mean is not seeds: give the file of each run"
        )
    table = read_table(file.read(), file.name, [step, *runs])
    found = []
    for run in runs:
        try:
            found.append(Curve(run.removeprefix("rew:"), logged(table, step, run, file.name)))
        except Absent:
            raise InputError(f"{file.name}: column {run} is empty") from None
    return found


def _tabs(file: File) -> list[str]:
    return file.head.partition(b"\n")[0].decode(errors="replace").strip("\r").split("\t")


TENSORBOARD = Format(
    "tensorboard-csv",
    "TensorBoard: downloaded CSV",
    lambda file, _: file.columns == WALL_TIME,
    _read_tensorboard,
)
SPINUP = Format("spinup", "Spinning Up: progress.txt", lambda file, _: INTERACTS in _tabs(file), _read_spinup)
TIANSHOU = Format(
    "tianshou",
    "Tianshou: test_rew.csv, test_rew_Nseeds.csv",
    lambda file, _: file.columns[:2] == ("env_step", "rew"),
    _read_tianshou,
)
