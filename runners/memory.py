"""The memory that replay will need, checked before anything is trained."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from ascent import suites
from ascent.algorithms.seedwise import Replay, Streams
from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.runners.experience import replay_rows, width
from ascent.runners.resolve import make_agent

GIB = 2**30


def replay_bytes(cell: Cell, seeds: int) -> int:
    """Return the bytes of the replay of some seeds of a cell, once it is full."""
    experience = make_agent(cell, Streams([0], "init"), "cpu").experience
    if not isinstance(experience, Replay):
        return 0
    return seeds * replay_rows(experience, cell.steps) * width(suites.TASKS[cell.task]) * 4


def memory(device: str) -> int:
    """Return the bytes of memory of the device; for the CPU, what this process's control group may use."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *group_limits(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))])


def group_limits(root: Path, process: Path) -> list[int]:
    """Return the memory limits of the control group (version 2) that the file `process` names below `root`,
    and of the groups above it.
    """
    try:
        group = root / process.read_text().rpartition("::/")[2].strip()
        paths = [folder / "memory.max" for folder in (group, *group.parents)]
        limits = [path.read_text().strip() for path in paths if path.exists()]
        return [int(limit) for limit in limits if limit != "max"]
    except OSError:
        return []  # no control groups on this machine


def check_memory(packs: Sequence[tuple[Cell, int]], device: str, workers: int = 1) -> None:
    """Raise InputError if memory is too small for the replay of the largest `workers` packs at once.

    A pack is (cell, number of seeds).
    """
    per_seed = {cell.digest: replay_bytes(cell, 1) for cell in {c.digest: c for c, _ in packs}.values()}
    needs = sorted(
        ((per_seed[cell.digest] * seeds, cell, seeds) for cell, seeds in packs), key=lambda need: -need[0]
    )[:workers]
    total = sum(need for need, *_ in needs)
    available = memory(device)
    if total > available:
        need, cell, seeds = needs[0]
        at_once = ""
        if len(needs) > 1:
            at_once = f", and the {len(needs)} largest processes together need {total / GIB:.1f} GiB"
        where = "the GPU" if device == "cuda" else "this machine"
        raise InputError(
            f"memory: the replay of {cell.system} on {cell.task} with {seeds} seeds in a process needs "
            f"{need / GIB:.1f} GiB{at_once}; {where} has {available / GIB:.1f} GiB: "
            "use fewer seeds per process (--pack), fewer processes (--jobs) or a smaller replay "
            "(--set capacity=...)"
        )
