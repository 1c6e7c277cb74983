"""Crossplay: the adversaries that one cell trained against the agents that another trained.

Where both sides learn, their returns in training say who wins, not how well either plays. Here every side
meets those it did not grow up with, too, as in section 5 of arXiv 1706.02275.

Seed k of one cell plays against seed k of the other, so that n seeds are n independent samples. Both act
greedily, by their final policies. Every pair of cells meets in the same environments, which depend on the
seed alone and are in no training and no evaluation.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Streams
from ascent.records.cell import Cell, read_cell
from ascent.records.errors import InputError, unknown
from ascent.runners import policies
from ascent.runners.play import env_seeds, play

# Then come the means over the episodes: the return of the mean agent of each side, and the task's measures.
KEYS = (
    "task", "adversaries", "adversaries_cell", "adversaries_policy", "agents", "agents_cell", "agents_policy",
    "seed", "episodes",
)  # fmt: skip
RETURNS = ("adversaries_return", "agents_return")


@dataclass(frozen=True)
class Trained:
    """A cell whose runs are done; `name` is its system, with the digest where another cell has the same."""

    cell: Cell
    folder: Path
    name: str


def find(task: str, runs: Path, wanted: Sequence[str] = ()) -> list[Trained]:
    """The cells of the task below `runs`, those of the `wanted` systems or digests, or all.

    Raises InputError for a task without adversaries, a name that is not there, two cells of a system, or
    fewer than two cells.
    """
    if task not in suites.TASKS:
        raise unknown("task", task, suites.TASKS)
    if not _competitive(task):
        able = ", ".join(filter(_competitive, suites.TASKS))
        raise InputError(f"{task}: nobody plays against anybody; tasks with adversaries are {able}")
    folders = sorted((runs / suites.TASKS[task].suite / task).glob("*/cell.json"))
    cells = [read_cell(path.parent) for path in folders]
    if not any(cell.system in SYSTEMS for cell in cells):  # others were imported, and have no policies
        raise InputError(f"there are no runs of {task} in {runs}")
    chosen = [
        _named(name, cells, runs)
        for name in wanted or dict.fromkeys(cell.system for cell in cells if cell.system in SYSTEMS)
    ]
    for cell in chosen:
        if chosen.count(cell) > 1:
            raise InputError(f"{cell.label()} is named twice")
    if len(chosen) < 2:
        verb = "named" if wanted else "there"
        raise InputError(f"only {chosen[0].label()} is {verb}: crossplay needs two cells")
    systems = Counter(cell.system for cell in chosen)
    names = [cell.system if systems[cell.system] == 1 else f"{cell.system} {cell.digest}" for cell in chosen]
    return [Trained(cell, cell.folder(runs), name) for cell, name in zip(chosen, names, strict=True)]


def _competitive(task: str) -> bool:
    team = suites.TASKS[task].team
    return team is not None and "adversary" in team.sides


def _named(name: str, cells: Sequence[Cell], runs: Path) -> Cell:
    """The one cell of a system, or with a digest that begins so."""
    own = [cell for cell in cells if cell.system == name]
    found = own or [cell for cell in cells if name and cell.digest.startswith(name)]
    if len(found) > 1:
        several = ", ".join(f"{cell.system}-{cell.preset}-{cell.digest}" for cell in found)
        raise InputError(f"{name}: there are {len(found)} cells, name the digest (--systems): {several}")
    if not found and name in SYSTEMS:
        raise InputError(f"there are no runs of {name} on {cells[0].task} in {runs}")
    if not found:
        raise unknown("system", name, [*SYSTEMS, *(cell.digest for cell in cells)])
    return found[0]


def record(
    trained: Sequence[Trained],
    episodes: int,
    seeds: Sequence[int] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> bytes:
    """A CSV with a row for each pair of cells and each seed: `KEYS`, `RETURNS`, the task's measures. After
    each pair `tick` is called. Without `seeds` all that are done play, which must be the same in all cells.

    The same policies give the same bytes. Raises InputError before anything is played: runs that are not
    done, policies that are missing, damaged (DamagedFile) or of other versions.
    """
    if episodes < 1:
        raise InputError(f"episodes: {episodes} must be at least 1")
    torch.set_num_threads(1)
    seeds = _seeds(trained, seeds)
    teams = [policies.load(one.cell, one.folder, seeds) for one in trained]
    spec = suites.TASKS[trained[0].cell.task]
    lines = [",".join((*KEYS, *RETURNS, *(name for name, _ in spec.team.measures)))]
    for adversaries, their_team in zip(trained, teams, strict=True):
        for agents, own_team in zip(trained, teams, strict=True):
            env = suites.make(spec.id, env_seeds(seeds, episodes, "crossplay"))
            found = play(Mixed(their_team, own_team, spec), env, Streams(seeds, "crossplay"))
            for seed, own in zip(seeds, found, strict=True):
                names = [word for one in (adversaries, agents) for word in _names(one, seed)]
                numbers = map(repr, _means(own, spec))
                lines.append(",".join((spec.id, *names, str(seed), str(episodes), *numbers)))
            tick()
    return "".join(f"{line}\n" for line in lines).encode()


class Mixed:
    """A team whose adversaries act as those of one trained team, its agents as those of another."""

    def __init__(self, adversaries: object, agents: object, spec: suites.Spec):
        self.teams = adversaries, agents
        sizes = [
            1 if spec.choices is not None else spaces.utils.flatdim(space) for space in spec.action_space
        ]
        sides = np.array(spec.team.sides) == "adversary"
        self.hostile = torch.from_numpy(np.repeat(sides, sizes))  # of an action's numbers

    def act(
        self, obs: torch.Tensor, rng: Streams, explore: bool, progress: float, carry: tuple | None
    ) -> tuple[torch.Tensor, tuple]:
        before = carry or (None, None)
        acted = [
            team.act(obs, rng, explore, progress, own) for team, own in zip(self.teams, before, strict=True)
        ]
        (adversaries, one), (agents, other) = acted
        return torch.where(self.hostile, adversaries, agents), (one, other)


def _means(episodes: Sequence[tuple], spec: suites.Spec) -> list[float]:
    """Means over a seed's episodes (`ascent.runners.train.Episodes`): of each side's returns, of the
    measures.
    """
    n = len(spec.team.agents)
    own = np.array([episode[-n - len(spec.team.measures) :] for episode in episodes]).mean(0)
    hostile = np.array(spec.team.sides) == "adversary"
    return [float(own[:n][hostile].mean()), float(own[:n][~hostile].mean()), *own[n:].tolist()]


def _names(one: Trained, seed: int) -> tuple[str, str, str]:
    """A side's name, its cell's digest, and the start of its policy's."""
    return one.name, one.cell.digest, policies.digest(one.folder / f"seed-{seed}")[:16]


def _seeds(trained: Sequence[Trained], wanted: Sequence[int] | None) -> list[int]:
    """The seeds that play: those that are wanted, or all that are done. Raises InputError."""
    found = [policies.seeds_with(one.cell, one.folder) for one in trained]
    for one, seeds in zip(trained, found, strict=True):
        if wanted is not None and (lacking := sorted(set(wanted) - set(seeds))):
            raise InputError(f"{one.cell.label()} has no policy of seed {lacking[0]}")
        if wanted is None and seeds != found[0]:
            raise InputError(
                f"{one.cell.label()} has policies of other seeds than {trained[0].cell.label()}, {seeds} "
                f"against {found[0]}: they play in pairs, choose --seeds"
            )
    return found[0] if wanted is None else sorted(wanted)
