"""What is known of imported curves: environment, policy, episodes per point and, for teams, the convention.

Curves of which one of them is unknown are shown and described, and never tested against others.
"""

from ascent.records.read import CellRecord

UNKNOWN = "unknown"
GREEDY = "greedy"
# What the returns of imported curves are of, as `ascent import --policy` takes it.
POLICIES = {
    GREEDY: "evaluations of the deterministic policy",
    "sampled": "evaluations in which the policy samples its actions",
    "training": "episodes of training",
}
MEAN = "mean"
# What the return of a team is, as `ascent import --convention` takes it.
CONVENTIONS = {
    MEAN: "the mean over the agents that the task scores",
    "sum": "the sum over the agents",
}


def environment_of(cell: CellRecord, task: str) -> str:
    """Return the environment of a cell, such as "Hopper-v1"; "" if imported curves do not say."""
    return _known(cell, "environment") if cell.imported else task


def undescribed(cell: CellRecord) -> str:
    """Return why imported curves may not be tested against other scores; "" if they may."""
    if not cell.imported:
        return ""
    policy, convention = _known(cell, "policy"), _known(cell, "convention")
    if not _known(cell, "environment"):
        return "the version of their environment is not stated"
    if not policy:
        return "what their returns are of is not stated"
    if policy != GREEDY:
        return f"their returns are of {POLICIES.get(policy, 'another policy')}"
    if not _known(cell, "episodes"):
        return "the number of episodes of their points is not stated"
    if cell.facts.get("spec", {}).get("team") and convention != MEAN:
        if not convention:
            return "what the return of the team is is not stated"
        return f"their returns are {CONVENTIONS.get(convention, 'of another convention')}"
    return ""


def _known(cell: CellRecord, name: str) -> str:
    """Return what the config of an imported cell says; "" if that is not known."""
    value = cell.facts["config"].get(name, UNKNOWN)
    return "" if value == UNKNOWN else str(value or "")


def incomparable(cell: CellRecord, task: str) -> str:
    """Return why imported curves may not be tested against the other cells of a task; "" if they may."""
    reason = undescribed(cell)
    environment = environment_of(cell, task)
    return reason or ("" if environment == task else f"they are of {environment}")
