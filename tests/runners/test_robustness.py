"""Robustness: the records are of the final policies and of nothing else, and the same bytes whatever else is
played; attacks do what they say; what cannot be played is refused.
"""

import shutil
from collections.abc import Callable
from dataclasses import asdict
from hashlib import sha256
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Streams
from ascent.records import files
from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.reports.imports.importing import import_curves
from ascent.runners import policies, robustness
from ascent.runners.play import env_seeds, play
from ascent.runners.resolve import describe, make_agent
from ascent.runners.robustness import (
    KEYS,
    Attacked,
    LastSeen,
    levels_of,
    parse_levels,
    perturbed_policy,
    play_level,
    record,
)
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from ascent.suites import mujoco, perturb
from ascent.suites.perturb import ALWAYS_SEEN, NOMINAL, Perturbation, Perturbed
from tests.command import call
from tests.small import rest_slow, small_cell, systems_and_tasks

SEEDS, EPISODES = [0, 1, 2], 2
TASKS = {"a2c": "CartPole-v1", "sac": "Pendulum-v1", "rpc": "Pendulum-v1", "td3": "Hopper-v5"}
EVERY_SYSTEM = pytest.mark.parametrize("system", TASKS)
# A level or two of every kind: 0, or 1 of a mass, perturbs nothing.
WORDS = ("drop=0,0.5", "rpc_dropout=0.9", "open_loop=10", "observation_noise=0,0.3", "adversary=0,0.3",
         "action_noise=0.4", "action_delay=0,2", "mass=1,2", "gravity=0.5")  # fmt: skip
NEUTRAL = ("drop-0", "observation_noise-0", "adversary-0", "action_delay-0", "mass-1")


