"""Weights & Biases: charts exported as CSV, and histories of runs, such as those of the Open RL Benchmark.

A chart has the column of its axis first, then three columns per run: `RUN - METRIC` and the same with __MIN
and __MAX. A row without a value is a step at which the run logged nothing. The history of a run, as
`run.history().to_csv()` or the cache of openrlbenchmark (run_df.csv) writes it, has a column per metric and
the columns _step, _runtime and _timestamp. `_step` counts calls of `wandb.log`, not steps of environments.
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
    missing_column,
    read_table,
)

SEPARATOR = " - "
ENDINGS = ("__MIN", "__MAX")
CALLS = ("Step", "_step")  # what W&B itself counts
TIMES = ("_runtime", "_timestamp")
GLOBAL_STEP = "global_step"


def _metrics(file: File) -> dict[str, str]:
    """Return the columns of a chart's runs -> their metrics, without those of W&B itself."""
    named = [name for name in file.columns if SEPARATOR in name and not name.endswith(ENDINGS)]
    metrics = {name: name.rpartition(SEPARATOR)[2] for name in named}
    return {name: metric for name, metric in metrics.items() if metric not in (*CALLS, *TIMES)}


def _read_chart(sources: Sequence[File], asked: Asked) -> list[Curve]:
    (file,) = sources
    metrics = _metrics(file)
    column = asked.column
    if column is None:
        if len(set(metrics.values())) != 1:
            raise choose("--column", file.name, sorted(set(metrics.values())))
        column = next(iter(metrics.values()))
    if column not in metrics.values():
        raise missing_column(column, sorted(set(metrics.values())), file.name)
    step = asked.step or file.columns[0]
    if asked.step is None and step in CALLS:
        raise InputError(
            f"{file.name}: the axis {step} counts calls of wandb.log: export the chart over {GLOBAL_STEP}, "
            f"or say --step-column {step} if it does count environment steps"
        )
    runs = [name for name, metric in metrics.items() if metric == column]
    table = read_table(file.read(), file.name, [step, *runs])
    found = []
    for run in runs:
        try:
            found.append(Curve(run.removesuffix(SEPARATOR + column), logged(table, step, run, file.name)))
        except Absent:
            raise InputError(f"{file.name}: column {run} is empty") from None
    return found


def _read_history(sources: Sequence[File], asked: Asked) -> list[Curve]:
    (file,) = sources
    step = asked.step or GLOBAL_STEP
    if asked.step is None and step not in file.columns:
        raise InputError(
            f"{file.name}: --step-column is needed, which says what counts environment steps: it has no "
            f"{GLOBAL_STEP}, and _step counts calls of wandb.log"
        )
    own = (*CALLS, *TIMES, step, "")
    if asked.column is None:
        raise choose("--column", file.name, [name for name in file.columns if name not in own])
    table = read_table(file.read(), file.name, [step, asked.column])
    return [Curve(file.name, logged(table, step, asked.column, file.name))]


CHART = Format(
    "wandb-chart",
    "W&B: chart exported as CSV",
    lambda file, _: any(name + ENDINGS[0] in file.columns for name in _metrics(file)),
    _read_chart,
)
HISTORY = Format(
    "wandb-history",
    "W&B: history of a run as CSV; Open RL Benchmark: run_df.csv",
    lambda file, _: "_step" in file.columns and any(name in file.columns for name in TIMES),
    _read_history,
)
