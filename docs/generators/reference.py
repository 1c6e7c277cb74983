"""Pages of reference: every command, every key of the TOML files, every function of the Python API."""

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any

import typer

import ascent
from ascent.cli import app
from ascent.records.policy import Policy
from ascent.reports.frames import Frames
from ascent.runners import entries, sweep
from ascent.slurm import sites
from ascent.suites import Foreign
from docs.generators.tables import code, table

KEY = re.compile(r"(?P<key>\w+)(?:\.[\w.-]+)? = (?P<value>.+?)(?:\s+# (?P<meaning>.*))?$")
COMMENTED = re.compile(r"^    (\w+): .*?# (.+)$", re.MULTILINE)  # a field of a dataclass with its meaning
FOREIGN_KEYS = {"budget": "steps"}  # where a field of `Foreign` has another name in a sweep
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
        options = [(code(option), _text(about)) for option, about in records if option != "--help"]
        if options:
            parts.append(table(("argument or option", "meaning"), options))
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
    text = sweep.__doc__ or ""
    meanings = keys_of(text)
    parts = [
        "# Keys of sweeps and sites\n",
        "A sweep is a TOML file: `ascent sweep FILE.toml` trains it, `ascent list sweeps` names those that"
        " come with the suite. An unknown key is refused, with the nearest valid one.\n",
    ]
    for title, name, types in SECTIONS:
        rows = []
        for key, kind in types.items():
            example, meaning = meanings[name].get(key, ("", ""))
            meaning = meaning or OWN_WORDS.get(key, "")
            rows.append((code(key), entries.type_names(kind), code(example), meaning))
        parts.append(f"## {title}\n\n{table(('key', 'type', 'example', 'meaning'), rows)}")
    parts.append(
        "## `[[environments]]`: environments from outside the suite\n\n"
        "[Your own environment](../own-environment.md) explains them. `name` and `id` are required.\n"
    )
    meanings_of = dict(COMMENTED.findall(inspect.getsource(Foreign)))
    foreign = [
        (code(FOREIGN_KEYS.get(each.name, each.name)), _foreign_type(each.type), meanings_of[each.name])
        for each in fields(Foreign)
    ]
    parts.append(table(("key", "type in Python", "meaning"), foreign))
    parts.append(f"## A sweep with its keys\n\n```toml\n{text.partition(chr(10) * 2)[2].strip()}\n```\n")
    parts.append(
        "## `slurm.toml`: the settings of a site\n\nEvery key is optional. `ascent submit` has options for"
        " some of them, with the same names, which override the file. The values are examples."
        " [The guide](../guides/slurm.md) says when to use which.\n\n"
    )
    of_site = keys_of(sites.__doc__ or "")[""].items()
    keys = [(code(key), code(value), _default_of(key), meaning) for key, (value, meaning) in of_site]
    parts.append(table(("key", "example", "default", "meaning"), keys))
    return "\n".join(parts)


def _foreign_type(annotation: object) -> str:
    return str(annotation).replace("typing.", "")


def _default_of(key: str) -> str:
    """Return the default of a setting of a site; "none" where its meaning says what happens without one."""
    default = sites.Site.model_fields[key].default
    return "none" if default in (None, []) else code(json.dumps(default))


SECTIONS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("The sweep", "", sweep.KEYS),
    ("`[report]`: what is declared before the first run", "report", sweep.REPORT_KEYS),
    ("`[design]`: seeds in stages", "design", {"stages": list, "futility": float}),
    ("`[[cells]]`: every algorithm on every task", "cells", entries.CELL_KEYS),
    ("`[[systems]]`: systems with names of their own", "systems", entries.SYSTEM_KEYS),
)
OWN_WORDS = {  # of keys that explain themselves where they are read
    "title": "heading of the report; default: the name of the file",
    "seeds": "required: seeds such as `0-9`, or an array of integers; from 1000 up they are for tuning",
    "report": "what the report will say: see below",
    "design": "train the seeds in stages: see below",
    "cells": "what is trained: see below; or `systems`",
    "systems": "what is trained, with names: see below; or `cells`",
    "environments": "environments from outside the suite: see below",
    "algorithms": "required: names from `ascent list algorithms`",
    "algorithm": "required: a name from `ascent list algorithms`",
    "tasks": "required: names from `ascent list tasks`",
}


def keys_of(text: str) -> dict[str, dict[str, tuple[str, str]]]:
    """Return section -> key -> (example, meaning) of TOML in a docstring; a meaning may have several lines.

    A paragraph of text ends a section; the keys at the top have the section "".
    """
    found: dict[str, dict[str, tuple[str, str]]] = {"": {}}
    section, last = "", ""
    for line in map(str.strip, text.splitlines()):
        if match := re.match(r"\[+(\w+)\]+", line):
            section, last = match[1], ""
            found.setdefault(section, {})
        elif match := KEY.match(line):
            last = match["key"]
            found[section].setdefault(last, (match["value"], match["meaning"] or ""))
        elif line.startswith("#") and last:
            value, meaning = found[section][last]
            found[section][last] = (value, f"{meaning} {line.lstrip('# ')}")
        else:
            section, last = ("" if line else section), ""
    return found


def python() -> str:
    """Return the page of the Python API."""
    parts = [
        "# Python API\n",
        "What `import ascent` offers. [The guide](../python.md) shows how the parts work together.\n",
    ]
    for name, thing in functions().items():
        signature = _signature(f"ascent.{name}", thing)
        parts.append(f"## ascent.{name}\n\n```python\n{signature}\n```\n\n{_docstring(thing)}\n")
    for kind, about in ((Policy, "what `ascent.load` returns"), (Frames, "what `ascent.read` returns")):
        parts.append(f"## {kind.__name__}\n\n{about[0].upper()}{about[1:]}: `{kind.__module__}`.\n")
        parts.append(_docstring(kind) + "\n")
        for name, member in vars(kind).items():
            if (inspect.isfunction(member) and not name.startswith("_")) or name == "__call__":
                signature = _signature(f"{kind.__name__}.{name}", member)
                parts.append(
                    f"### `{kind.__name__}.{name}`\n\n```python\n{signature}\n```\n\n{_docstring(member)}\n"
                )
    return "\n".join(parts)


def functions() -> dict[str, Callable[..., object]]:
    """Return the public functions of the API by name."""
    return {name: getattr(ascent, name) for name in ascent.__all__ if callable(getattr(ascent, name))}


def _signature(name: str, thing: Callable[..., object]) -> str:
    """Return a call with all parameters and their types; on a line each if it is long."""
    signature = inspect.signature(thing)
    lines, starred = [], False
    for each in signature.parameters.values():
        if each.kind is each.KEYWORD_ONLY and not starred:
            lines.append("*")
            starred = True
        annotation = "" if each.annotation is each.empty else f": {_annotation(each.annotation)}"
        default = "" if each.default is each.empty else f" = {each.default!r}"
        lines.append(f"{each.name}{annotation}{default}")
    result = _annotation(signature.return_annotation)
    whole = f"{name}({', '.join(lines)}) -> {result}"
    if len(whole) <= 90:
        return whole
    return f"{name}(\n" + "".join(f"    {line},\n" for line in lines) + f") -> {result}"


def _annotation(annotation: object) -> str:
    """Return a type as one writes it, also where it is a string in the source."""
    return inspect.formatannotation(annotation).strip("'")


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