def cell_of(system: str) -> Cell:
    return small_cell(system, TASKS[system], points=1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cell of each system, three seeds, without tables; not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    for system in TASKS:
        assert train(cell_of(system), SEEDS, folder)
    return folder


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return shutil.copytree(runs, tmp_path / "runs")


@pytest.fixture(scope="module")
def whole(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """System -> name of a perturbation -> its table, all of `WORDS` at once."""
    folder = shutil.copytree(runs, tmp_path_factory.mktemp("whole") / "runs")
    return {system: tables(folder, system) for system in TASKS}


def tables(runs: Path, system: str, words: tuple[str, ...] = WORDS, **how: int) -> dict[str, bytes]:
    """Plays what is wanted; every table that is there then."""
    folder = cell_of(system).folder(runs)
    out = record(folder, parse_levels(TASKS[system], words), **{"episodes": EPISODES, **how})
    assert out == folder / "robustness"
    return {path.stem: path.read_bytes() for path in out.glob("*.csv")}


def rows(table: bytes) -> list[dict[str, str]]:
    head, *lines = table.decode().splitlines()
    assert head == ",".join(KEYS)
    return [dict(zip(KEYS, line.split(","), strict=True)) for line in lines]


def numbers(table: bytes) -> list[tuple[str, ...]]:
    """What was played, without the perturbation's own name."""
    return [tuple(row.values())[3:] for row in rows(table)]


def loaded(runs: Path, system: str, seeds: list[int] = SEEDS) -> object:
    return policies.load(cell_of(system), cell_of(system).folder(runs), seeds)


# What is recorded.


@EVERY_SYSTEM
def test_tables(system: str, runs: Path, whole: dict[str, dict[str, bytes]]) -> None:
    """A row for each seed and episode, which names the policy; the nominal task is always among them."""
    folder, asked = cell_of(system).folder(runs), parse_levels(TASKS[system], WORDS)
    assert whole[system].keys() == {one.name for one in asked} and asked[0].name == "nominal-0"
    digests = [sha256((folder / f"seed-{seed}" / "policy.npz").read_bytes()).hexdigest() for seed in SEEDS]
    for one in asked:
        found = rows(whole[system][one.name])
        assert [(row["seed"], row["episode"]) for row in found] == [
            (str(seed), str(episode)) for seed in SEEDS for episode in range(EPISODES)
        ]
        for row in found:
            assert (row["version"], row["kind"], float(row["level"])) == ("1", one.kind, one.level)
            assert row["policy"] == digests[int(row["seed"])][:16] and row["unstable"] == "0"
    assert perturb.VERSION == 1


@EVERY_SYSTEM
def test_nothing_perturbed_is_the_plain_policy(
    system: str, runs: Path, whole: dict[str, dict[str, bytes]]
) -> None:
    """As the agent that was trained plays, greedily, in the same environments; under the protocol of RPC's
    authors, by sampled actions.
    """
    cell = cell_of(system)
    trainer = Trainer(cell, SEEDS)
    while trainer.step < cell.steps:
        trainer.advance()
    for name, explore in (("rpc_dropout-0", True), ("nominal-0", False)):
        env = suites.make(cell.task, env_seeds(SEEDS, EPISODES, "robustness"))
        played = play(trainer.agent, env, Streams(SEEDS, "robustness"), explore)
        flat = [tuple(map(repr, episode)) for own in played for episode in own]
        assert [row[3:] for row in numbers(whole[system][name])] == flat
    for name in NEUTRAL:
        assert numbers(whole[system][name]) == numbers(whole[system]["nominal-0"]), name
    assert len({row[0] for row in flat}) > 1


@EVERY_SYSTEM
def test_every_perturbation_does_something(system: str, whole: dict[str, dict[str, bytes]]) -> None:
    """Not one table is that of another, but for the neutral levels, and for samples that hardly depend on
    what is seen: a2c's policy has not learned much.
    """
    same_anyway = (*NEUTRAL, "rpc_dropout-0") if system == "a2c" else NEUTRAL
    found = {name: numbers(table) for name, table in whole[system].items() if name not in same_anyway}
    same = [(a, b) for a, b in product(found, found) if a < b and found[a] == found[b]]
    assert same == []


@pytest.mark.parametrize("system", rest_slow(TASKS))
def test_bytes_depend_on_nothing_else(
    system: str, copied: Path, whole: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not on what else is asked for, nor on the order, nor on threads."""
    monkeypatch.setattr(mujoco, "_WORTH_A_THREAD", 0.0)  # else one does for so few environments
    for word in ("gravity=0.5", "adversary=0.3", "drop=0.5"):
        tables(copied, system, (word,), threads=3)
    found = tables(copied, system, ("action_noise=0.4", "drop=0.5"))
    names = {"nominal-0", "gravity-0.5", "adversary-0.3", "drop-0.5", "action_noise-0.4"}
    assert found == {name: whole[system][name] for name in names}


def test_a_level_is_the_same_named_or_of_the_grid(copied: Path) -> None:
    """`open_loop` means, among others, `open_loop=30`: one table of one content."""
    grid = tables(copied, "a2c", ("open_loop", "action_delay"))
    shutil.rmtree(cell_of("a2c").folder(copied) / "robustness")
    named = tables(copied, "a2c", ("open_loop=300,100,30,10", "action_delay=1,2,4"))
    assert named == grid and len(grid) == 8


def test_more_episodes_begin_with_the_same(copied: Path) -> None:
    """In the same environments and under the same noise: those of the episode's number."""
    few = tables(copied, "td3", ("drop=0.5", "gravity=0.5"))
    shutil.rmtree(cell_of("td3").folder(copied) / "robustness")
    more = tables(copied, "td3", ("drop=0.5", "gravity=0.5"), episodes=EPISODES + 1)
    for name, table in few.items():
        own = [row for row in rows(more[name]) if int(row["episode"]) < EPISODES]
        for was, now in zip(rows(table), own, strict=True):
            assert float(now["return"]) == pytest.approx(float(was["return"]), rel=1e-3)


@pytest.mark.parametrize("system", rest_slow(TASKS))
def test_a_seed_plays_by_itself(system: str, copied: Path, whole: dict[str, dict[str, bytes]]) -> None:
    """The rows of a seed whose fellows are not there."""
    folder = cell_of(system).folder(copied)
    for seed in (0, 2):
        shutil.rmtree(folder / f"seed-{seed}")
    for name, table in tables(copied, system).items():
        assert rows(table) == [row for row in rows(whole[system][name]) if row["seed"] == "1"], name


def test_a_seed_that_diverged_does_not_play(copied: Path, whole: dict[str, dict[str, bytes]]) -> None:
    path = cell_of("a2c").folder(copied) / "seed-1" / "result.json"
    files.write_json(path, files.read_json(path) | {"status": "diverged"})
    found = tables(copied, "a2c", ("drop=0.5",))
    for name, table in found.items():
        assert rows(table) == [row for row in rows(whole["a2c"][name]) if row["seed"] != "1"]


# What is there is not played again.


def test_a_second_call_plays_nothing(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played = tables(copied, "a2c")
    folder, ticks = cell_of("a2c").folder(copied), []
    times = {path: path.stat().st_mtime_ns for path in (folder / "robustness").glob("*.csv")}

    def refuse(*_: object) -> None:
        raise AssertionError("it was played again")

    monkeypatch.setattr(robustness, "play_level", refuse)
    asked = parse_levels("CartPole-v1", WORDS)
    record(folder, asked, EPISODES, tick=lambda: ticks.append(1))
    assert len(ticks) == len(asked)
    assert times == {path: path.stat().st_mtime_ns for path in (folder / "robustness").glob("*.csv")}
    assert tables(copied, "a2c") == played
    with pytest.raises(AssertionError, match="played again"):
        record(folder, parse_levels("CartPole-v1", ["drop=0.6"]), EPISODES)


def test_only_what_is_missing_is_played(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables(copied, "a2c", ("drop=0.5",))
    asked = []

    def spy(agent: object, cell: Cell, seeds: list[int], one: Perturbation, *how: int) -> list[list[tuple]]:
        asked.append(one.name)
        return play_level(agent, cell, seeds, one, *how)

    monkeypatch.setattr(robustness, "play_level", spy)
    tables(copied, "a2c", ("drop=0.5,0.6", "mass=2"))
    assert asked == ["drop-0.6", "mass-2"]


STALE: dict[str, Callable[[str], str]] = {
    "other policies": lambda text: text.replace(text.splitlines()[1].split(",")[4], "0123456789abcdef"),
    "another version": lambda text: text.replace("\n1,", "\n0,"),
    "another level": lambda text: text.replace(",0.5,", ",0.25,"),
    "another kind": lambda text: text.replace("drop", "mass"),
    "another seed": lambda text: text.replace("drop,0.5,2,", "drop,0.5,3,"),
    "more episodes": lambda text: text + text.splitlines()[-1].replace(",1,", ",2,", 1) + "\n",
    "another order": lambda text: "\n".join([*text.splitlines()[:1], *text.splitlines()[:0:-1], ""]),
    "without its last row": lambda text: "".join(text.splitlines(keepends=True)[:-1]),
    "cut in its last row": lambda text: text[:-4],
    "cut in its last number": lambda text: text[:-2],
    "cut at its end": lambda text: text[:-1],
    "cut in its first row": lambda text: text[:60],
    "no rows": lambda text: text.splitlines()[0] + "\n",
    "empty": lambda text: "",
    "other columns": lambda text: text.replace("unstable", "steady"),
    "no text": lambda text: "\udcff\udcfe" + text,
}


@pytest.mark.parametrize("case", STALE)
def test_another_table_is_played_again(case: str, copied: Path, whole: dict[str, dict[str, bytes]]) -> None:
    """One of other policies, episodes, seeds or versions, or that was cut: anywhere."""
    path = cell_of("a2c").folder(copied) / "robustness" / "drop-0.5.csv"
    path.parent.mkdir()
    stale = STALE[case](whole["a2c"]["drop-0.5"].decode()).encode(errors="surrogateescape")
    assert stale != whole["a2c"]["drop-0.5"]
    path.write_bytes(stale)
    assert tables(copied, "a2c", ("drop=0.5",))["drop-0.5"] == whole["a2c"]["drop-0.5"]


def test_other_episodes_are_refused(copied: Path) -> None:
    """One call would spoil what is there: a curve has one number of episodes."""
    found = tables(copied, "a2c", ("drop=0.5",), episodes=1)
    with pytest.raises(
        InputError, match=r"have 1 episodes per seed, not 3: use --episodes 1, or remove them"
    ):
        tables(copied, "a2c", ("drop=0.75",), episodes=3)
    assert tables(copied, "a2c", ("drop=0.5",), episodes=1) == found


# What a policy is shown.


class Watching:
    """An agent that keeps what it is shown."""

    def __init__(self, agent: object, predicts: bool):
        self.agent, self.predicts, self.shown = agent, predicts, []

    def act(self, obs: torch.Tensor, *rest: object) -> tuple[torch.Tensor, object]:
        self.shown.append(obs.clone())
        return self.agent.act(obs, *rest)


def test_last_seen() -> None:
    """Of each environment its own last one; the agent's own carry goes through."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(30, 2, 3, 4)).astype(np.float32)
    missing = rng.random((30, 2, 3)) < 0.6
    missing[0] = False
    shown = obs.copy()
    for t in range(1, 30):
        shown[t][missing[t]] = shown[t - 1][missing[t]]
    obs[missing] = np.nan
    calls = []

    def act(obs: torch.Tensor, rng: str, explore: bool, progress: float, carry: int | None) -> tuple:
        calls.append((obs, rng, explore, progress, carry))
        return -obs, len(calls)

    agent, carry = LastSeen(SimpleNamespace(act=act)), None
    for now in torch.from_numpy(obs):
        action, carry = agent.act(now, "rng", False, 0.7, carry)
        assert action.equal(-calls[-1][0])
    assert torch.stack([call[0] for call in calls]).numpy().tobytes() == shown.tobytes()
    assert [call[1:] for call in calls] == [("rng", False, 0.7, k or None) for k in range(30)]


def test_who_is_shown_what_is_missing(runs: Path, whole: dict[str, dict[str, bytes]]) -> None:
    """RPC gets NaN and acts by its model; any other, and RPC without a model, the last observation."""
    cell, one, spec = cell_of("rpc"), Perturbation("drop", 0.5), suites.TASKS["Pendulum-v1"]
    agent = loaded(runs, "rpc")
    assert agent.predicts and perturbed_policy(agent, one, spec, SEEDS) is agent
    plain = [
        make_agent(small_cell("rpc", "Pendulum-v1", **{name: False}), Streams(SEEDS, "init"), "cpu")
        for name in ("learned_prior", "bottleneck")
    ]
    for other in (*plain, loaded(runs, "sac")):
        assert isinstance(perturbed_policy(other, one, spec, SEEDS), LastSeen)
    found = {}
    for predicts in (True, False):
        watching = Watching(agent, predicts)
        found[predicts] = play_level(watching, cell, SEEDS, one, EPISODES)
        shown = torch.stack(watching.shown)
        gone = shown.isnan()
        assert gone.any() == predicts and not gone[:ALWAYS_SEEN].any()
        still = (shown[1:] == shown[:-1]).all(-1)
        assert still.any() != predicts
        assert gone.all(-1).equal(gone.any(-1))
    flat = [tuple(map(repr, episode)) for own in found[True] for episode in own]
    assert flat == [row[3:] for row in numbers(whole["rpc"]["drop-0.5"])]
    differ = [
        a[0] != b[0]
        for x, y in zip(found[True], found[False], strict=True)
        for a, b in zip(x, y, strict=True)
    ]
    assert all(differ)


def test_dropout_of_rpcs_authors(runs: Path, whole: dict[str, dict[str, bytes]]) -> None:
    """Their evaluation, written again: the first ten observations are seen, then each is dropped with
    probability p. Where it is dropped, z is the mean of the model; elsewhere a sample of the encoder. Actions
    are samples of the policy, always.
    """
    cell, p = cell_of("rpc"), 0.9
    agent = loaded(runs, "rpc")
    env = suites.make(cell.task, env_seeds(SEEDS, EPISODES, "robustness"))
    noise = env_seeds(SEEDS, EPISODES, "perturbation")
    generators = [np.random.Generator(np.random.PCG64(int(seed))) for seed in noise.flat]
    rng, returns = Streams(SEEDS, "robustness"), np.zeros((len(SEEDS), EPISODES))
    obs = torch.from_numpy(env.reset())
    z = action = None
    for t in range(env.spec.horizon):
        dropped = torch.tensor([g.random() < p for g in generators]).view(len(SEEDS), EPISODES, 1)
        with torch.no_grad():
            mean, std = agent.encoder(obs)
            seen = mean + std * rng.normal(EPISODES, agent.config.latent)
            z = seen if t < 10 else torch.where(dropped, agent.prior(z, action)[0], seen)
            action, _ = agent.policy.sample(z, rng.normal(EPISODES, agent.bounds.size))
        low, high = env.spec.bounds
        step = env.step(agent.bounds.scale(action).numpy().clip(low, high))
        returns += step.reward
        obs = torch.from_numpy(step.obs)
    found = np.array([float(row["return"]) for row in rows(whole["rpc"]["rpc_dropout-0.9"])])
    np.testing.assert_allclose(found, returns.ravel(), rtol=1e-3)


def test_rpc_acts_by_its_model(runs: Path) -> None:
    """Where an observation is missing, on what its model expects after the last z and action; elsewhere on
    what it sees.
    """
    agent = loaded(runs, "rpc")
    obs = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        _, carry = agent.act(obs, Streams(SEEDS, "a"), False, 1.0, None)
        gone = obs.clone()
        gone[:, 1] = torch.nan
        action, _ = agent.act(gone, Streams(SEEDS, "b"), False, 1.0, carry)
        usual, _ = agent.act(obs, Streams(SEEDS, "b"), False, 1.0, carry)
        expected, _ = agent.prior(*carry.split([agent.config.latent, agent.bounds.size], -1))
        by_model = agent.bounds.scale(agent.policy.greedy(expected))
    assert action[:, 0].equal(usual[:, 0]) and not action[:, 1].isnan().any()
    torch.testing.assert_close(action[:, 1], by_model[:, 1])
    assert not torch.isclose(action[:, 1], usual[:, 1]).any()


# Attacks.


def observations(system: str, n: int = 60) -> torch.Tensor:
    """(S, n, O) within reach of the task."""
    size = suites.TASKS[TASKS[system]].observation_size
    return torch.randn(len(SEEDS), n, size, generator=torch.Generator().manual_seed(1))


def attacked(
    agent: object, system: str, size: float, obs: torch.Tensor, seeds: list[int] = SEEDS
) -> torch.Tensor:
    discrete = suites.TASKS[TASKS[system]].choices is not None
    return Attacked(agent, size, discrete, Streams(seeds, "adversary"))._attack(obs)


def harm(agent: object, system: str, obs: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """(S, n): how far a preference moved; of choices minus the margin of the one that was preferred."""
    with torch.no_grad():
        own, now = agent.preference(obs), agent.preference(changed)
    if suites.TASKS[TASKS[system]].choices is None:
        return (now - own).norm(dim=-1)
    best = own.argmax(-1, keepdim=True)
    others = torch.full_like(now, -torch.inf).where(torch.zeros_like(now).scatter(-1, best, 1).bool(), now)
    return others.max(-1).values - now.gather(-1, best)[..., 0]


@EVERY_SYSTEM
@pytest.mark.parametrize("size", [0.0, 0.01, 0.3])
def test_an_attack_moves_every_number_by_at_most_its_size(system: str, size: float, runs: Path) -> None:
    agent, obs = loaded(runs, system), observations(system)
    kept = obs.clone()
    changed = attacked(agent, system, size, obs)
    assert obs.equal(kept) and not changed.requires_grad
    assert (changed - obs).abs().max() <= size * (1 + 1e-5) + 4e-7 * (size > 0)
    if size:  # most of them as far as they may: it is no timid attack
        assert ((changed - obs).abs() > 0.99 * size).double().mean() > 0.5
    else:
        assert changed.equal(obs)


@EVERY_SYSTEM
def test_an_attack_is_worse_than_noise_and_near_the_worst(system: str, runs: Path) -> None:
    """The preference moves farther than by random noise of the same size, even in corners only; where there
    are few corners, about as far as at the worst of them.
    """
    agent, obs, size = loaded(runs, system), observations(system), 0.1
    nothing = harm(agent, system, obs, obs)
    done = harm(agent, system, obs, attacked(agent, system, size, obs)) - nothing
    noise = 2 * Streams(SEEDS, "noise").uniform(*obs.shape[1:]).float() - 1
    for other, least in ((noise, 2.0), (noise.sign(), 1.3)):
        beaten = harm(agent, system, obs, obs + size * other) - nothing
        assert (done > beaten - 1e-6).double().mean() > 0.8 and (done.mean(1) > least * beaten.mean(1)).all()
    if obs.shape[-1] <= 4:
        corners = [torch.tensor(signs) for signs in product((-1.0, 1.0), repeat=obs.shape[-1])]
        every = torch.stack([harm(agent, system, obs, obs + size * corner) - nothing for corner in corners])
        assert (done / every.max(0).values).mean() > 0.85


def test_an_attack_on_choices_wants_the_likeliest_mistake() -> None:
    """Of three choices it goes for the one that comes closest to that preferred, not for the mean of both."""
    slopes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [-3.0, 0.1]])  # of three logits in two numbers
    offsets = torch.tensor([1.0, 0.9, -9.0])
    agent = SimpleNamespace(preference=lambda obs: obs @ slopes.T + offsets)
    obs = torch.zeros(1, 50, 2)
    changed = Attacked(agent, 0.2, True, Streams([0], "adversary"))._attack(obs)
    assert (agent.preference(changed).argmax(-1) == 1).all()
    assert changed[..., 0] == pytest.approx(0.2)


def test_an_attack_on_numbers_knows_its_own_action() -> None:
    """Away from the unperturbed action, both ways: the random start decides where both are as good."""
    agent = SimpleNamespace(preference=lambda obs: obs.square().sum(-1, keepdim=True))
    obs = torch.full((1, 50, 1), 2.0)
    changed = Attacked(agent, 0.5, False, Streams([0], "adversary"))._attack(obs)
    assert set(changed.flatten().tolist()) == {1.5, 2.5}


@EVERY_SYSTEM
def test_an_attack_on_a_seed_is_its_own(system: str, runs: Path) -> None:
    """The same change, to the bit, with other seeds beside it or alone."""
    obs = observations(system)
    together = attacked(loaded(runs, system), system, 0.3, obs)
    for row, seed in enumerate(SEEDS):
        alone = attacked(loaded(runs, system, [seed]), system, 0.3, obs[row : row + 1], [seed])
        assert alone[0].numpy().tobytes() == together[row].numpy().tobytes()


def test_the_attacked_policy_plays(runs: Path) -> None:
    """`under` gives it the level and what kind of action there is; the policy acts on what it is shown."""
    for system, discrete in (("a2c", True), ("sac", False), ("rpc", False)):
        agent, spec = Watching(loaded(runs, system), False), suites.TASKS[TASKS[system]]
        agent.preference = agent.agent.preference
        enemy = perturbed_policy(agent, Perturbation("adversary", 0.3), spec, SEEDS)
        assert (enemy.size, enemy.discrete) == (0.3, discrete)
        obs = observations(system, 2)
        action, _ = enemy.act(obs, Streams(SEEDS, "a"), False, 1.0, None)
        shown = attacked(agent.agent, system, 0.3, obs)
        assert agent.shown[0].equal(shown)
        assert action.equal(agent.agent.act(shown, Streams(SEEDS, "a"), False, 1.0, None)[0])


# What a policy prefers.


class Quiet(Streams):
    """Random numbers that are zero: a sample is its mean."""

    def normal(self, *shape: int) -> torch.Tensor:
        return super().normal(*shape) * 0


SINGLE = [
    (system, task)
    for system, task in systems_and_tasks()
    if not getattr(SYSTEMS[system].module(), "TEAM", False)
]


@pytest.mark.parametrize(("system", "task"), SINGLE)
def test_greedy_acting_follows_the_preference(system: str, task: str) -> None:
    """In every system with one agent: what is attacked is what decides; and it has a slope."""
    cell = small_cell(system, task, hidden=[16])
    trainer, spec = Trainer(cell, SEEDS[:2]), suites.TASKS[task]
    while trainer.step < 60:  # the normaliser has seen something, the parameters have moved
        trainer.advance()
    agent = trainer.agent
    obs = torch.randn(2, 30, spec.observation_size, generator=torch.Generator().manual_seed(0))
    acted, _ = agent.act(obs, Quiet(SEEDS[:2], "robustness"), False, 1.0, None)
    obs.requires_grad_()
    preferred = agent.preference(obs)
    if spec.choices is not None:
        assert preferred.shape[-1] == spec.choices
        assert acted.equal(preferred.argmax(-1))
    else:
        low, high = map(torch.from_numpy, spec.bounds)
        expected = preferred.detach()
        if hasattr(agent, "bounds"):  # its actor's actions are in [-1, 1]
            expected = (low + high) / 2 + (high - low) / 2 * expected.tanh()
        torch.testing.assert_close(acted, expected, rtol=1e-5, atol=1e-6)
    (slope,) = torch.autograd.grad(preferred.square().sum(), obs)
    assert slope.isfinite().all() and (slope != 0).any(-1).double().mean() > 0.9


def test_every_system_of_one_agent_is_there() -> None:
    named = {name for name, one in SYSTEMS.items() if not getattr(one.module(), "TEAM", False)}
    assert {system for system, _ in SINGLE} == named and len(named) > 8


# What a user asks for.


def test_wanted() -> None:
    grid = list(perturb.grid("Pendulum-v1"))
    assert parse_levels("Pendulum-v1", []) == grid
    nominal = Perturbation(NOMINAL, 0.0)
    assert parse_levels("Pendulum-v1", ["drop"]) == [nominal, *(one for one in grid if one.kind == "drop")]
    few = parse_levels("Pendulum-v1", ["mass=2,3", "drop=0.5", "mass=3.0", "nominal"])
    assert few == [nominal, *(Perturbation(*one) for one in (("mass", 2.0), ("mass", 3.0), ("drop", 0.5)))]
    assert parse_levels("Pendulum-v1", [NOMINAL]) == [nominal]
    own = [Perturbation("rpc_dropout", level) for level in (0.0, 0.8)]
    assert parse_levels("Pendulum-v1", ["rpc_dropout=0.8"]) == [nominal, *own]
    assert levels_of("Pendulum-v1", "rpc_dropout=0.8") == own[1:]
    with pytest.raises(InputError, match="simple_tag_v3 has several agents"):
        parse_levels("simple_tag_v3", [])


def test_command(copied: Path, capsys: pytest.CaptureFixture) -> None:
    """Cells by folder and by digest; what is printed is what was recorded, the second time as well."""
    folders = [cell_of(system).folder(copied) for system in ("a2c", "td3")]
    words = ["robustness", str(folders[0]), cell_of("td3").digest[:6], "--runs", str(copied)]
    words += ["--episodes", "2", "--grid", "drop=0.5", "--grid", "mass"]
    code, out, _ = call(capsys, *words)
    assert code == 0
    lines = [line.strip() for line in out.splitlines()]
    for folder in folders:
        found = {path.stem: path.read_bytes() for path in (folder / "robustness").glob("*.csv")}
        levels = (0.5, 0.75, 1.25, 1.5, 2)
        assert found.keys() == {"nominal-0", "drop-0.5", *(f"mass-{level:g}" for level in levels)}
        start, end = lines.index(folder.name), lines.index(str(folder / "robustness"))
        for name, table in found.items():
            kind, _, level = name.partition("-")
            own = np.array([float(row["return"]) for row in rows(table)]).reshape(3, 2).mean(1)
            (line,) = [line.split() for line in lines[start:end] if line.split()[:2] == [kind, level]]
            assert float(line[2].replace(",", "")) == pytest.approx(own.mean(), abs=0.051) and line[-1] == "3"
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert call(capsys, *words)[:2] == (0, out)
    assert before == {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}


def test_command_with_a_sweep(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'title = "One"\nseeds = "0-2"\nevaluations = 1\nepisodes = 2\n[[cells]]\nalgorithms = ["a2c"]\n'
        'tasks = ["CartPole-v1"]\nsteps = 120\nset = { steps = 16, envs = 2 }\n'
    )
    words = ["robustness", str(path), "--runs", str(copied), "--episodes", "1", "--grid", "drop=1"]
    code, out, _ = call(capsys, *words)
    folder = cell_of("a2c").folder(copied) / "robustness"
    assert code == 0 and out.splitlines()[-1] == str(folder)
    assert {path.name for path in folder.iterdir()} == {"grid.json", "nominal-0.csv", "drop-1.csv"}


def folder_of(runs: Path, system: str = "a2c") -> str:
    return str(cell_of(system).folder(runs))


def unfinished(runs: Path) -> list[str]:
    (cell_of("a2c").folder(runs) / "seed-1" / "result.json").unlink()
    return [folder_of(runs)]


def without_policy(runs: Path) -> list[str]:
    (cell_of("a2c").folder(runs) / "seed-1" / "policy.npz").unlink()
    return [folder_of(runs)]


def damaged(runs: Path) -> list[str]:
    path = cell_of("a2c").folder(runs) / "seed-1" / "policy.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return [folder_of(runs)]


def of_other_versions(runs: Path) -> list[str]:
    cell = cell_of("a2c")
    older = Cell.from_json({**asdict(cell), "versions": {**cell.versions, "algorithm": 0}})
    cell.folder(runs).rename(older.folder(runs))
    path = older.folder(runs) / "cell.json"
    files.write_json(path, files.read_json(path) | {"versions": older.versions, "digest": older.digest})
    return [str(older.folder(runs))]


def renamed(runs: Path) -> list[str]:
    folder = cell_of("a2c").folder(runs)
    folder.rename(folder.with_name("a2c-classic-0123456789"))
    return [str(folder.with_name("a2c-classic-0123456789"))]


def of_a_team(runs: Path) -> list[str]:
    cell = small_cell("ippo", "simple_spread_v3")
    cell.folder(runs).mkdir(parents=True)
    files.write_json(cell.folder(runs) / "cell.json", describe(cell))
    return [str(cell.folder(runs))]


def imported(runs: Path) -> list[str]:
    path = runs / "curves.csv"
    path.write_text("seed,step,return\n0,0,1.5\n0,400,2.5\n")
    return [str(import_curves([path], "Other", "CartPole-v1", runs).folder)]


def empty(runs: Path) -> list[str]:
    for seed in SEEDS:
        shutil.rmtree(cell_of("a2c").folder(runs) / f"seed-{seed}")
    return [folder_of(runs)]


def asks(*words: str) -> Callable[[Path], list[str]]:
    return lambda runs: [folder_of(runs), *words]


REFUSED: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "unfinished": (unfinished, "seed 1 is not finished"),
    "no policy": (without_policy, "policy.npz is missing"),
    "damaged policy": (damaged, "policy.npz is damaged"),
    "other versions": (of_other_versions, "was trained with other versions"),
    "renamed": (renamed, "cell.json is damaged: it describes"),
    "several agents": (of_a_team, "simple_spread_v3 has several agents"),
    "imported": (imported, "was imported: it has no policy"),
    "no runs": (empty, "has no finished runs with a policy"),
    "unknown kind": (asks("--grid", "dorp"), "has no 'dorp' to perturb; it has: drop, "),
    "another task's kind": (asks("--grid", "friction=2"), "CartPole-v1 has no 'friction' to perturb"),
    "out of range": (asks("--grid", "drop=0.5,1.5"), "drop: 1.5 must be a number from 0 to 1"),
    "half a step": (asks("--grid", "action_delay=1.5"), "action_delay: 1.5 must be a whole number"),
    "infinite": (asks("--grid", "open_loop=inf"), "open_loop: inf must be a whole number"),
    "not a number": (asks("--grid", "drop=nan"), "drop: nan must be a number"),
    "no number": (asks("--grid", "drop=half"), "drop: 'half' is not a number"),
    "no level": (asks("--grid", "drop="), "drop: '' is not a number"),
    "nominal": (asks("--grid", "nominal=2"), "nominal: its level is 0"),
    "episodes": (asks("--episodes", "0"), "episodes must be at least 1, not 0"),
    "unknown digest": (lambda runs: ["0123456789"], "unknown cell '0123456789'"),
    "no cell": (lambda runs: [""], "name a cell: its folder, its digest"),
    "no folder of a cell": (lambda runs: [str(runs)], "is not a cell folder"),
    "among others": (lambda runs: [folder_of(runs, "sac"), "0123456789"], "unknown cell '0123456789'"),
    "of another task": (
        lambda runs: [folder_of(runs, "sac"), folder_of(runs), "--grid", "friction"],
        "Pendulum-v1 has no 'friction' to perturb",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str, copied: Path, capsys: pytest.CaptureFixture) -> None:
    """One line, exit code 2, nothing written."""
    spoil, message = REFUSED[name]
    words = spoil(copied)
    before = sorted(copied.rglob("*"))
    code, out, err = call(capsys, "robustness", "--runs", str(copied), *words)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert sorted(copied.rglob("*")) == before


def test_tuning_seeds_do_not_play(copied: Path) -> None:
    """Beside reporting seeds; alone they do."""
    cell = cell_of("a2c")
    folder = cell.folder(copied)
    (folder / "seed-2").rename(folder / "seed-1002")
    (folder / "seed-1002" / "result.json").unlink()  # an unfinished one is no obstacle
    assert policies.seeds_with(cell, folder) == [0, 1]
    for seed in (0, 1):
        (folder / f"seed-{seed}").rename(folder / f"seed-{1000 + seed}")
    shutil.rmtree(folder / "seed-1002")
    assert policies.seeds_with(cell, folder) == [1000, 1001]


def test_every_cell_and_level_meets_the_same(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments and noise depend on seed and episode alone: else levels and systems cannot be compared."""
    met: dict[str, set[tuple[bytes, ...]]] = {}

    class Noted(Perturbed):
        def __init__(self, task: str, one: Perturbation, *seeds: object):
            met.setdefault(one.name, set()).add(tuple(seed.tobytes() for seed in seeds[:2]))
            super().__init__(task, one, *seeds)

    monkeypatch.setattr("ascent.runners.robustness.Perturbed", Noted)
    for system in ("sac", "rpc"):
        for word in ("nominal", "drop=0.5", "rpc_dropout=1", "observation_noise=0.1", "gravity=2"):
            kind, _, level = word.partition("=")
            one = Perturbation(kind, float(level or 0))
            play_level(loaded(runs, system), cell_of(system), SEEDS, one, 2)
    assert len(met) == 5 and len(set.union(*met.values())) == 1
    ((environments, noise),) = met["nominal-0"]
    assert environments != noise
