"""The final policies of a cell's runs, to play by: checked against the records, loaded.

A policy is a run's `policy.npz`: what acting needs, and no replay.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from algorithms import SYSTEMS
from algorithms.seedwise import Streams
from runners import files
from runners.cell import TUNING_SEEDS, Cell
from runners.errors import DamagedFile, InputError
from runners.records import unpack_arrays
from runners.resolve import make_agent, versions

POLICY = "policy.npz"


def read_cell(folder: Path) -> Cell:
    """The cell that a folder's cell.json describes. Raises DamagedFile if it is not the folder's."""
    path = folder.resolve() / "cell.json"
    try:
        cell = Cell.from_json(files.read_json(path))
        own = cell.folder(path.parents[3])
    except (LookupError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged: it describes no cell") from error
    if own != path.parent:
        raise DamagedFile(f"{path} is damaged: it describes {cell.label()}")
    return cell


def seeds_with(cell: Cell, folder: Path) -> list[int]:
    """The seeds of the folder that have a final policy: not those that diverged. Raises InputError where
    one is not finished.
    """
    names = (path.name.removeprefix("seed-") for path in folder.glob("seed-*"))
    found = []
    for seed in sorted(int(name) for name in names if name.isdecimal()):
        if not cell.is_finished(seed, folder.resolve().parents[2]):
            raise InputError(f"{cell.label()} is not finished: seed {seed} is not")
        if files.read_json(folder / f"seed-{seed}" / "result.json").get("status") == "done":
            found.append(seed)
    if not found:
        raise InputError(f"{cell.label()} has no policies")
    if found[0] < TUNING_SEEDS <= found[-1]:
        raise InputError(
            f"{cell.label()}: tuning seeds ({TUNING_SEEDS} and up) and others cannot play together"
        )
    return found


def load(cell: Cell, folder: Path, seeds: Sequence[int]) -> object:
    """An agent of these seeds with their final policies. Raises InputError if one is missing, damaged
    (DamagedFile) or of other versions than the code here.
    """
    if cell.system not in SYSTEMS:
        raise InputError(f"{cell.label()} was not trained here: there is no policy")
    there = versions(cell.system, cell.suite)
    if cell.versions != there:
        raise InputError(
            f"{cell.label()} was trained with versions {cell.versions}; these are {there}: train it again"
        )
    policies = [unpack_arrays(read(folder / f"seed-{seed}")) for seed in seeds]
    agent = make_agent(cell, Streams(seeds, "init"), "cpu")
    state = agent.state_dict()
    for name in policies[0]:
        state[name] = torch.from_numpy(np.concatenate([policy[name] for policy in policies]))
    agent.load_state_dict(state)
    return agent


def read(folder: Path) -> bytes:
    """The final policy in a run's folder. Raises InputError if there is none, DamagedFile if it is not as
    recorded.
    """
    path = folder / POLICY
    if not path.exists():
        raise InputError(f"{path} is missing: without a policy the run cannot play")
    data = path.read_bytes()
    if sha256(data).hexdigest() != digest(folder):
        raise DamagedFile(f"{path} is damaged: it is not what was recorded")
    return data


def digest(folder: Path) -> str:
    """The sha256 of a finished run's policy, as it was recorded; "" where it was not."""
    digests = files.read_json(folder / "result.json").get("digests")
    return str(digests.get(POLICY, "")) if isinstance(digests, dict) else ""
