"""Robustness: the final policy of each seed, unchanged, under conditions that it was not trained in.

    runs/<suite>/<task>/<cell>/robustness/<kind>-<level>.csv     a row for each seed and episode, see `KEYS`
    runs/<suite>/<task>/<cell>/robustness/grid.json              the levels that are fixed beforehand

What is perturbed, and the grid, is `suites/perturb.py`; here is what needs the policy. The policy acts
greedily. Environments and noise depend on the seed and the episode alone: every level of every perturbation,
and every cell of a task, meets the same. A level is played by itself, so that its bytes do not depend on
which others are asked for (the rows of a matrix product do, in their last bits, on how many there are).

An observation that is missing goes to a policy that predicts as NaN (`predicts` of an Agent: RPC); any other
is shown the last one it had.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ascent import suites
from ascent.algorithms.seedwise import Streams
from ascent.records import files
from ascent.records.cell import Cell, read_cell
from ascent.records.errors import InputError
from ascent.runners import policies
from ascent.runners.play import env_seeds, play
from ascent.suites import perturb
from ascent.suites.perturb import NOMINAL, Perturbation, Perturbed

FOLDER = "robustness"
KEYS = ("version", "kind", "level", "seed", "policy", "episode", "return", "length", "unstable")


class LastSeen:
    """A policy that is shown the last observation it had in place of one that is missing."""

    def __init__(self, agent: object):
        self.agent = agent

    def act(
        self, obs: torch.Tensor, rng: Streams, explore: bool, progress: float, carry: tuple | None
    ) -> tuple[torch.Tensor, tuple]:
        last, own = carry or (obs, None)
        seen = torch.where(obs.isnan(), last, obs)
        action, own = self.agent.act(seen, rng, explore, progress, own)
        return action, (seen, own)


class Attacked:
    """A policy whose observations an adversary changes, each number by at most `size`.

    Projected gradient descent (Madry et al. 2018, arXiv 1706.06083) through the policy, from a random start:
    away from the action that it prefers to the one it would least like to be mistaken for, or, where actions
    are numbers, as far from its own action as possible.
    """

    STEPS = 5

    def __init__(self, agent: object, size: float, discrete: bool, noise: Streams):
        self.agent, self.size, self.discrete, self.noise = agent, size, discrete, noise

    def act(
        self, obs: torch.Tensor, rng: Streams, explore: bool, progress: float, carry: object
    ) -> tuple[torch.Tensor, object]:
        return self.agent.act(self._attack(obs), rng, explore, progress, carry)

    def _attack(self, obs: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            own = self.agent.preference(obs)
        change = self.size * (2 * self.noise.uniform(*obs.shape[1:]).float() - 1)
        for _ in range(self.STEPS):
            change.requires_grad_()
            with torch.enable_grad():
                harm = self._harm(self.agent.preference(obs + change), own)
            (slope,) = torch.autograd.grad(harm.sum(), change)
            change = change.detach() + 2.5 * self.size / self.STEPS * slope.sign()
            change = change.clamp(-self.size, self.size)
        return obs + change

    def _harm(self, now: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """(S, E): how far what is preferred `now`, (S, E, A), is from its `own` preference."""
        if not self.discrete:
            return (now - own).square().sum(-1)
        best = own.argmax(-1, keepdim=True)
        others = now.scatter(-1, best, float("-inf"))
        return others.amax(-1) - now.gather(-1, best).squeeze(-1)


def wanted(task: str, words: Sequence[str]) -> list[Perturbation]:
    """The perturbations that a user's words mean, such as "drop" or "drop=0.5,0.9"; all of the grid without
    words. The nominal task is always among them. Raises InputError.
    """
    grid = perturb.grid(task)
    if not perturb.kinds(task):
        raise InputError(f"{task} has several agents: perturbations are of tasks with one")
    found = [grid[0], *(grid[1:] if not words else ())]
    for word in words:
        kind, equals, levels = word.partition("=")
        if equals:
            chosen = [Perturbation(kind, _number(kind, level)) for level in levels.split(",")]
        else:
            chosen = [one for one in grid if one.kind == kind] or [Perturbation(kind, 0.0)]
        for one in chosen:
            try:
                perturb.check(task, one)
            except ValueError as error:
                raise InputError(str(error)) from error
        found += chosen
    return list(dict.fromkeys(found))


def _number(kind: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{kind}: {text!r} is no number") from None


def record(
    folder: Path,
    wanted: Sequence[Perturbation],
    episodes: int,
    threads: int = 1,
    tick: Callable[[], None] = lambda: None,
) -> Path:
    """Play what is wanted and not there yet, with the policies of a cell's folder; returns the folder of its
    tables. `tick` is called whenever one of them is there.

    The same policies give the same bytes. Raises InputError before anything is played, as `policies.load`.
    """
    if episodes < 1:
        raise InputError(f"episodes: {episodes} must be at least 1")
    torch.set_num_threads(1)
    cell = read_cell(folder)
    seeds = policies.seeds_with(cell, folder)
    agent, out = policies.load(cell, folder, seeds), folder / FOLDER
    _refuse_other_episodes(out, cell, episodes)
    names = {seed: policies.digest(folder / f"seed-{seed}")[:16] for seed in seeds}
    out.mkdir(exist_ok=True)
    grid = files.json_bytes(perturb.about(cell.task))
    if not (out / "grid.json").exists() or (out / "grid.json").read_bytes() != grid:
        files.write(out / "grid.json", grid)
    for one in wanted:
        keys = [
            (str(perturb.VERSION), one.kind, repr(float(one.level)), str(seed), names[seed], str(episode))
            for seed in seeds
            for episode in range(episodes)
        ]
        path = out / f"{one.name}.csv"
        if not _is_there(path, keys):
            found = perform(agent, cell, seeds, one, episodes, threads)
            numbers = [episode for own in found for episode in own]
            rows = [",".join((*key, *map(repr, row[:3]))) for key, row in zip(keys, numbers, strict=True)]
            files.write(path, "".join(f"{row}\n" for row in (",".join(KEYS), *rows)).encode())
        tick()
    return out


def _refuse_other_episodes(out: Path, cell: Cell, episodes: int) -> None:
    """Raises InputError if what is there has another number of episodes: one call would spoil all of it."""
    path = out / f"{NOMINAL}-0.csv"
    rows = path.read_text(errors="replace").splitlines()[1:] if path.exists() else []
    found = {row.split(",")[5] for row in rows if row.count(",") == len(KEYS) - 1}
    if found and len(found) != episodes:
        raise InputError(
            f"{cell.label()}: the tables in {out} are of {len(found)} episodes a seed, not {episodes}: "
            f"--episodes {len(found)}, or remove them"
        )


def _is_there(path: Path, keys: Sequence[tuple[str, ...]]) -> bool:
    """Whether a table has exactly these rows."""
    if not path.exists():
        return False
    text = path.read_text(errors="replace")
    head, *rows = text.splitlines() or [""]
    whole = text.endswith("\n")  # else the last row may be cut
    return whole and head == ",".join(KEYS) and [tuple(row.split(",")[:6]) for row in rows] == list(keys)


def perform(
    agent: object, cell: Cell, seeds: Sequence[int], one: Perturbation, episodes: int, threads: int = 1
) -> list[list[tuple]]:
    """One episode of each seed in each of its environments: see `ascent.runners.train.play`."""
    seen = env_seeds(seeds, episodes, "robustness"), env_seeds(seeds, episodes, "perturbation")
    env = Perturbed(cell.task, one, *seen, threads)
    return play(under(agent, one, suites.TASKS[cell.task], seeds), env, Streams(seeds, "robustness"))


def under(agent: object, one: Perturbation, spec: suites.Spec, seeds: Sequence[int]) -> object:
    """The agent as it acts under a perturbation."""
    if one.kind == "adversary":
        return Attacked(agent, one.level, spec.choices is not None, Streams(seeds, "adversary"))
    return agent if getattr(agent, "predicts", False) else LastSeen(agent)
