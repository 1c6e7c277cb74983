"""Golden digests: each system over its first five updates, for each kind of action, on each platform.

    make golden           records them for this platform, after a deliberate change of results

Bits depend on the processor and on torch, so they are kept by platform
(`ascent.runners.platform.platform_key`).
"""

import json
from pathlib import Path

from ascent.runners.platform import platform_key
from ascent.runners.trainer import Trainer
from tests.small import small_cell, systems_and_tasks

FILE = Path(__file__).with_name("golden.json")


def digests() -> dict[str, list[str]]:
    """Of seed 0, by system and task: the file's version, then a digest after each step that learns, up to the
    fifth update.
    """
    found = {}
    for system, task in systems_and_tasks():
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


if __name__ == "__main__":
    FILE.write_text(json.dumps(recorded() | {platform_key(): digests()}, indent=1, sort_keys=True) + "\n")
    print(f"recorded for {platform_key()}")
