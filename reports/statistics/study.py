"""A study: all statistics of a report, computed from its records and read by its page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ascent.records.declared import Declared, Design
from ascent.records.read import CellRecord
from ascent.reports.statistics.aggregate import Task, aggregate
from ascent.reports.statistics.comparisons import Comparisons, compare
from ascent.reports.statistics.crossplay import Crossplay, crossplays
from ascent.reports.statistics.declaration import looks, undeclared
from ascent.reports.statistics.diagnostics import Diagnostics, diagnostics
from ascent.reports.statistics.efficiency import Efficiency, efficiencies
from ascent.reports.statistics.findings import Finding, findings
from ascent.reports.statistics.information import InformationCost, information_costs
from ascent.reports.statistics.robustness import Robustness, measure
from ascent.reports.statistics.sensitivity import Sensitivity, sensitivities
from ascent.reports.statistics.stages import Staged, stage
from ascent.reports.statistics.verdicts import Verdict, verdicts


@dataclass(frozen=True)
class Study:
    """What a page shows.

    Attributes:
        title: of the report.
        declared: the `[report]` table of the sweep: estimator, baseline, threshold.
        cells: the records, sorted.
        tasks: scores and learning curves of the cells, by task.
        comparisons: of systems, within and across tasks.
        efficiency: normalised scores across tasks while systems train, of each group of the comparisons.
        verdicts: scores against published ones.
        robustness: scores under perturbations.
        crossplay: adversaries of every system against the agents of every system.
        diagnostics: metrics and measures of training, by suite/task.
        findings: what all of this says, in sentences.
        information: cost of observations, of the cells whose policies pay for them.
        sensitivities: to hyperparameters, of the systems with a grid.
        left_out: tuning seeds in the folder that are not in the report, by cell.
        undeclared: what was not declared before the first run, by cell; only where something was not.
        staged: the decisions of the sweep's design; None without one.
        looks: numbers of seeds at which reports of a growing plan could be made, by cell; only where there
            were several, without a design.
        grades: what `ascent check` said of the cells, by cell; {} if nobody asked.
    """

    title: str
    declared: Declared
    cells: tuple[CellRecord, ...]
    tasks: tuple[Task, ...]
    comparisons: Comparisons
    efficiency: tuple[Efficiency, ...]
    verdicts: tuple[Verdict, ...]
    robustness: Robustness
    crossplay: Crossplay
    information: tuple[InformationCost, ...]
    sensitivities: tuple[Sensitivity, ...]
    diagnostics: Mapping[str, Diagnostics]
    findings: tuple[Finding, ...]
    left_out: Mapping[str, Sequence[int]]
    undeclared: Mapping[str, Sequence[str]]
    grades: Mapping[str, str]
    staged: Staged | None
    looks: Mapping[str, Sequence[int]]


def analyse(
    runs: Path,
    cells: Sequence[CellRecord],
    title: str,
    declared: Declared,
    left_out: Mapping[str, Sequence[int]],
    grades: Mapping[str, str],
    design: Design | None = None,
) -> Study:
    """Compute the statistics of cells, which were loaded from the folder `runs`.

    Raises:
        ValueError: the cells cannot be averaged, or the declared baseline is not among the systems.
    """
    tasks = aggregate(cells, declared)
    staged = stage(tasks, declared, design) if design else None
    comparisons, published = compare(tasks, declared, staged), verdicts(tasks)
    return Study(
        title=title,
        declared=declared,
        cells=tuple(cells),
        tasks=tuple(tasks),
        comparisons=comparisons,
        efficiency=tuple(efficiencies(tasks, comparisons.groups)),
        verdicts=tuple(published),
        robustness=measure(runs, tasks, declared),
        crossplay=crossplays(runs, tasks),
        information=tuple(information_costs(tasks)),
        sensitivities=tuple(sensitivities(tasks)),
        diagnostics={f"{task.suite}/{task.name}": diagnostics(task) for task in tasks},
        findings=tuple(findings(tasks, comparisons, published, declared)),
        left_out=left_out,
        undeclared={
            cell.name.folder: found
            for cell in cells
            if (found := undeclared(cell, declared, cell.name.home(runs), design)) and not cell.imported
        },
        grades=grades,
        staged=staged,
        looks={
            cell.name.folder: sizes
            for cell in cells
            if not design and len(sizes := looks(cell, cell.name.home(runs))) > 1
        },
    )
