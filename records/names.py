"""The names that a sweep gives its systems: what a user types and a page shows."""

import re
from collections.abc import Iterable

from ascent.records.errors import InputError

MOST = 64  # characters of a name; W&B takes no longer tag
# Letters, digits, signs and single blanks inside. Brackets are for lists: "ppo hidden=[64, 64]".
PATTERN = r"[A-Za-z0-9](?: ?[A-Za-z0-9()\[\]=.,+_-]){0,63}"


def valid(name: object) -> bool:
    """Return whether a value is the name of a system."""
    return isinstance(name, str) and len(name) <= MOST and re.fullmatch(PATTERN, name) is not None


def check(names: Iterable[str]) -> None:
    """Raise InputError unless all are names of systems, different ones, even as names of files.

    As names of files they have neither blanks nor brackets, and some file systems ignore case.
    """
    taken: dict[str, str] = {}
    for name in names:
        if not valid(name):
            raise InputError(
                f"{name[: 2 * MOST]!r} is no name of a system: at most {MOST} letters, digits, blanks and "
                "()[]=.,+_-, of which the first is a letter or a digit"
            )
        file = re.sub(r"[^a-z0-9_.,=+-]", "-", name.lower())
        if taken.setdefault(file, name) != name:
            raise InputError(f"the names {taken[file]!r} and {name!r} are too alike: rename one")
