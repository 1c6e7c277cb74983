"""Load the trained policies of a cell's runs, after checking them against the records.

A policy is a run's `policy.npz`: what acting needs, and no replay.
"""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Agent, Streams
from ascent.records import files, layout
from ascent.records.cell import Cell, without_tuning
from ascent.records.checkpoints import State, unpack_arrays
from ascent.records.errors import DamagedFile, InputError, differences
from ascent.runners.resolve import make_agent, versions


def seeds_with(cell: Cell, folder: Path) -> list[int]:
    """Return the seeds of a cell's folder that have a final policy: all except those that diverged.

    Tuning seeds are left out beside reporting seeds.

    Raises:
        InputError: a run is not finished, or there are no policies.
    """
    seeds = []
    present = (layout.seed_of(path) for path in folder.iterdir())
    for seed in without_tuning(seed for seed in present if seed is not None):
        path = folder / layout.seed_folder(seed)
        if not (path / layout.RESULT).exists():
            raise InputError(f"{cell.label()}: seed {seed} is not finished")
        if files.read_json(path / layout.RESULT).get("status") == "done":
            seeds.append(seed)
    if not seeds:
        raise InputError(f"{cell.label()} has no finished runs with a policy")
    return sorted(seeds)


def seed_of(run: Path) -> int:
    """Return the seed of a run's folder. Raises InputError for any other folder."""
    seed = layout.seed_of(run.resolve())
    if seed is None or not run.is_dir():
        raise InputError(f"{run} is not a run folder, such as .../seed-0")
    return seed


def load(cell: Cell, folder: Path, seeds: Sequence[int], step: int | None = None) -> Agent:
    """Return an agent with the final policies of these seeds, or with those kept at a step.

    Raises:
        InputError: a policy is missing, damaged (DamagedFile), or of other versions than the installed code.
    """
    if cell.system not in SYSTEMS:
        raise InputError(f"{cell.label()} was imported: it has no policy")
    installed = versions(cell.system, cell.suite)
    if cell.versions != installed:
        raise InputError(
            f"{cell.label()} was trained with other versions ({differences(cell.versions, installed)}): "
            "train it again"
        )
    policies = [_read(folder / layout.seed_folder(seed), step) for seed in seeds]
    agent = make_agent(cell, Streams(seeds, "init"), "cpu")
    state = agent.state_dict()
    needed = {name: x.shape[1:] for name, x in state.items() if name.startswith(("params/", "normaliser/"))}
    for seed, policy in zip(seeds, policies, strict=True):
        if needed != {name: x.shape[1:] for name, x in policy.items()}:
            raise DamagedFile(
                f"{folder / layout.seed_folder(seed)}: the policy does not belong to {cell.label()}"
            )
    for name in needed:
        state[name] = torch.from_numpy(np.concatenate([policy[name] for policy in policies]))
    if "updates" in state:  # exploring is uniform before the first update
        state["updates"] = torch.ones_like(state["updates"])
    agent.load_state_dict(state)
    return agent


def _read(run: Path, step: int | None) -> State:
    path = run / (layout.POLICY if step is None else layout.kept_policy(step))
    if not path.exists():
        kept = sorted(int(path.stem.partition("-")[2]) for path in run.glob("policy-*.npz"))
        hint = f"; policies were kept at steps {kept}" if step is not None and kept else ""
        raise InputError(f"{path} is missing: there is no policy to play{hint}")
    data = path.read_bytes()
    if step is None and sha256(data).hexdigest() != digest(run):
        raise DamagedFile(f"{path} is damaged: it differs from the recorded policy")
    try:
        return unpack_arrays(data)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error


def digest(run: Path) -> str:
    """Return the recorded sha256 of a finished run's policy; "" if none was recorded."""
    digests = files.read_json(run / layout.RESULT).get("digests")
    return str(digests.get(layout.POLICY, "")) if isinstance(digests, dict) else ""
