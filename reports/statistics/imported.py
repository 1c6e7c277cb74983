"""What is known of imported curves: which environment and which convention their returns have.

Curves of which one of them is unknown are shown and described, and never tested against others.
"""

from ascent.records.read import CellRecord

GREEDY = "greedy"
# What the returns of imported curves are of, as `ascent import --convention` takes it.
CONVENTIONS = {
    GREEDY: "evaluations of the deterministic policy",
    "sampled": "evaluations in which the policy samples its actions",
    "training": "episodes of training",
}


def environment_of(cell: CellRecord, task: str) -> str:
    """Return the environment of a cell, such as "Hopper-v1"; "" if imported curves do not say."""
    return str(cell.facts["config"].get("environment", "")) if cell.imported else task


def undescribed(cell: CellRecord) -> str:
    """Return why imported curves may not be tested against other scores; "" if they may."""
    if not cell.imported:
        return ""
    config = cell.facts["config"]
    convention = config.get("convention")
    if not config.get("environment"):
        return "the version of their environment is not stated"
    if not convention:
        return "what their returns are of is not stated"
    if convention != GREEDY:
        return f"their returns are of {CONVENTIONS.get(str(convention), 'another convention')}"
    return ""


def incomparable(cell: CellRecord, task: str) -> str:
    """Return why imported curves may not be tested against the other cells of a task; "" if they may."""
    reason = undescribed(cell)
    environment = environment_of(cell, task)
    return reason or ("" if environment == task else f"they are of {environment}")
