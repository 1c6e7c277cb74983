"""What can be wrong with a user's words or the files on disk: the front door prints one line, exits 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """The message is one line that names the culprit."""


class DamagedFile(InputError):
    """A file that this project wrote is not what it wrote."""


class RunHeld(InputError):
    """Another process is training the run."""


class Superseded(InputError):
    """Another process has taken over what this one was doing, which may write no more."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """An InputError for a name that is not among the valid ones, with the nearest of them."""
    valid = list(valid)
    by_lower = {v.lower(): v for v in valid}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[near[0]]!r}?" if near else f"there are: {', '.join(valid)}"
    return InputError(f"unknown {kind} {name!r}; {hint}")
