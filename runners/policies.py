"""Load the trained policies of a cell's runs, after checking them against the records.

A policy is a run's `policy.npz`: what acting needs, and no replay. It describes itself, see `about`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Box, Space, Tuple
from gymnasium.spaces.utils import flatdim, flatten_space

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Agent, Step, Streams
from ascent.records import layout
from ascent.records.cell import Cell, refuse_large, without_tuning
from ascent.records.checkpoints import MOST_POLICY, State, unpack_arrays
from ascent.records.errors import DamagedFile, InputError, differences
from ascent.records.policy import ABOUT, check_recorded, recorded_digest
from ascent.records.store import Store
from ascent.runners import environments, own
from ascent.runners.resolve import make_agent, versions

ACTING = ("params/", "normaliser/")  # what acting needs of an agent's state


def about(agent: Agent, spec: suites.Spec) -> str:
    """Return how an agent acts without exploring, as JSON text: all that acting needs beside the arrays.

    {"task": "...", "observation_space": ..., "action_space": ...,
     "agents": [{"observation": [first, last + 1], "steps": [{"name": "dense", "weight": {"array":
     "params/policy", "first": 0, "shape": [4, 64]}, ...}, ...]}]}

    An algorithm from outside the suite need not say how it acts: then there are no `agents`.

    The agents of a team take their part of all observations, one after another; `steps` are those of
    `seedwise/acting.py`. A tensor is a part of an array of the file, by its first number and its shape.
    """
    state = {name: x for name, x in agent.state_dict().items() if name.startswith(ACTING)}
    spaces, actions = _of_agents(spec.observation_space), _of_agents(spec.action_space)
    described: list[dict[str, Any]] = []
    first = 0
    all_steps = agent.greedy_steps() if hasattr(agent, "greedy_steps") else None
    for space, action, steps in zip(spaces, actions, all_steps, strict=True) if all_steps else ():
        size = flatdim(space)
        clipped = [Step("clip", _bounds(action))] if steps[-1].name != "argmax" else []
        described.append({
            "observation": [first, first + size],
            "steps": [
                {"name": step.name} | {key: _plain(x, state) for key, x in step.arguments.items()}
                for step in [*steps, *clipped]
            ],
        })  # fmt: skip
        first += size
    facts = {
        "task": spec.id,
        "observation_space": repr(spec.observation_space),
        "action_space": repr(spec.action_space),
        "agents": described,
    }
    return json.dumps(facts, sort_keys=True)


def _of_agents(space: Space) -> list[Space]:
    """Return the space of each agent: a multi-agent task has a Tuple of them."""
    return list(space) if isinstance(space, Tuple) else [space]


def _bounds(action: Space) -> dict[str, list[float]]:
    box = flatten_space(action)
    assert isinstance(box, Box)
    return {"low": box.low.tolist(), "high": box.high.tolist()}


def _plain(value: Any, state: Mapping[str, torch.Tensor]) -> Any:
    """Return an argument of a step as JSON holds it: tensors of the state by their place in it."""
    if not isinstance(value, torch.Tensor):
        return value
    for name, array in state.items():
        if array.untyped_storage().data_ptr() == value.untyped_storage().data_ptr():
            first = value.storage_offset() - array.storage_offset()
            return {"array": name, "first": first, "shape": list(value.shape[1:])}
    return value.tolist()


def seeds_with(cell: Cell, folder: Path) -> list[int]:
    """Return the seeds of a cell's folder that have a final policy: all except those that diverged.

    Tuning seeds are left out beside reporting seeds.

    Raises:
        InputError: a run is not finished, or there are no policies.
    """
    seeds = []
    store = Store(folder)
    for seed in without_tuning(store.seeds()):
        if not store.has(seed, layout.RESULT):
            raise InputError(f"{cell.label()}: seed {seed} is not finished")
        if store.json(seed, layout.RESULT).get("status") == "done":
            seeds.append(seed)
    if not seeds:
        raise InputError(f"{cell.label()} has no finished runs with a policy")
    return sorted(seeds)


def seed_of(run: Path) -> int:
    """Return the seed of a run's folder. Raises InputError for any other folder."""
    seed = layout.seed_of(run.resolve())
    if seed is None or not Store(run.resolve().parent).has(seed):
        raise InputError(f"{run} is not a run folder, such as .../seed-0")
    return seed


def load(cell: Cell, folder: Path, seeds: Sequence[int], step: int | None = None) -> Agent:
    """Return an agent with the final policies of these seeds, or with those kept at a step.

    Raises:
        InputError: a policy is missing, damaged (DamagedFile), or of other versions than the installed code.
    """
    own.admit(cell)
    if cell.system not in SYSTEMS:
        raise InputError(f"{cell.label()} was imported: it has no policy")
    if cell.task not in suites.TASKS:
        environments.refuse(cell, "its policies are not played")
    installed = versions(cell.system, cell.suite)
    if cell.versions != installed:
        raise InputError(
            f"{cell.label()} was trained with other versions ({differences(cell.versions, installed)}): "
            "train it again"
        )
    store = Store(folder)
    policies = [_read(store, seed, step) for seed in seeds]
    refuse_large(cell, min(sum(x.size for x in policy.values()) for policy in policies))
    agent = make_agent(cell, Streams(seeds, "init"), "cpu")
    state = agent.state_dict()
    needed = {name: x.shape[1:] for name, x in state.items() if name.startswith(ACTING)}
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


def _read(store: Store, seed: int, step: int | None) -> State:
    name = layout.POLICY if step is None else layout.kept_policy(step)
    path = store.cell / layout.seed_folder(seed) / name
    if not store.has(seed, name):
        matches = (layout.KEPT_POLICY.fullmatch(name) for name in store.names(seed))
        kept = sorted(int(match[1]) for match in matches if match)
        hint = f"; policies were kept at steps {kept}" if step is not None and kept else ""
        raise InputError(f"{path} is missing: there is no policy to play{hint}")
    data = store.read(seed, name)
    if step is None:
        check_recorded(data, store.json(seed, layout.RESULT), path)
    try:
        arrays = unpack_arrays(data, MOST_POLICY)
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    return {name: array for name, array in arrays.items() if name != ABOUT}


def names(folder: Path, seeds: Sequence[int]) -> dict[int, str]:
    """Return how tables name the policies of finished runs, by seed: the beginning of the sha256."""
    store = Store(folder)
    return {seed: recorded_digest(store.json(seed, layout.RESULT))[:16] for seed in seeds}
