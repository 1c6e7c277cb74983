"""Captions: what each figure and table shows, by which estimator, from how many runs, in a sentence each.

They are LaTeX commands, so that a paper which takes them always says what its figures show.
"""

from collections.abc import Mapping, Sequence

from ascent.reports.paper.figures import MOST_BANDS
from ascent.reports.paper.text import latex_text
from ascent.reports.statistics.aggregate import CellSummary
from ascent.reports.statistics.comparisons import Group
from ascent.reports.statistics.efficiency import Efficiency
from ascent.reports.statistics.estimators import describe
from ascent.reports.statistics.marks import Marked
from ascent.reports.statistics.study import Study

WRITTEN = "% Written by `ascent figures`"  # how the file begins
COMMANDS = {
    "curves": "CurvesCaption", "aggregate_steps": "AggregateStepsCaption", "intervals": "IntervalsCaption",
    "profiles": "ProfilesCaption", "main": "MainCaption", "compute": "ComputeCaption",
}  # fmt: skip


def captions(
    study: Study,
    names: Mapping[str, str],
    tasks: Mapping[tuple[str, str], str],
    marked: Marked,
    group: Group | None,
    steps: Efficiency | None,
) -> str:
    """Return captions.tex: a command per figure and table."""
    shown = [cell for task in study.tasks for cell in task.cells if cell.label in names]
    seeds = _seeds(shown)
    sentences = {
        "curves": [
            f"Greedy evaluation {_score_word(study)} of {seeds}, mean over seeds.",
            "Bands are pointwise Student-t limits (95\\%), cut at the range of the seeds.",
            *_without(study, names, tasks),
            *_versions(tasks),
        ],
        "main": [
            f"Mean over seeds $\\pm$ half the width of its Student-t limits (95\\%), {seeds}.",
            _estimator(study),
            *_meaning(study, marked),
            *_without(study, names, tasks),
            *_versions(tasks),
        ],
        "compute": [
            f"Compute of all runs, those that failed included{_processors(shown)}.",
            "Core hours are wall hours times cores; steps per second are those of one run.",
        ],
    }
    if group and steps:
        across = f"over {len(group.tasks)} tasks, {seeds}"
        scores = "Returns are normalised to 0 at a task's random score and 1 at its reference score."
        sentences |= {
            "aggregate_steps": [
                f"Interquartile mean of the normalised greedy evaluation returns {across}.", scores,
                *_bands("limits of 95\\% by the stratified bootstrap over runs", steps.curves, names),
                *_left_out(group, names),
            ],
            "intervals": [
                f"Aggregates of normalised scores {across}.", scores, _estimator(study),
                "Bars are 95\\% intervals by the stratified bootstrap over runs.",
                *_left_out(group, names),
            ],
            "profiles": [
                f"Performance profiles: share of runs with a normalised score above each value, {across}.",
                scores, _estimator(study),
                *_bands("limits of 95\\% by the stratified bootstrap over runs", group.profiles, names),
                *_left_out(group, names),
            ],
        }  # fmt: skip
    lines = [f"{WRITTEN}: \\input it in the preamble, then write \\caption{{\\MainCaption}}."]
    lines += [f"\\newcommand{{\\{COMMANDS[key]}}}{{%\n{' '.join(text)}}}" for key, text in sentences.items()]
    return "\n".join(lines) + "\n"


def _score_word(study: Study) -> str:
    return "return" if all(task.measured.is_return for task in study.tasks) else "score"


def _estimator(study: Study) -> str:
    kinds = sorted({task.measured.name for task in study.tasks})
    text = describe(study.declared.estimator, kinds[0] if len(kinds) == 1 else "score").rstrip(".")
    return f"A run's score: {latex_text(text[0].lower() + text[1:])}."


def _seeds(cells: Sequence[CellSummary]) -> str:
    counts = sorted({cell.score.n for cell in cells if cell.score})
    if not counts:
        return "no complete cell"
    few, most = counts[0], counts[-1]
    return f"$n = {few}$ seeds" if few == most else f"$n = {few}$ to {most} seeds"


def _meaning(study: Study, marked: Marked) -> list[str]:
    """Return what bold and signs mean, and the family of comparisons behind them."""
    family = study.comparisons.family
    tests = (
        "permutation test and Welch's test, both at 5\\% with Holm's correction over the "
        f"{family:,} declared comparisons"
    )
    if marked.against:
        baseline = latex_text(marked.against)
        found = [f"$^{{+}}$ and $^{{-}}$: significantly better and worse than {baseline} ({tests})."]
    elif marked.bold:
        found = [f"Bold: the best mean of a task and all that are not significantly worse ({tests})."]
    else:
        found = ["The systems were not compared."]
    apart = "the baseline" if marked.against else "the best"
    return found + ([f"$^\\dagger$: not compared with {apart}."] if marked.apart else [])


def _without(study: Study, names: Mapping[str, str], tasks: Mapping[tuple[str, str], str]) -> list[str]:
    """Return which cells have no score, and why."""
    missing = [
        f"{names[cell.label]} on {tasks[task.suite, task.name]} ({cell.refusal})"
        for task in study.tasks
        for cell in task.cells
        if cell.label in names and cell.refusal
    ]
    return [f"Without a mean: {latex_text('; '.join(missing))}."] if missing else []


def _left_out(group: Group, names: Mapping[str, str]) -> list[str]:
    missing = [f"{names[label]} ({why})" for label, why in group.left_out.items() if label in names]
    return [f"Left out, for want of a score: {latex_text('; '.join(missing))}."] if missing else []


def _bands(what: str, systems: Mapping[str, object], names: Mapping[str, str]) -> list[str]:
    drawn = sum(label in names for label in systems)
    return [f"Bands are pointwise {what}."] if drawn <= MOST_BANDS else ["Their limits are not drawn."]


def _versions(tasks: Mapping[tuple[str, str], str]) -> list[str]:
    """Return the full names of the tasks where short ones are shown."""
    if all(name == task for (_, task), name in tasks.items()):
        return []
    return [f"Tasks: {latex_text(', '.join(task for _, task in tasks))}."]


def _processors(cells: Sequence[CellSummary]) -> str:
    platforms = [run.about.get("platform") or {} for cell in cells for run in cell.cell.runs]
    found = sorted({platform["cpu"] for platform in platforms if platform.get("cpu")})
    return f", on {latex_text(', '.join(found))}" if found else ""
