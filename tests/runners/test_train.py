"""What the loop hands to algorithms and writes down is what gymnasium's own environments would have done, and
mpe2's.
"""

import csv
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from scipy.stats import chisquare

import ascent.runners
import ascent.runners.train
import ascent.suites
from ascent import suites
from ascent.algorithms.seedwise import Batch, Replay, Streams
from ascent.records import files
from ascent.records.cell import Evaluation
from ascent.runners.experience import ReplayStorage
from ascent.runners.play import env_seeds, evaluate
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from ascent.suites import Spec, Step
from tests import probes
from tests.small import results, small_cell

SEEDS = [0, 1, 2]
SINGLE = ["CartPole-v1", "Pendulum-v1", "Hopper-v5"]
TEAMS = ["simple_adversary_v3", "simple_push_v3-continuous"]


class Joint:
    """mpe2's environment as if one acted for all of its agents."""

    def __init__(self, task: str):
        pytest.importorskip("mpe2", reason="mpe2 is not installed")
        name, _, kind = task.partition("-")
        self.env = import_module(f"mpe2.{name}").parallel_env(continuous_actions=bool(kind))
        self.sizes = [space.shape[0] if kind else 1 for space in suites.TASKS[task].action_space]

    def reset(self, seed: int | None = None) -> tuple[np.ndarray, dict]:
        return np.hstack(list(self.env.reset(seed=seed)[0].values())), {}

    def step(self, action: np.ndarray) -> tuple:
        parts = np.split(action, np.cumsum(self.sizes)[:-1])
        parts = [int(part[0]) if part.dtype.kind == "i" else part for part in parts]
        *values, ends, cuts, _ = self.env.step(dict(zip(self.env.possible_agents, parts, strict=True)))
        obs, rewards = (np.hstack([value[name] for name in self.env.possible_agents]) for value in values)
        return obs, rewards, any(ends.values()), any(cuts.values()), {}


def original(task: str) -> gymnasium.Env | Joint:
    return Joint(task) if suites.TASKS[task].team else gymnasium.make(task)


def executed(action: np.ndarray, task: str) -> np.ndarray:
    bounds = suites.TASKS[task].bounds
    return action if bounds is None else action.clip(*bounds)


def tiny(n_obs: int) -> Spec:
    """A task with so many observations and two choices."""
    return replace(suites.TASKS["CartPole-v1"], observation_space=gymnasium.spaces.Box(-1, 1, (n_obs,)))


@pytest.mark.parametrize("task", SINGLE + TEAMS)
def test_evaluation_is_gymnasiums(task: str) -> None:
    """Each episode's return and length, replayed in gymnasium with the same seed and greedy actions; of a
    team each agent's return, and their mean over those who are scored.
    """
    team = suites.TASKS[task].team
    cell = small_cell("mappo" if team else "ppo", task, episodes=3)
    trainer = Trainer(cell, SEEDS)
    episodes = evaluate(trainer.agent, cell, SEEDS, 40, explore=False)
    seeds = env_seeds(SEEDS, 3, "eval", 40)
    for row in range(3):
        for episode in range(3):
            env = original(task)
            obs, _ = env.reset(seed=int(seeds[row, episode]))
            total, steps, over = 0.0, 0, False
            while not over:
                # As many environments as the evaluation has: rows of a product may depend on their number.
                batch = torch.from_numpy(np.tile(obs, (3, 3, 1)).astype(np.float32))
                action = trainer.agent.act(batch, Streams(SEEDS, "test"), False, 0.0)[0][row, episode]
                obs, reward, terminated, truncated, _ = env.step(executed(action.numpy(), task))
                total, steps, over = total + reward, steps + 1, terminated or truncated
            score, length, _, *own = episodes[row][episode]
            assert length == steps
            if team:
                assert own[: len(total)] == total.tolist() and len(own) == len(total) + len(team.measures)
                scored = [total[team.agents.index(name)] for name in team.scored]
                assert score == pytest.approx(sum(scored) / len(scored), rel=1e-12)
            else:
                assert (score, own) == (total, [])


def seen_batches(trainer: Trainer, steps: int) -> list[Batch]:
    """What the agent is given to learn from in the first steps, copied."""
    batches, update = [], trainer.agent.update

    def spy(batch: Batch, *args: object) -> object:
        batches.append(batch.map(torch.Tensor.clone))
        return update(batch, *args)

    trainer.agent.update = spy
    while trainer.step < steps:
        trainer.advance()
    return batches


def true_transitions(
    seed: int, env_index: int, action_of: Callable[[int], object], steps: int, task: str
) -> list[tuple]:
    """(obs, action, reward, next_obs, terminated, truncated) of gymnasium's environment for the actions."""
    env, found = original(task), []
    obs, _ = env.reset(seed=int(env_seeds([seed], env_index + 1, "env")[0, env_index]))
    for t in range(steps):
        action = action_of(t)
        next_obs, reward, terminated, truncated, _ = env.step(executed(np.asarray(action), task))
        found.append((obs, action, reward, next_obs, terminated, truncated))
        obs = env.reset()[0] if terminated or truncated else next_obs
    return found


