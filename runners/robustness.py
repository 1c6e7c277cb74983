"""Robustness: play the final policy of each seed, unchanged, under conditions that it was not trained in.

    runs/<suite>/<task>/<cell>/robustness/<kind>-<level>.csv     a row per seed and episode, see `KEYS`
    runs/<suite>/<task>/<cell>/robustness/grid.json              the levels that are fixed in advance

`suites/perturb.py` defines the perturbations and the grid; this module has what needs the policy. Policies
act greedily, except under `rpc_dropout`, where they act as in training. Environments and noise depend on the
seed and the episode alone: they are the same at every level of every perturbation and for every cell of a
task. Each level is played by itself, so that its bytes do not depend on which other levels are requested (the
last bits of a row of a matrix product depend on the number of rows).

Where an observation is missing, a policy that predicts (`predicts` of an Agent: RPC) gets NaN; any other
policy gets the last observation it had.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ascent import suites
from ascent.algorithms.seedwise import SingleAgent, Streams
from ascent.records import files, layout
from ascent.records.cell import Cell, read_cell
from ascent.records.errors import InputError
from ascent.runners import policies
from ascent.runners.play import Episode, Policy, env_seeds, play
from ascent.suites import perturb
from ascent.suites.perturb import NOMINAL, Perturbation, Perturbed

KEYS = ("version", "kind", "level", "seed", "policy", "episode", "return", "length", "unstable")
GRID = "grid.json"


class LastSeen:
    """A policy that gets, for each missing (NaN) number of an observation, the last one that was present."""

    def __init__(self, policy: Policy):
        self.policy = policy

    def act(
        self, obs: torch.Tensor, rng: Streams, explore: bool, progress: float, carry: Any
    ) -> tuple[torch.Tensor, Any]:
        last, inner = carry or (obs, None)
        seen = torch.where(obs.isnan(), last, obs)
        action, inner = self.policy.act(seen, rng, explore, progress, inner)
        return action, (seen, inner)


class Attacked:
    """A policy whose observations an adversary changes, each number by at most `size`.

    The attack is projected gradient descent (Madry et al. 2018, arXiv 1706.06083) through the policy from a
    random start. For discrete actions it moves the policy away from its preferred action towards the next
    best one; for continuous actions it moves the action as far as possible.
    """

    STEPS = 5

    def __init__(self, agent: SingleAgent, size: float, discrete: bool, noise: Streams):
        self.agent = agent
        self.size = size
        self.discrete = discrete
        self.noise = noise

    def act(
        self, obs: torch.Tensor, rng: Streams, explore: bool, progress: float, carry: Any
    ) -> tuple[torch.Tensor, Any]:
        return self.agent.act(self._attack(obs), rng, explore, progress, carry)

    def _attack(self, obs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            preferred = self.agent.preference(obs)
        change = self.size * (2 * self.noise.uniform(*obs.shape[1:]).float() - 1)
        for _ in range(self.STEPS):
            change.requires_grad_()
            with torch.enable_grad():
                harm = self._harm(self.agent.preference(obs + change), preferred)
            (slope,) = torch.autograd.grad(harm.sum(), change)
            change = change.detach() + 2.5 * self.size / self.STEPS * slope.sign()
            change = change.clamp(-self.size, self.size)
        return obs + change

    def _harm(self, attacked: torch.Tensor, preferred: torch.Tensor) -> torch.Tensor:
        """Return (S, E): the distance of an attacked preference (S, E, A) from the original one."""
        if not self.discrete:
            return (attacked - preferred).square().sum(-1)
        best = preferred.argmax(-1, keepdim=True)
        others = attacked.scatter(-1, best, float("-inf"))
        return others.amax(-1) - attacked.gather(-1, best).squeeze(-1)


def parse_levels(task: str, words: Sequence[str]) -> list[Perturbation]:
    """Return the perturbations that words such as "drop" or "drop=0.5,0.9" select; without words, the whole
    grid.

    The nominal task is always included, and so is level 0 of `rpc_dropout` with any of its levels.

    Raises:
        InputError: a multi-agent task, an unknown perturbation or an invalid level.
    """
    levels: list[Perturbation] = []
    for word in (NOMINAL, *(words or (perturb.kinds(task) if task in suites.TASKS else ()))):
        chosen = levels_of(task, word)
        levels += [Perturbation(chosen[0].kind, 0.0)] * chosen[0].explore + chosen
    return list(dict.fromkeys(levels))


def levels_of(task: str, word: str) -> list[Perturbation]:
    """Return the perturbations that a word such as "drop", all levels of the grid, or "drop=0.5" selects.

    Raises:
        InputError: as `parse_levels`.
    """
    if task not in suites.TASKS:
        raise InputError(f"{task} is not a task of this project: perturbations are for these alone")
    if not perturb.kinds(task):
        raise InputError(f"{task} has several agents: perturbations need a single-agent task")
    kind, equals, values = word.partition("=")
    if equals:
        levels = [Perturbation(kind, _number(kind, value)) for value in values.split(",")]
    else:
        levels = [level for level in perturb.grid(task) if level.kind == kind] or [Perturbation(kind, 0.0)]
    for level in levels:
        try:
            perturb.check(task, level)
        except ValueError as error:
            raise InputError(str(error)) from error
    return levels


def _number(kind: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{kind}: {text!r} is not a number") from None


def record(
    folder: Path,
    levels: Sequence[Perturbation],
    episodes: int,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> Path:
    """Play the levels that are not recorded yet with the policies of a cell, and return the folder of the
    tables.

    `tick` is called after each level. The same policies give the same bytes.

    Raises:
        InputError: before anything is played, as `policies.load` does.
    """
    if episodes < 1:
        raise InputError(f"episodes must be at least 1, not {episodes}")
    torch.set_num_threads(1)
    cell = read_cell(folder)
    seeds = policies.seeds_with(cell, folder)
    agent = policies.load(cell, folder, seeds)
    if any(level.kind == "adversary" for level in levels) and not hasattr(agent, "preference"):
        reason = "adversaries follow `preference`, which its algorithm has not: choose others with --grid"
        raise InputError(f"{cell.label()}: {reason}")
    out = folder / layout.ROBUSTNESS
    _refuse_other_episodes(out, cell, episodes)
    files.refuse_link(out)
    out.mkdir(exist_ok=True)
    grid = files.json_bytes(perturb.about(cell.task))
    if not (out / GRID).exists() or files.read(out / GRID) != grid:
        files.write(out / GRID, grid)
    names = policies.names(folder, seeds)
    for level in levels:
        keys = _keys(level, names, episodes)
        path = out / f"{level.name}.csv"
        if not _is_recorded(path, keys):
            played = play_level(agent, cell, seeds, level, episodes, threads)
            files.write(path, _table(keys, played).encode())
        tick()
    return out


def again(folder: Path, level: Perturbation, episodes: int) -> str:
    """Return the table of a level, played now, recorded or not. Raises InputError as `record` does."""
    torch.set_num_threads(1)
    cell = read_cell(folder)
    seeds = policies.seeds_with(cell, folder)
    agent = policies.load(cell, folder, seeds)
    keys = _keys(level, policies.names(folder, seeds), episodes)
    return _table(keys, play_level(agent, cell, seeds, level, episodes))


def _keys(level: Perturbation, names: dict[int, str], episodes: int) -> list[tuple[str, ...]]:
    """Return the first columns of a level's table, given the policies' names by seed."""
    first = (str(perturb.VERSION), level.kind, repr(float(level.level)))
    return [(*first, str(seed), name, str(n)) for seed, name in names.items() for n in range(episodes)]


def _table(keys: Sequence[tuple[str, ...]], played: Sequence[Sequence[Episode]]) -> str:
    numbers = [episode for of_seed in played for episode in of_seed]
    rows = [",".join((*key, *map(repr, row[:3]))) for key, row in zip(keys, numbers, strict=True)]
    return "".join(f"{row}\n" for row in (",".join(KEYS), *rows))


def _refuse_other_episodes(out: Path, cell: Cell, episodes: int) -> None:
    """Raise InputError if the recorded tables have another number of episodes: do not mix them."""
    path = out / f"{NOMINAL}-0.csv"
    rows = files.read(path).decode(errors="replace").splitlines()[1:] if path.exists() else []
    recorded = {row.split(",")[5] for row in rows if row.count(",") == len(KEYS) - 1}
    if recorded and len(recorded) != episodes:
        raise InputError(
            f"{cell.label()}: the tables in {out} have {len(recorded)} episodes per seed, not {episodes}: "
            f"use --episodes {len(recorded)}, or remove them"
        )


def _is_recorded(path: Path, keys: Sequence[tuple[str, ...]]) -> bool:
    """Return whether a table has exactly these rows."""
    if not path.exists():
        return False
    text = files.read(path).decode(errors="replace")
    head, *rows = text.splitlines() or [""]
    whole = text.endswith("\n")  # else the last row may be cut
    return whole and head == ",".join(KEYS) and [tuple(row.split(",")[:6]) for row in rows] == list(keys)


def play_level(
    agent: Policy,
    cell: Cell,
    seeds: Sequence[int],
    level: Perturbation,
    episodes: int,
    threads: int = 1,
) -> list[list[Episode]]:
    """Play one episode in each of `episodes` environments per seed under a perturbation; see `play`."""
    env = Perturbed(
        cell.task,
        level,
        env_seeds(seeds, episodes, "robustness"),
        env_seeds(seeds, episodes, "perturbation"),
        threads,
    )
    policy = perturbed_policy(agent, level, suites.TASKS[cell.task], seeds)
    return play(policy, env, Streams(seeds, "robustness"), level.explore)


def perturbed_policy(agent: Any, level: Perturbation, spec: suites.Spec, seeds: Sequence[int]) -> Policy:
    """Return the policy as it acts under a perturbation: attacked, shown old observations, or as it is."""
    if level.kind == "adversary":
        return Attacked(agent, level.level, spec.choices is not None, Streams(seeds, "adversary"))
    if getattr(agent, "predicts", False):
        policy: Policy = agent
        return policy
    return LastSeen(agent)
