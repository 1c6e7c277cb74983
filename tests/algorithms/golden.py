"""What may change only with a VERSION: golden digests and the defaults of hyperparameters.

    make golden           records them for this platform, after a deliberate change of results

The digests are of each system over its first five updates, for each kind of action. Bits depend on the
processor and on torch, so they are kept by platform (`ascent.runners.platform.platform_key`), with and
without the kernels.

A hyperparameter at its default is not in the digest of a cell: another default under the same VERSION would
give two different cells one name.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ascent import algorithms, kernels  # algorithms first: it sets what torch must find in the environment
from ascent.runners import resolve
from ascent.runners.platform import platform_key
from ascent.runners.trainer import Trainer
from tests.small import small_cell, systems_and_tasks

FILE = Path(__file__).with_name("golden.json")
DEFAULTS = Path(__file__).with_name("defaults.json")


def digests(tasks: Sequence[str] = ()) -> dict[str, list[str]]:
    """Of seed 0, by system and task: the file's version, then a digest after each step that learns, up to the
    fifth update. On some tasks only, if any are given.
    """
    found = {}
    for system, task in systems_and_tasks():
        if tasks and task not in tasks:
            continue
        cell = small_cell(system, task, steps=1000)
        trainer = Trainer(cell, [0])
        ladder = [f"version {cell.versions['algorithm']}"]
        while trainer.updates < 5:
            before = trainer.updates
            trainer.advance()
            if trainer.updates > before:
                ladder += trainer.digests()
        found[f"{system} {task}"] = ladder
    return found


def recorded() -> dict[str, dict[str, list[str]]]:
    """What is on file, by platform."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def defaults() -> dict[str, dict[str, Any]]:
    """The default of every hyperparameter, by algorithm file, with the file's version."""
    modules = {system.algorithm: system.module() for system in algorithms.SYSTEMS.values()}
    return {
        name: {"version": module.VERSION, "defaults": resolve.plain(module.Config())}
        for name, module in modules.items()
    }


def recorded_defaults() -> dict[str, dict[str, Any]]:
    """What is on file."""
    return json.loads(DEFAULTS.read_text()) if DEFAULTS.exists() else {}


def conflicts(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[str]:
    """The hyperparameters whose default has changed, or that are gone, under the same version."""
    return [
        f"{name}: {field}"
        for name, known in before.items()
        if name in after and known["version"] == after[name]["version"]
        for field, value in known["defaults"].items()
        if after[name]["defaults"].get(field, "absent") != value
    ]


if __name__ == "__main__":
    if changed := conflicts(recorded_defaults(), defaults()):
        sys.exit(f"raise VERSION first, the default has changed of {', '.join(changed)}")
    DEFAULTS.write_text(json.dumps(defaults(), indent=1, sort_keys=True) + "\n")
    for switch in ("off", "on"):
        os.environ["ASCENT_KERNELS"] = switch
        kernels._library.cache_clear()
        new = recorded() | {platform_key(): digests()}
        FILE.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n")
        print(f"recorded for {platform_key()}")
