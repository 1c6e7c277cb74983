"""What has the same bits on other processors.

    .venv/bin/python -m tests.portability                           restrict this processor, and compare
    .venv/bin/python -m tests.portability --digests [TASK ...]      print the digests as JSON
    .venv/bin/python -m tests.portability --against FILE            compare with another machine or emulator,
    qemu-x86_64 -cpu Haswell .venv/bin/python -m tests.portability --digests CartPole-v1 > FILE   as here

The vector instructions of a processor decide which code computes matrix products and elementary functions in
torch, MKL, numpy and the C library. Compared are the steps of every task under given actions, and the first
five updates of every system (`tests/algorithms/golden.py`), with and without the kernels.
"""

# isort: off
from ascent import algorithms  # before numpy and torch: it chooses their mathematical functions
# isort: on

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from ascent import kernels, suites
from ascent.suites.anchors import random_actions
from tests.algorithms import golden

STEPS = 300
RESTRICTED = {
    "torch: without AVX2": {"ATEN_CPU_CAPABILITY": "default"},
    "MKL: any code": {"MKL_CBWR": "AUTO"},
    "MKL: without AVX2": {"MKL_CBWR": "COMPATIBLE"},
    "numpy: without AVX2": {"NPY_DISABLE_CPU_FEATURES": "X86_V3"},
    "OpenBLAS: for Zen": {"OPENBLAS_CORETYPE": "Zen"},
    "OpenBLAS: without AVX": {"OPENBLAS_CORETYPE": "Nehalem"},
    "C library: without AVX2, FMA": {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4"},
}
Digests = dict[str, dict[str, object]]  # by part ("tasks: mujoco"), then by name


def steps(task: str) -> str:
    """Return a digest of what two environments of a task show and reward under random actions."""
    batch = suites.make(task, np.arange(2)[:, None])
    rng, digest = np.random.default_rng(0), sha256(np.asarray(batch.reset()).tobytes())
    for _ in range(STEPS):
        step = batch.step(random_actions(batch.spec.action_space, batch.shape, rng))
        digest.update(np.asarray(step.obs).tobytes() + np.asarray(step.reward).tobytes())
    return digest.hexdigest()[:16]


def digests(tasks: Sequence[str]) -> Digests:
    """Return all digests of this process's setting, or those of some tasks."""
    found: Digests = {}
    for task in tasks or suites.TASKS:
        found.setdefault(f"steps of {suites.TASKS[task].suite} tasks", {})[task] = steps(task)
    for switch, path in (("on", "kernels"), ("off", "torch")):
        os.environ["ASCENT_KERNELS"] = switch
        kernels._library.cache_clear()
        if kernels.enabled() == (switch == "on"):
            for name, ladder in golden.digests(tasks).items():
                suite = suites.TASKS[name.split()[1]].suite
                found.setdefault(f"training on {suite} tasks, {path}", {})[name] = ladder
    return found


def in_process(variables: dict[str, str]) -> Digests:
    """Return the digests of a process with more environment variables."""
    chosen = {"ASCENT_KERNELS", *algorithms.PORTABLE}
    clean = {name: value for name, value in os.environ.items() if name not in chosen}
    command = [sys.executable, "-m", "tests.portability", "--digests"]
    done = subprocess.run(command, env=clean | variables, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def compared(known: Digests, others: dict[str, Digests]) -> Table:
    """Return a table of how many digests are the same, by part and setting, and which are not."""
    table = Table("", *others, box=None)
    for part, expected in known.items():
        cells = []
        for other in others.values():
            found = other.get(part, {})
            differ = [name for name, value in found.items() if expected[name] != value]
            count = f"{len(found) - len(differ)} of {len(found)}"
            cells.append(f"{count}\nnot: {', '.join(differ)}" if 0 < len(differ) < len(found) else count)
        table.add_row(part, *cells)
    return table


def main(words: list[str]) -> None:
    """Print the table, or the digests."""
    if words[:1] == ["--digests"]:
        print(json.dumps(digests(words[1:])))
        return
    if len(words) == 2 and words[0] == "--against":
        others = {words[1]: json.loads(Path(words[1]).read_text())}
    else:
        others = {name: in_process(variables) for name, variables in RESTRICTED.items()}
    Console(width=200).print(compared(in_process({}), others))


if __name__ == "__main__":
    main(sys.argv[1:])
