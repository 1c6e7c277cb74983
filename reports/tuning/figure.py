"""The figure of a tuning: the score of every trial against the value of each hyperparameter."""

import json
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ascent.records import files
from ascent.reports.page.figures import PALETTE, WIDTH, drawing, encode
from ascent.reports.page.panels import ANCHOR
from ascent.reports.tuning.declaration import Tuning
from ascent.reports.tuning.search import COMPLETE, PRUNED, Trial, best, importances
from ascent.runners.spaces import Parameter

NAME = "sensitivity"
COLUMNS = 4
PANEL = 2.3  # inches
MOST_LEVEL = 14  # characters of the choices under a panel, which stand level


def write(tuning: Tuning, trials: Sequence[Trial], folder: Path) -> list[Path]:
    """Write the figure into a folder, as PNG and PDF, and return the paths."""
    paths = []
    with drawing():
        figure = draw(tuning, trials)
        for form in ("png", "pdf"):
            paths.append(folder / f"{NAME}.{form}")
            files.write(paths[-1], encode(figure, form))
    return paths


def draw(tuning: Tuning, trials: Sequence[Trial]) -> Figure:
    """Draw a panel per hyperparameter, the most important first; trials that were given up are hollow."""
    shares = importances(tuning, trials)
    names = sorted(tuning.space, key=lambda name: -shares.get(name, 0.0))
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(WIDTH * columns / COLUMNS, 4.0), PANEL * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False, sharey=True).flat)
    for axes, name in zip(panels, names, strict=False):
        _panel(axes, name, tuning.space[name], trials)
        share = f" ({shares[name]:.0%})" if name in shares else ""
        axes.set_xlabel(f"{name}{share}")
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    score = "normalised score" if len(tuning.tasks) > 1 else "evaluation return"
    figure.supylabel(score, fontsize=9)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=len(labels), frameon=False)
    return figure


def _panel(axes: Axes, name: str, parameter: Parameter, trials: Sequence[Trial]) -> None:
    """Draw the trials against one hyperparameter."""
    found = best(trials)
    given_up = [trial for trial in trials if trial.state == PRUNED]
    others = [trial for trial in trials if trial.state == COMPLETE and trial is not found]
    for label, drawn, marker, size, edge, face in (
        ("given up before all seeds", given_up, "o", 24, ANCHOR, "none"),
        ("trial", others, "o", 24, PALETTE[0], PALETTE[0]),
        ("best trial", [found], "*", 110, PALETTE[1], PALETTE[1]),
    ):
        places = [_place(parameter, trial.values[name]) for trial in drawn]
        scores = [trial.score for trial in drawn if trial.score is not None]
        if drawn:
            axes.scatter(places, scores, s=size, marker=marker, edgecolors=edge, facecolors=face, label=label)
    if parameter.choices:
        texts = [value if isinstance(value, str) else json.dumps(value) for value in parameter.choices]
        axes.set_xticks(range(len(texts)), texts, rotation=30 if len("".join(texts)) > MOST_LEVEL else 0)
        axes.set_xlim(-0.5, len(texts) - 0.5)
    elif parameter.log:
        axes.set_xscale("log")
        few = parameter.high / parameter.low < 100
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _place(parameter: Parameter, value: object) -> float:
    """Return where a value stands on the x axis: choices stand side by side."""
    return parameter.choices.index(value) if parameter.choices else float(value)  # type: ignore[arg-type]
