"""Errors that a user can act on. The command line prints them as one line and exits with code 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(Exception):
    """Invalid input. The message is one line that names the culprit."""


class DamagedFile(InputError):
    """The content of a file is not what this project wrote."""


class RunHeld(InputError):
    """Another process is training the run."""


class Superseded(InputError):
    """Another process has taken over the run; this process must not write to it again."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """Return an InputError for a name that is not among the valid ones; it names the nearest of them."""
    valid = list(valid)
    by_lower = {choice.lower(): choice for choice in valid}
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[near[0]]!r}?" if near else f"valid: {', '.join(valid)}"
    return InputError(f"unknown {kind} {name!r}; {hint}")
