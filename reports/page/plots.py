"""The interactive figures of the page, as data that `plots.js` draws with plotly.js.

They show the same numbers as the files in `figures/`, which `figures.py` draws, to five significant digits.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ascent.reports.page.figures import Style, styles
from ascent.reports.page.names import curves_name, group_name
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import TAUS, Group
from ascent.reports.statistics.diagnostics import Diagnostics
from ascent.reports.statistics.efficiency import Efficiency
from ascent.reports.statistics.information import InformationCost, geometric_band
from ascent.reports.statistics.intervals import student_t_interval
from ascent.reports.statistics.robustness import Curve
from ascent.reports.statistics.sensitivity import Sensitivity
from ascent.reports.statistics.study import Study

STEPS = "environment steps per seed"
Plot = dict[str, Any]  # read by plots.js: a list of panels, each with its series


def plots(study: Study, style: Style) -> dict[str, Any]:
    """Return every interactive figure by the name of its files in `figures/`, and the grids of their x.

    The x of a series is the number of its grid, since most series share one.
    """
    found = dict(_plots(study, style))
    grids: dict[tuple[float, ...], int] = {}
    for series in (
        one for plot in found.values() for panel in plot["panels"] for one in panel.get("series", ())
    ):
        for key in {"x", "x_mean"} & series.keys():
            series[key] = grids.setdefault(tuple(series[key]), len(grids))
    return {"plots": found, "grids": [list(grid) for grid in grids]}


def _plots(study: Study, style: Style) -> Iterator[tuple[str, Plot]]:
    for task in study.tasks:
        name = curves_name(task, study.tasks)
        if any(not summary.seeds.empty for summary in task.cells):
            yield name, {"panels": [_curves(task, style)], "seeds": True}
        if found := study.diagnostics[f"{task.suite}/{task.name}"]:
            yield f"diagnostics-{name}", _diagnostics(found, style)
        if costs := [cost for cost in study.information if cost.task is task]:
            yield f"information-{name}", {"panels": _information(costs, style)}
        if curves := [curve for curve in study.robustness.curves if curve.task is task]:
            yield f"robustness-{name}", {"panels": _robustness(curves, style)}
    for k, group in enumerate(study.comparisons.groups):
        yield group_name("intervals", k), {"panels": _intervals(group, style)}
        yield group_name("profiles", k), {"panels": [_profiles(group, style)]}
    for k, efficiency in enumerate(study.efficiency):
        yield group_name("efficiency", k), {"panels": [_efficiency(efficiency, style)]}
    if drawn := [row for row in study.sensitivities if row.curve]:
        yield "sensitivity", {"panels": [_sensitivity(drawn)]}


def _curves(task: Task, style: Style) -> Plot:
    series = []
    for summary in task.cells:
        if summary.seeds.empty:
            continue
        one = _series(summary, style) | {
            "x": summary.seeds.index.tolist(),
            "seeds": {str(seed): rounded(summary.seeds[seed]) for seed in summary.seeds},
        }
        if summary.curve is not None:
            one |= {
                "mean": rounded(summary.curve["mean"]),
                **_band(summary.curve["low"], summary.curve["high"]),
            }
            one["x_mean"] = summary.curve.index.tolist()
        series.append(one)
    what = (
        "evaluation return" if task.measured.is_return else f"{task.measured.name} ({task.measured.better})"
    )
    return {
        "x": STEPS,
        "y": what,
        "series": series,
        "levels": [[name, value] for name, value in task.anchors],
    }


def _intervals(group: Group, style: Style) -> list[Plot]:
    """Return a panel per statistic, with a dot and an interval per system."""
    return [
        {
            "title": "IQM" if statistic == "iqm" else statistic.replace("_", " "),
            "dots": [
                {
                    "label": label,
                    "colour": style[label][0],
                    "value": rounded(group.aggregates[label][statistic]),
                }
                for label in group.systems
            ],
        }
        for statistic in group.aggregates[group.systems[0]]
    ]


def _efficiency(found: Efficiency, style: Style) -> Plot:
    x = found.shares.tolist() if found.steps is None else found.steps.tolist()
    series = [
        _line(label, style) | {"x": x, "mean": rounded(value), **_band(low, high)}
        for label, (value, low, high) in found.curves.items()
    ]
    title = "share of the step budget of each task" if found.steps is None else STEPS
    return {"x": title, "y": "IQM of normalised scores", "series": series}


def _sensitivity(drawn: Sequence[Sensitivity]) -> Plot:
    style = styles(row.grid for row in drawn)
    series = [
        _line(row.grid, style) | {"x": list(range(len(row.curve))), "mean": rounded(row.curve)}
        for row in drawn
    ]
    return {"x": "hyperparameters that are tuned on each task", "y": "normalised score", "series": series}


def _profiles(group: Group, style: Style) -> Plot:
    series = [
        _line(label, style) | {"x": rounded(TAUS), "mean": rounded(value), **_band(low, high)}
        for label, (value, low, high) in group.profiles.items()
    ]
    return {"x": "normalised score", "y": "share of runs above score", "series": series}


def _diagnostics(found: Diagnostics, style: Style) -> Plot:
    """Return a panel per metric or measure; the page shows one at a time."""
    panels = [
        {
            "title": name,
            "x": STEPS,
            "y": name,
            "series": [
                _line(label, style) | {"x": steps.tolist(), "mean": rounded(median)}
                for label, (steps, median) in systems.items()
            ],
        }
        for name, systems in found.items()
    ]
    return {"panels": panels, "choose": True}


def _information(costs: Sequence[InformationCost], style: Style) -> list[Plot]:
    units = " or ".join(sorted({cost.unit for cost in costs}))
    panels = []
    for title, values in (
        (f"cost per step [{units}]", [cost.cost for cost in costs]),
        ("price (lambda)", [cost.price for cost in costs]),
    ):
        series = []
        for cost, of_seeds in zip(costs, values, strict=True):
            mean, low, high = geometric_band(of_seeds)
            line = {"x": cost.steps.tolist(), "mean": rounded(mean), **_band(low, high)}
            series.append(_series(cost.summary, style) | line)
        panels.append({"title": title, "x": STEPS, "y": title, "series": series, "log": True})
    return panels


def _robustness(curves: Sequence[Curve], style: Style) -> list[Plot]:
    """Return a panel per kind of perturbation. Levels are equally spaced."""
    panels = []
    for kind in dict.fromkeys(curve.kind for curve in curves):
        of_kind = [curve for curve in curves if curve.kind == kind]
        levels = sorted({point.level for curve in of_kind for point in curve.points}, reverse=kind.falls)
        series = []
        for curve in of_kind:
            scores = np.array([point.scores for point in curve.points])
            low, high = student_t_interval(scores.T)
            places = [levels.index(point.level) for point in curve.points]
            series.append(
                _series(curve.summary, style)
                | {"x": places, "mean": rounded(scores.mean(1))}
                | _band(low, high)
            )
        ticks = ["never" if np.isinf(level) else f"{level:g}" for level in levels]
        panels.append({"title": kind.title, "x": "level", "y": "return", "series": series, "ticks": ticks})
    return panels


def _series(summary: CellSummary, style: Style) -> Plot:
    return _line(summary.label, style)


def _line(label: str, style: Style) -> Plot:
    colour, dash = style[label]
    return {"label": label, "colour": colour, "dash": "solid" if dash == "-" else "dash"}


def _band(low: Iterable[float], high: Iterable[float]) -> Plot:
    return {"low": rounded(low), "high": rounded(high)}


def rounded(values: Iterable[float]) -> list[float | None]:
    """Return numbers to five significant digits, and None for those that are not finite."""
    return [float(f"{value:.5g}") if np.isfinite(value) else None for value in values]
