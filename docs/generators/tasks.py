"""Parts of the page of a suite: its tasks and the results on them."""

from gymnasium.spaces.utils import flatdim

from ascent.suites import FOREIGN, SUITES, TASKS, Spec, changes, version
from ascent.suites.spec import leaves
from docs.generators import results
from docs.generators.tables import code, table

NAMES = tuple(name for name in SUITES if name not in FOREIGN)


def index() -> str:
    """Return the page that lists the suites."""
    rows = [
        (f"[{name}]({name}.md)", len(_tasks(name)), ", ".join(map(code, _packages(name)))) for name in NAMES
    ]
    return (
        "# Suites\n\n"
        "A suite is a family of tasks with one simulator. The tasks are those of the standard packages; where"
        " a batch is implemented here for speed, tests hold it to the original, bit for bit.\n\n"
        + table(("suite", "tasks", "defined by"), rows)
        + "\n[Conventions of all tasks, and how to add one](../reference/suites.md).\n"
    )


def _tasks(suite: str) -> list[Spec]:
    return [spec for spec in TASKS.values() if spec.suite == suite]


def _packages(suite: str) -> list[str]:
    return sorted({package for spec in _tasks(suite) for package in spec.packages})


def default_page(suite: str) -> str:
    """Return the page of a suite for which none is written."""
    parts = "".join(f"\n<!-- generated: {name} -->\n" for name in PARTS)
    return f"# {suite}\n{parts}"


def tasks(suite: str) -> str:
    """Return the table of a suite's tasks."""
    rows = []
    for spec in _tasks(suite):
        observations = ", ".join(str(flatdim(space)) for space in leaves(spec.observation_space))
        rows.append(
            (
                code(spec.id), observations, _actions(spec), spec.horizon, f"{spec.budget:,}",
                f"{spec.random_score:,.2f}", f"{spec.reference_score:,g}",
                ", ".join(changes(spec.id)) or "none",
            )
        )  # fmt: skip
    heads = (
        "task", "observation", "actions", "time limit", "budget", "random", "reference", "can be perturbed"
    )  # fmt: skip
    references = dict.fromkeys(spec.reference_source for spec in _tasks(suite))
    named = [
        f"- {source}: {', '.join(code(s.id) for s in _tasks(suite) if s.reference_source == source)}\n"
        for source in references
    ]
    return (
        f"Version {version(suite)} of the suite.\n\n{table(heads, rows)}\n"
        "*Observation*: how many numbers, by agent. *Random* is the mean score of the uniform random policy."
        " *Reference* is a normalised score of 1:\n\n" + "".join(named)
    )


def _actions(spec: Spec) -> str:
    if spec.choices is not None:
        return f"{', '.join(str(n) for n in spec.choices.reshape(-1))} choices"
    return f"{spec.action_shape[0]} numbers"


def teams(suite: str) -> str:
    """Return who acts in the tasks of a multi-agent suite, and what is measured; "" for other suites."""
    rows = [
        (
            code(spec.id), ", ".join(spec.team.agents), ", ".join(spec.team.scored),
            ", ".join(f"{name} ({how})" for name, how in spec.team.measures),
        )
        for spec in _tasks(suite)
        if spec.team and "-" not in spec.id  # the variants have the same team
    ]  # fmt: skip
    return table(("task", "agents", "scored", "measures"), rows) if rows else ""


def scores(suite: str) -> str:
    """Return the rows of the leaderboard on a suite's tasks."""
    names = {spec.id for spec in _tasks(suite)}
    found = results.scores(lambda task, _: task in names)
    return found or "No cell of this suite is on the [leaderboard](../results/leaderboard.md) yet.\n"


PARTS = {"tasks": tasks, "teams": teams, "results": scores}
