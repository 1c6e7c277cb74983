"""Errors that a user can act on. The command line prints them as one line and exits with code 2."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

MOST_NAMES = 20  # valid names that a message lists
MOST_CHARACTERS = 2_000  # of a message


class InputError(Exception):
    """Invalid input. The message is one line that names the culprit."""


class DamagedFile(InputError):
    """The content of a file is not what this project wrote."""


class RunHeld(InputError):
    """Another process is training the run."""


class Superseded(InputError):
    """Another process has taken over the run; this process must not write to it again."""


def unknown(kind: str, name: str, valid: Iterable[str]) -> InputError:
    """Return an InputError for a name that is not among the valid ones; it names the nearest of them, or
    lists the first ones.
    """
    valid = list(valid)
    by_lower = {choice.lower(): choice for choice in valid}
    names = ", ".join(valid[:MOST_NAMES])
    if len(valid) > MOST_NAMES:
        names += f" and {len(valid) - MOST_NAMES:,} more"
    near = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    hint = f"did you mean {by_lower[near[0]]!r}?" if near else f"valid: {names}"
    return InputError(f"unknown {kind} {name!r}; {hint}")


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the entries that differ, nested ones too: "torch was 2.12, is now 2.13; ..."."""
    parts = []
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name, "absent"), after.get(name, "absent")
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            parts += [differences(old, new)] if old != new else []
        elif old != new:
            parts.append(f"{name} was {old}, is now {new}")
    return "; ".join(parts)


def one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """Return a text that a terminal shows on one line, cut after `most` characters."""
    shown = printable(text[: most + 1]).replace("\n", " ")
    return shown if len(shown) <= most else f"{shown[:most]}..."


def printable(text: str) -> str:
    """Return a text that a terminal only shows: control characters but the newline, and those that turn the
    direction of text, become escapes such as \\x1b.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)