@pytest.mark.parametrize("task", SINGLE + TEAMS)
def test_windows_hold_true_transitions(task: str) -> None:
    """Resets, time limits, clipped actions: every number an on-policy update sees, over several episodes."""
    system = "mappo" if suites.TASKS[task].team else "a2c"
    cell = small_cell(system, task, steps=1200, envs=2)
    batches = seen_batches(Trainer(cell, SEEDS), 1200)
    names = [name for name, x in vars(batches[0]).items() if x is not None]  # windows of steps have no weight
    joined = {name: torch.cat([vars(b)[name] for b in batches], 1).numpy() for name in names}  # (S, T, E)
    steps, ends = joined["reward"].shape[1], 0
    for row, seed in enumerate(SEEDS):
        for e in range(2):
            actions = joined["action"][row, :, e]
            for t, transition in enumerate(true_transitions(seed, e, actions.__getitem__, steps, task)):
                names = ("obs", "action", "reward", "next_obs", "terminated", "truncated")
                for name, value in zip(names, transition, strict=True):
                    assert np.array_equal(joined[name][row, t, e], np.asarray(value, joined[name].dtype)), (
                        name,
                        t,
                    )
                ends += transition[4] or transition[5]
    assert ends > 10


@pytest.mark.parametrize(
    ("system", "task"), [("dqn", "CartPole-v1"), *(("maddpg", task) for task in TEAMS)], ids=str
)
def test_replay_holds_true_transitions(system: str, task: str) -> None:
    """Every sampled transition happened, to its own seed, at one place of the last `capacity` ones."""
    cell = small_cell(system, task, steps=400, envs=1, capacity=100)
    trainer = Trainer(cell, SEEDS)
    actions, act = [], trainer.agent.act

    def spy(*args: object) -> object:
        action, carry = act(*args)
        actions.append(action[:, 0].numpy().copy())
        return action, carry

    trainer.agent.act = spy
    while trainer.step < 400:
        trainer.advance()
    batch = trainer.storage.sample(trainer.replay_rng)
    for row, seed in enumerate(SEEDS):
        happened = {
            (o.tobytes(), a.tobytes(), np.float32(r).tobytes(), n.tobytes(), float(d))
            for o, a, r, n, d, _ in true_transitions(seed, 0, lambda t, row=row: actions[t][row], 400, task)[
                -100:
            ]
        }
        for b in range(8):
            parts = (batch.obs, batch.action, batch.reward, batch.next_obs)
            assert (
                *(x[row, b].numpy().tobytes() for x in parts),
                float(batch.terminated[row, b]),
            ) in happened


def test_replay_samples_uniformly_each_seed_by_itself() -> None:
    """Frequencies of a ring that has wrapped, and different indices for different seeds."""
    storage = ReplayStorage(Replay(1, 40, 64, 1, 1, 1), 3, tiny(1), "cpu", 60)
    for t in range(60):
        obs, flags = np.full((3, 1, 1), t, np.float32), np.zeros((3, 1), bool)
        storage.add(
            obs,
            np.zeros((3, 1), int),
            Step(obs, np.full((3, 1), float(t)), flags, flags, obs, flags, np.empty((3, 1, 0))),
        )
    rng = Streams(SEEDS, "replay")
    drawn = torch.cat([storage.sample(rng).reward for _ in range(200)], 1).numpy()
    assert drawn.min() == 20 and drawn.max() == 59
    for row in drawn:
        assert chisquare(np.bincount(row.astype(int))[20:]).pvalue > 1e-4
    assert not any((drawn[a] == drawn[b]).mean() > 0.1 for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    "cuts", [(60,), (30, 63), (7, 45, 63, 90), (13, 26, 39, 52, 65, 78, 91), (40, 80), (200, 201)]
)
def test_replay_is_restored_from_its_pieces(cuts: tuple[int, ...]) -> None:
    """Pieces of any length, the oldest of which begin before what the ring still holds."""
    whole, again = (ReplayStorage(Replay(1, 40, 64, 1, 1, 1), 2, tiny(1), "cpu", 1000) for _ in range(2))
    pieces = []
    for t in range(cuts[-1]):
        obs, flags = np.array([[[t]], [[-t]]], np.float32), np.zeros((2, 1), bool)
        step = Step(obs + 1, np.full((2, 1), float(t)), flags, flags, obs + 1, flags, np.empty((2, 1, 0)))
        whole.add(obs, np.zeros((2, 1), int), step)
        if t + 1 in cuts:
            pieces.append([next(piece) for piece in whole.unsaved()])
    for row in range(2):
        mine = [piece[row] for piece in pieces]
        wanted = [(first, rows) for first, rows in mine if first + len(rows) > cuts[-1] - 40]
        again.restore(row, cuts[-1], wanted)
    assert torch.equal(again.rows, whole.rows)
    assert again.seen == again.saved == whole.seen == cuts[-1]


