"""Cross-play: the adversaries of one trained cell against the agents of another.

If both sides learn, their training returns show which side wins, not how well either plays. In cross-play,
every side also meets opponents that it was not trained with, as in section 5 of arXiv 1706.02275.

Seed k of one cell plays against seed k of the other, so that n seeds are n independent samples. Both sides
act greedily with their final policies. Every pair of cells plays in the same environments, which depend on
the seed alone and are used in no training and no evaluation.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Streams
from ascent.records import files, layout, shelf
from ascent.records.cell import Cell, read_cell
from ascent.records.errors import InputError, unknown
from ascent.records.plan import seed_ranges
from ascent.runners import own, policies
from ascent.runners.play import Episode, Policy, env_seeds, play
from ascent.suites.spec import Team

# The means over the episodes follow: the return of the mean agent of each side, and the task's measures.
KEYS = (
    "task", "adversaries", "adversaries_cell", "adversaries_policy", "agents", "agents_cell", "agents_policy",
    "seed", "episodes",
)  # fmt: skip
RETURNS = ("adversaries_return", "agents_return")


@dataclass(frozen=True)
class Trained:
    """A finished cell. `name` is its system, with the digest where another cell has the same system."""

    cell: Cell
    folder: Path
    name: str


def team_of(spec: suites.Spec) -> Team:
    """Return the team of a task with adversaries. Raises InputError for any other task."""
    if not _competitive(spec.id) or spec.team is None:
        competitive = ", ".join(filter(_competitive, suites.TASKS))
        raise InputError(f"{spec.id} has no adversaries; tasks with adversaries: {competitive}")
    return spec.team


def _competitive(task: str) -> bool:
    team = suites.TASKS[task].team
    return team is not None and "adversary" in team.sides


def find(task: str, runs: Path, names: Sequence[str] = ()) -> list[Trained]:
    """Return the cells of a task in a folder of run records: those of the named systems or digests; default:
    all.

    Raises:
        InputError: a task without adversaries, an unknown name, several cells of a system, or fewer than two
        cells.
    """
    if task not in suites.TASKS:
        raise unknown("task", task, suites.TASKS)
    team_of(suites.TASKS[task])
    folders = sorted((runs / suites.TASKS[task].suite / task).glob(f"*/{layout.CELL}"))
    cells = [read_cell(path.parent) for path in folders]
    for cell in cells:
        with suppress(InputError):  # an algorithm's file that is not known here: its cells have no players
            own.admit(cell)
    if not any(cell.system in SYSTEMS for cell in cells):  # imported cells have no policies
        raise InputError(f"there are no runs of {task} in {runs}")
    chosen = [
        _named(name, cells, runs)
        for name in names or dict.fromkeys(cell.system for cell in cells if cell.system in SYSTEMS)
    ]
    for cell in chosen:
        if chosen.count(cell) > 1:
            raise InputError(f"{cell.label()} is named twice")
    if len(chosen) < 2:
        verb = "named" if names else "available"
        raise InputError(f"cross-play needs two cells; only {chosen[0].label()} is {verb}")
    systems = Counter(cell.system for cell in chosen)
    labels = [cell.system if systems[cell.system] == 1 else f"{cell.system} {cell.digest}" for cell in chosen]
    return [Trained(cell, cell.folder(runs), label) for cell, label in zip(chosen, labels, strict=True)]


def _named(name: str, cells: Sequence[Cell], runs: Path) -> Cell:
    """Return the one cell of a system, or whose digest begins with `name`."""
    of_system = [cell for cell in cells if cell.system == name]
    matches = of_system or [cell for cell in cells if name and cell.digest.startswith(name)]
    if len(matches) > 1:
        names = ", ".join(cell.name for cell in matches)
        raise InputError(f"{name}: {len(matches)} cells match, choose one by its digest (--systems): {names}")
    if not matches and name in SYSTEMS:
        raise InputError(f"there are no runs of {name} on {cells[0].task} in {runs}")
    if not matches:
        raise unknown("system", name, [*SYSTEMS, *(cell.digest for cell in cells)])
    return matches[0]


def record(
    trained: Sequence[Trained],
    episodes: int,
    seeds: Sequence[int] | None = None,
    tick: Callable[[], None] = lambda: None,
) -> bytes:
    """Play every pair of cells and return a CSV with a row per pair and seed: `KEYS`, `RETURNS`, measures.

    `tick` is called after each pair. Default for `seeds`: all finished seeds, which must be the same in all
    cells. The same policies give the same bytes.

    Raises:
        InputError: before anything is played: runs that are not finished, policies that are missing, damaged
            (DamagedFile) or of other versions.
    """
    if episodes < 1:
        raise InputError(f"episodes must be at least 1, not {episodes}")
    torch.set_num_threads(1)
    seeds = _seeds(trained, seeds)
    teams = [policies.load(one.cell, one.folder, seeds) for one in trained]
    names = {one.cell.digest: policies.names(one.folder, seeds) for one in trained}
    spec = suites.TASKS[trained[0].cell.task]
    team = team_of(spec)
    lines = [",".join((*KEYS, *RETURNS, *(name for name, _ in team.measures)))]
    for adversaries, hostile_team in zip(trained, teams, strict=True):
        for agents, team_policy in zip(trained, teams, strict=True):
            env = suites.make(spec.id, env_seeds(seeds, episodes, "crossplay"))
            played = play(Mixed(hostile_team, team_policy, spec), env, Streams(seeds, "crossplay"))
            for seed, of_seed in zip(seeds, played, strict=True):
                sides = [
                    word
                    for side in (adversaries, agents)
                    for word in (side.name, side.cell.digest, names[side.cell.digest][seed])
                ]
                numbers = map(repr, _means(of_seed, team))
                lines.append(",".join((spec.id, *sides, str(seed), str(episodes), *numbers)))
            tick()
    return "".join(f"{line}\n" for line in lines).encode()


def keep(table: bytes, task: str, runs: Path) -> Path | None:
    """Keep a table beside the cells of its task, where reports find it, in place of the one before.

    Returns its path; None if the folder ships with the suite: then nothing is written.
    """
    if runs.resolve().is_relative_to(shelf.HOME):
        return None
    folder = runs / suites.TASKS[task].suite / task
    files.refuse_link(folder)
    files.write(folder / layout.CROSSPLAY, table)
    return folder / layout.CROSSPLAY


class Mixed:
    """A team whose adversaries act as those of one trained team and whose agents act as those of another."""

    def __init__(self, adversaries: Policy, agents: Policy, spec: suites.Spec):
        self.teams = adversaries, agents
        assert isinstance(spec.action_space, spaces.Tuple)  # one space per agent
        discrete = spec.choices is not None
        sizes = [1 if discrete else spaces.utils.flatdim(space) for space in spec.action_space]
        hostile = np.array(team_of(spec).sides) == "adversary"
        self.hostile = torch.from_numpy(np.repeat(hostile, sizes))  # by the numbers of a joint action

    def act(
        self, obs: torch.Tensor, rng: Streams, explore: bool, progress: float, carry: Any
    ) -> tuple[torch.Tensor, Any]:
        before = carry or (None, None)
        acted = [
            team.act(obs, rng, explore, progress, inner)
            for team, inner in zip(self.teams, before, strict=True)
        ]
        (adversaries, one), (agents, other) = acted
        return torch.where(self.hostile, adversaries, agents), (one, other)


def _means(episodes: Sequence[Episode], team: Team) -> list[float]:
    """Return the means over a seed's episodes: of each side's returns, then of the measures."""
    n = len(team.agents)
    means = np.array([episode[-n - len(team.measures) :] for episode in episodes]).mean(0)
    hostile = np.array(team.sides) == "adversary"
    return [float(means[:n][hostile].mean()), float(means[:n][~hostile].mean()), *means[n:].tolist()]


def _seeds(trained: Sequence[Trained], chosen: Sequence[int] | None) -> list[int]:
    """Return the seeds that play: the chosen ones, or all finished ones. Raises InputError."""
    finished = [policies.seeds_with(one.cell, one.folder) for one in trained]
    for one, seeds in zip(trained, finished, strict=True):
        if chosen is not None and (missing := sorted(set(chosen) - set(seeds))):
            raise InputError(f"{one.cell.label()} has no policy of seed {missing[0]}")
        if chosen is None and seeds != finished[0]:
            raise InputError(
                f"{trained[0].cell.label()} and {one.cell.label()} have different seeds "
                f"({seed_ranges(finished[0])}, {seed_ranges(seeds)}): choose common ones with --seeds"
            )
    return finished[0] if chosen is None else sorted(chosen)
