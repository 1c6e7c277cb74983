"""The final policies of a cell's runs, to play by: checked against the records, loaded.

A policy is a run's `policy.npz`: what acting needs, and no replay.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Streams
from ascent.records import files
from ascent.records.cell import FIRST_TUNING_SEED, Cell
from ascent.records.checkpoints import unpack_arrays
from ascent.records.errors import DamagedFile, InputError
from ascent.runners.resolve import make_agent, versions

POLICY = "policy.npz"


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
    if found[0] < FIRST_TUNING_SEED <= found[-1]:
        raise InputError(
            f"{cell.label()}: tuning seeds ({FIRST_TUNING_SEED} and up) and others cannot play together"
        )
    return found


def seed_of(run: Path) -> int:
    """The seed of a run's folder. Raises InputError for another folder."""
    name = run.resolve().name.removeprefix("seed-")
    if not name.isdecimal() or not run.is_dir():
        raise InputError(f"{run} is not the folder of a run, .../seed-0")
    return int(name)


def load(cell: Cell, folder: Path, seeds: Sequence[int], step: int | None = None) -> object:
    """An agent of these seeds with their final policies, or those kept at a step. Raises InputError if one
    is missing, damaged (DamagedFile) or of other versions than the code here.
    """
    if cell.system not in SYSTEMS:
        raise InputError(f"{cell.label()} was not trained here: there is no policy")
    there = versions(cell.system, cell.suite)
    if cell.versions != there:
        raise InputError(
            f"{cell.label()} was trained with versions {cell.versions}; these are {there}: train it again"
        )
    policies = [_read(folder / f"seed-{seed}", step) for seed in seeds]
    agent = make_agent(cell, Streams(seeds, "init"), "cpu")
    state = agent.state_dict()
    needed = {name: x.shape[1:] for name, x in state.items() if name.startswith(("params/", "normaliser/"))}
    for seed, policy in zip(seeds, policies, strict=True):
        if needed != {name: x.shape[1:] for name, x in policy.items()}:
            raise DamagedFile(f"{folder / f'seed-{seed}'}: the policy is none of {cell.label()}")
    for name in needed:
        state[name] = torch.from_numpy(np.concatenate([policy[name] for policy in policies]))
    agent.load_state_dict(state)
    return agent


def _read(run: Path, step: int | None) -> dict[str, np.ndarray]:
    name = POLICY if step is None else f"policy-{step}.npz"
    path = run / name
    if not path.exists():
        kept = sorted(int(found.stem.partition("-")[2]) for found in run.glob("policy-*.npz"))
        there = f"; kept are those of steps {kept}" if step is not None and kept else ""
        raise InputError(f"{path} is missing: without a policy the run cannot play{there}")
    data = path.read_bytes()
    if step is None and sha256(data).hexdigest() != digest(run):
        raise DamagedFile(f"{path} is damaged: it is not what was recorded")
    try:
        return unpack_arrays(data)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error


def digest(folder: Path) -> str:
    """The sha256 of a finished run's policy, as it was recorded; "" where it was not."""
    digests = files.read_json(folder / "result.json").get("digests")
    return str(digests.get(POLICY, "")) if isinstance(digests, dict) else ""
