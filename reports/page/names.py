"""Names of tasks and figures on the page and in files."""

from collections.abc import Sequence

from ascent.reports.statistics.aggregate import Task


def anchor(task: Task) -> str:
    """Return the identifier of a task on the page."""
    return f"{task.suite}/{task.name}"


def curves_name(task: Task, tasks: Sequence[Task]) -> str:
    """Return the name of a task's figure: the task, preceded by the suite where two suites share its name."""
    shared = sum(other.name == task.name for other in tasks) > 1
    return f"{task.suite}-{task.name}" if shared else task.name


def crossplay_name(task: Task, tasks: Sequence[Task]) -> str:
    """Return the name of the figure of a task's crossplay."""
    return f"crossplay-{curves_name(task, tasks)}"


def group_name(what: str, group: int) -> str:
    """Return the name of a figure of a group of tasks, by the number of the group."""
    return what if group == 0 else f"{what}-{group + 1}"
