"""Pages of reference: every command, every key of the TOML files, every function of the Python API."""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer

import ascent
from ascent.cli import app
from ascent.records.policy import Policy
from ascent.reports.frames import Frames
from ascent.runners import sweep
from ascent.slurm import sites
from docs.generators.tables import code, table

KEY = re.compile(r"(?P<key>\w+) = (?P<value>.+?)(?:\s+# (?P<meaning>.*))?$")
SECTION = re.compile(r"(?P<about>[A-Z]\w+):$")


def commands() -> str:
    """Return the page of all commands with their options."""
    parts = [
        "# Commands\n",
        "Every command, as `--help` prints it. Wrong input gives one line, which names it, and exit code 2;"
        " an interrupted command gives exit code 130 and keeps its progress.\n",
    ]
    for name, command, context in all_commands():
        usage = " ".join(command.get_usage(context).split()).removeprefix("Usage: ")
        parts.append(f"## {name}\n\n{_prose(command.help or '')}\n\n```\n{usage}\n```\n")
        records = [record for each in command.params if (record := each.get_help_record(context))]
        rows = [(code(option), _text(about)) for option, about in records if option != "--help"]
        if rows:
            parts.append(table(("argument or option", "meaning"), rows))
    return "\n".join(parts)


def all_commands() -> list[tuple[str, Any, Any]]:
    """Return the name, the command and its context for each command that does something."""
    return list(_walk("ascent", typer.main.get_command(app), None))


def _walk(name: str, command: Any, parent: Any) -> Iterator[tuple[str, Any, Any]]:
    context = command.context_class(command, info_name=name.split()[-1], parent=parent)
    inner = getattr(command, "commands", {})
    if not inner:
        yield name, command, context
    for each, below in inner.items():
        yield from _walk(f"{name} {each}", below, context)


def sweeps() -> str:
    """Return the page of the keys of a sweep's file and of a site's settings."""
    _, *blocks = re.split(r"^\[+(\w+)\]+", sweep.__doc__ or "", flags=re.MULTILINE)
    top = (sweep.__doc__ or "").partition("\n[")[0]
    meanings = {"": keys_of(top)} | {
        name: keys_of(text) for name, text in zip(blocks[::2], blocks[1::2], strict=True)
    }
    parts = [
        "# Keys of sweeps and sites\n",
        "A sweep is a TOML file: `ascent sweep FILE.toml` trains it, `ascent list sweeps` names those that"
        " come with the suite. An unknown key is refused, with the nearest valid one.\n",
    ]
    for title, name, types in (
        ("The sweep", "", sweep.KEYS),
        ("`[report]`: what is declared before the first run", "report", sweep.REPORT_KEYS),
        ("`[[cells]]`: every algorithm on every task", "cells", sweep.CELL_KEYS),
    ):
        parts.append(f"## {title}\n\n{_keys(types, meanings[name])}")
    parts.append(
        "Further tables, such as `[design]`, are kept: they are part of the plan's digest.\n\n"
        "Example, from the documentation of the reader:\n\n"
        f"```toml\n{_example(sweep.__doc__ or '')}\n```\n"
    )
    parts.append(
        "## `slurm.toml`: the settings of a site\n\nEvery key is optional, and the same option of `ascent"
        " submit` overrides it. [The guide](../guides/slurm.md) says when to use which.\n\n"
    )
    rows = [
        (code(key), code(value), meaning) for key, (value, meaning) in keys_of(sites.__doc__ or "").items()
    ]
    parts.append(table(("key", "example", "meaning"), rows))
    return "\n".join(parts)


def keys_of(text: str) -> dict[str, tuple[str, str]]:
    """Return key -> (example, meaning) of TOML in a docstring, whose comments may have several lines."""
    found: dict[str, tuple[str, str]] = {}
    last = ""
    for line in map(str.strip, text.splitlines()):
        if match := KEY.match(line):
            last = match["key"]
            found[last] = (match["value"], match["meaning"] or "")
        elif line.startswith("#") and last:
            value, meaning = found[last]
            found[last] = (value, f"{meaning} {line.lstrip('# ')}")
        elif not line:
            last = ""
    return found


