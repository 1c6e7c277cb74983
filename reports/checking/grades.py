"""Grades: what stands behind a run or a cell, from weak to strong.

imported   a curve from elsewhere: nothing can be run again
recorded   the record is whole, and its claims fit together and fit the commit that it names
replayed   the final policies, played again here, give the recorded final evaluations
restarted  the first steps, trained again here, give the recorded digests of the learner
retrained  all of it, trained again here, gives the same bytes or, on another platform, equivalent scores

Where the recorded sources cannot be compared with a commit of this project, a grade has the suffix "origin
unknown": then nothing says which algorithm was run, or on which task.
"""

from collections.abc import Sequence

IMPORTED, RECORDED, REPLAYED, RESTARTED, RETRAINED = GRADES = (
    "imported", "recorded", "replayed", "restarted", "retrained",
)  # fmt: skip
ORIGIN_UNKNOWN = "origin unknown"
NO_GRADE = "without a grade"  # a rule of `ascent check` is broken
CHECKED = (IMPORTED, RECORDED, f"{RECORDED} ({ORIGIN_UNKNOWN})", NO_GRADE)  # the words of `ascent check`


def grade(level: str, unknown: Sequence[str]) -> str:
    """Return a grade in words; `unknown` says why the origin of the sources is not known, if it is not."""
    return f"{level} ({ORIGIN_UNKNOWN})" if unknown else level