def test_records_add_up(tmp_path: Path) -> None:
    """Grid, episodes and training returns in the tables are those of the protocol."""
    cell = small_cell("a2c", "CartPole-v1", steps=400, points=4, episodes=3)
    assert train(cell, [5], tmp_path)
    folder = cell.folder(tmp_path) / "seed-5"
    rows = list(csv.DictReader((folder / "eval.csv").open()))
    greedy = [(int(r["step"]), int(r["episode"])) for r in rows if r["policy"] == "greedy"]
    assert greedy == [(step, e) for step in (0, 100, 200, 300, 400) for e in range(3)]
    assert [int(r["step"]) for r in rows if r["policy"] == "sampled"] == [400] * 3
    assert all(float(r["return"]) == int(r["length"]) for r in rows), "CartPole pays 1 a step"
    training = list(csv.DictReader((folder / "train.csv").open()))
    steps = np.array([int(r["step"]) for r in training])
    assert (np.diff(steps) >= 0).all() and steps.max() <= 400
    by_env = [sum(int(r["length"]) for r in training if r["env"] == str(e)) for e in range(2)]
    assert all(150 < total <= 200 for total in by_env)


def test_accounts_of_a_team(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each agent's return, the scored one's as the episode's, measures as sums, means and last values: of a
    task where all are known, also over a checkpoint in the midst of an episode.
    """
    probes.register_team(monkeypatch)
    cell = small_cell("mappo", probes.COUNTED, steps=80, points=1, episodes=2)
    calls = iter(range(100))
    assert not train(cell, SEEDS, tmp_path, stop=lambda: next(calls) == 10)
    assert train(cell, SEEDS, tmp_path)
    own = "return,length,unstable,good_0,bad_0,total,average,end,again"
    episode = "6.0,3,0,6.0,-30.0,33.0,11.0,12.0,33.0"
    for seed in SEEDS:
        folder = cell.folder(tmp_path) / f"seed-{seed}"
        training = [f"{6 * (k + 1)},{e},{episode}" for k in range(13) for e in range(2)]
        assert (folder / "train.csv").read_text().splitlines() == [f"step,env,{own}", *training]
        policies = ((0, "greedy"), (80, "greedy"), (80, "sampled"))
        rows = [f"{step},{policy},{e},{episode}" for step, policy in policies for e in range(2)]
        assert (folder / "eval.csv").read_text().splitlines() == [f"step,policy,episode,{own}", *rows]
        result = files.read_json(folder / "result.json")
        assert (result["score"], result["unstable_steps"]) == (6.0, {"train": 0, "eval": 0})


def test_grid() -> None:
    assert Evaluation(4, 1).grid(10) == [0, 2, 5, 7, 10]
    assert Evaluation(50, 1).grid(3) == [0, 1, 2, 3], "never twice at one step"


def test_unstable_steps_are_recorded_for_their_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are counted by episode and in the result, also in an episode that is interrupted and resumed."""
    cell, make, bad = (
        small_cell("ppo", "Pendulum-v1", steps=1120, envs=1),
        ascent.suites.make,
        1,
    )

    def shaky(task: str, seeds: np.ndarray, threads: int = 1) -> object:
        env = make(task, seeds, threads)
        step = env.step

        def unstable_step(actions: np.ndarray) -> Step:
            now = step(actions)
            elapsed = env.state()["elapsed"]
            now.unstable[bad] |= (elapsed[bad] % 50 == 0) & (elapsed[bad] > 0)  # 3 times in 200 steps
            return now

        env.step = unstable_step
        return env

    monkeypatch.setattr(ascent.suites, "make", shaky)
    train(cell, SEEDS, tmp_path / "whole")
    calls = iter(range(2000))
    assert not train(cell, SEEDS, tmp_path / "cut", stop=lambda: next(calls) == 330)
    train(cell, SEEDS, tmp_path / "cut")
    assert results(cell, tmp_path / "cut", SEEDS) == results(cell, tmp_path / "whole", SEEDS)
    for row, seed in enumerate(SEEDS):
        folder = cell.folder(tmp_path / "cut") / f"seed-{seed}"
        rows = {name: list(csv.DictReader((folder / f"{name}.csv").open())) for name in ("train", "eval")}
        assert len(rows["train"]) == 5
        for name, episodes in rows.items():
            assert [int(e["unstable"]) for e in episodes] == [3 * (row == bad)] * len(episodes)
            total = files.read_json(folder / "result.json")["unstable_steps"][name]
            unfinished = 2 if name == "train" else 0  # the budget ends 120 steps into an episode
            assert total == (row == bad) * (3 * len(episodes) + unfinished)


def test_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ascent.suites.mujoco._WORTH_A_THREAD", 0.0)  # every environment is
    cell = small_cell("ppo", "Hopper-v5")
    for threads in (1, 2, 3):
        train(cell, SEEDS, tmp_path / str(threads), threads=threads)
        attempts = files.read_json(cell.folder(tmp_path / str(threads)) / "seed-0" / "run.json")["attempts"]
        assert [attempt["env_threads"] for attempt in attempts] == [threads]
    first, *others = (results(cell, tmp_path / str(threads), SEEDS) for threads in (1, 2, 3))
    assert all(other == first for other in others)