OWN_WORDS = {  # of keys that explain themselves where they are read
    "title": "heading of the report; default: the name of the file",
    "seeds": "required: seeds such as `0-9`, or an array of integers; from 1000 up they are for tuning",
    "report": "what the report will say: see below",
    "cells": "required: what is trained: see below",
    "algorithms": "required: names from `ascent list algorithms`",
    "tasks": "required: names from `ascent list tasks`",
}


def _keys(types: Mapping[str, Any], meanings: Mapping[str, tuple[str, str]]) -> str:
    rows = []
    for key, kind in types.items():
        example, meaning = meanings.get(key, ("", ""))
        rows.append((code(key), sweep.type_names(kind), code(example), OWN_WORDS.get(key) or meaning))
    return table(("key", "type", "example", "meaning"), rows)


def _example(text: str) -> str:
    """Return the TOML of the docstring."""
    lines = text.split("\n\n", 1)[1].splitlines()
    return "\n".join(line for line in lines if not line.startswith("Further")).strip()


def python() -> str:
    """Return the page of the Python API."""
    parts = [
        "# Python API\n",
        "What `import ascent` offers. [The guide](../python.md) shows how the parts work together.\n",
    ]
    for name, thing in functions().items():
        parts.append(
            f"## ascent.{name}\n\n```python\n{_signature(name, thing)}\n```\n\n{_docstring(thing)}\n"
        )
    for kind, about in ((Policy, "what `ascent.load` returns"), (Frames, "what `ascent.read` returns")):
        parts.append(f"## {kind.__name__}\n\n{about[0].upper()}{about[1:]}: `{kind.__module__}`.\n")
        parts.append(_docstring(kind) + "\n")
        for name, member in vars(kind).items():
            if (inspect.isfunction(member) and not name.startswith("_")) or name == "__call__":
                signature = _signature(f"{kind.__name__}.{name}", member)
                parts.append(
                    f"### {kind.__name__}.{name}\n\n```python\n{signature}\n```\n\n{_docstring(member)}\n"
                )
    return "\n".join(parts)


def functions() -> dict[str, Callable[..., object]]:
    """Return the public functions of the API by name."""
    return {name: getattr(ascent, name) for name in ascent.__all__ if callable(getattr(ascent, name))}


def _signature(name: str, thing: Callable[..., object]) -> str:
    """Return a call with all parameters and their types; on a line each if it is long."""
    signature = inspect.signature(thing)
    whole = f"{name}{signature}".replace("'", "")
    if len(whole) <= 90:
        return whole
    lines, starred = [], False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not starred:
            lines.append("*")
            starred = True
        lines.append(str(each).replace("'", ""))
    result = inspect.formatannotation(signature.return_annotation).strip("'")
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f") -> {result}"


def _docstring(thing: object) -> str:
    """Return a docstring in Markdown: its sections become lists, its examples code."""
    out: list[str] = []
    section, example = "", False
    for line in inspect.cleandoc(getattr(thing, "__doc__", None) or "").splitlines():
        if match := SECTION.match(line):
            section = match["about"]
            out += ["", f"**{section}**", ""]
            example = section == "Example"
            out += ["```python"] if example else []
        elif section and example:
            out.append(line.strip())
        elif section in ("Args", "Attributes", "Raises") and line.startswith("    ") and line[4:5].strip():
            name, _, about = line.strip().partition(": ")
            out.append(f"- `{name}`: {_prose(about)}")
        else:
            out.append(f"  {_prose(line.strip())}" if section and line.strip() else _prose(line.strip()))
    return "\n".join([*out, "```"] if example else out)


def _text(words: str) -> str:
    return _prose(words).replace("[required]", "**required**")


def _prose(words: str) -> str:
    """Return text with what looks like a tag of HTML escaped."""
    return words.replace("<", "&lt;")
