"""REINFORCE: which episodes a window counts, their returns, and the gradient, all by brute force."""

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from ascent import suites
from ascent.algorithms import reinforce
from ascent.algorithms.seedwise import Batch, Parameters
from ascent.records.cell import Cell, Evaluation
from ascent.records.errors import InputError
from ascent.runners.experience import whole
from ascent.runners.resolve import resolve
from ascent.runners.trainer import Trainer
from ascent.suites.probes import Probe
from tests.algorithms.test_equations import BOTH_KINDS, DISCRETE, GAMMA, SEEDS, make_agent, make_batch

H = 10  # the time limit of `Lengths`
LENGTHS = (1, 2, 3, 25)  # the last is cut by the time limit
MEAN_LENGTH = (1 + 2 + 3 + H) / 4
BASELINES = ("none", "mean", "learned")


class Lengths(Probe):
    """Episodes of random lengths. A step pays 1, and a little more or less by the action; what is seen is how
    many steps have passed and how many are to come, in tenths.
    """

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return np.array([0.0, generator.choice(LENGTHS)])

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray((physics / H).T, dtype=np.float32)

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        then = physics + np.array([[1.0], [-1.0]])
        return then, 1.0 + 0.3 * self.choice(actions), then[1] <= 0


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> str:
    """`Lengths`, registered as a task for the length of a test."""
    spec = replace(
        suites.TASKS["CartPole-v1"],
        id="probe-lengths",
        observation_space=spaces.Box(-9.0, 9.0, (2,), np.float32),
        action_space=spaces.Discrete(2),
        horizon=H,
    )
    monkeypatch.setitem(suites.TASKS, spec.id, spec)
    monkeypatch.setitem(suites._BATCHES, spec.id, type("Lengths", (Lengths,), {"spec": spec}))
    return spec.id


def cell_of(task: str, windows: float, **settings: object) -> Cell:
    settings = {"envs": 4, "horizons": 3, "hidden": [8], "value_epochs": 3, "learning_rate": 1e-2, **settings}
    steps = int(windows * settings["horizons"] * H * settings["envs"])
    return resolve("reinforce", task, overrides=settings, steps=steps, evaluation=Evaluation(1, 1))


def windows_of(trainer: Trainer, number: int) -> list[Batch]:
    """The next windows under a policy that does not learn."""
    batches: list[Batch] = []

    def keep(batch: Batch, rng: object, progress: float) -> dict[str, Tensor]:
        batches.append(batch.map(Tensor.clone))
        return {"none": torch.zeros(len(batch.obs))}

    trainer.agent.update = keep
    while len(batches) < number:
        trainer.advance()
    return batches


Episode = tuple[int, int, int, int]  # seed, environment, first step, step after the last


def episodes(batch: Batch) -> list[Episode]:
    """The episodes of a window one by one; the last of each environment may be cut."""
    found = []
    ends = (batch.terminated + batch.truncated).numpy()
    n_seeds, length, envs = ends.shape
    for k, e in np.ndindex(n_seeds, envs):
        first = 0
        for t in range(length):
            if ends[k, t, e] or t == length - 1:
                found.append((k, e, first, t + 1))
                first = t + 1
    return found


def counted(batch: Batch, horizon: int) -> list[Episode]:
    """The episodes that begin early enough to be whole."""
    length = batch.reward.shape[1]
    return [episode for episode in episodes(batch) if episode[2] <= length - horizon]


def brute_force(batch: Batch, gamma: float) -> np.ndarray:
    """The return of each step of an episode, a double sum in float64."""
    reward = batch.reward.double().numpy()
    out = np.zeros(reward.shape)
    for k, e, first, end in episodes(batch):
        for t in range(first, end):
            out[k, t, e] = sum(gamma ** (i - t) * reward[k, i, e] for i in range(t, end))
    return out


# ---- the window --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizons", [1, 2, 4])
def test_weights_are_those_of_the_episodes_that_begin_in_time(task: str, horizons: int) -> None:
    """By a list of the episodes; the age of each, which is seen, says independently where it began."""
    batches = windows_of(Trainer(cell_of(task, 9, horizons=horizons), SEEDS), 8)
    left_out = 0
    for batch in batches:
        n_seeds, length, envs = batch.reward.shape
        assert (n_seeds, length, envs) == (3, horizons * H, 4)
        age = (batch.obs[..., 0] * H).round()
        assert (age[:, 0] == 0).all(), "a window begins with a reset"
        began = torch.arange(length)[:, None] - age
        assert torch.equal(batch.weight, (began <= length - H).float())
        expected = np.zeros(batch.reward.shape)
        for k, e, first, end in counted(batch, H):
            expected[k, first:end, e] = 1
            assert batch.terminated[k, end - 1, e] or batch.truncated[k, end - 1, e], "it is whole"
        np.testing.assert_array_equal(batch.weight.numpy(), expected)
        left_out += (batch.weight == 0).sum()
    assert left_out > 0 and any(batch.truncated.any() for batch in batches)


@pytest.mark.parametrize(("horizon", "length"), [(1, 1), (1, 5), (4, 4), (3, 7), (5, 20)])
def test_whole_of_random_ends(horizon: int, length: int) -> None:
    """Also with a window that is no multiple of the time limit."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        ended = rng.random((2, length, 3)) < 0.3
        for t in range(horizon - 1, length):  # nothing outlasts the time limit
            ended[:, t] |= ~ended[:, t - horizon + 1 : t].any(1)
        zeros = torch.zeros(ended.shape)
        batch = Batch(zeros, zeros, zeros, zeros, torch.from_numpy(ended).float(), zeros)
        expected = np.zeros(ended.shape, bool)
        for k, e, first, end in counted(batch, horizon):
            expected[k, first:end, e] = True
        np.testing.assert_array_equal(whole(ended, horizon), expected)


def test_lengths_are_not_favoured(task: str) -> None:
    """The counted episodes have the true mean length; all that end within the window are too short."""
    batches = windows_of(Trainer(cell_of(task, 200, horizons=2, envs=8), SEEDS), 150)

    def mean_and_error(kept: Callable[[Batch], list[Episode]]) -> tuple[float, float]:
        """The mean over all episodes, and its standard error over windows of all seeds."""
        lists = [kept(batch) for batch in batches]
        sums = np.array([[sum(end - first for _, _, first, end in found), len(found)] for found in lists])
        mean = sums[:, 0].sum() / sums[:, 1].sum()
        residuals = sums[:, 0] - mean * sums[:, 1]
        return mean, residuals.std() * len(batches) ** 0.5 / sums[:, 1].sum()

    def ended(batch: Batch) -> list[Episode]:
        ends = batch.terminated + batch.truncated
        return [(k, e, first, end) for k, e, first, end in episodes(batch) if ends[k, end - 1, e]]

    mean, error = mean_and_error(lambda batch: counted(batch, H))
    assert abs(mean - MEAN_LENGTH) < 4 * error < 0.05 * MEAN_LENGTH
    mean, error = mean_and_error(ended)
    assert mean < MEAN_LENGTH - 10 * error


def test_a_window_begins_with_a_reset(task: str) -> None:
    """Steps of dropped episodes count in the budget but in no recorded episode; nothing is learned from the
    last, partial window.
    """
    cell = cell_of(task, 3.5)
    trainer, recorded, dropped = Trainer(cell, SEEDS), 0, 0
    while trainer.step < cell.steps:
        updates, running = trainer.updates, trainer.episodes.lengths.copy()
        ended = trainer.advance()
        recorded += sum(episode[1] for _, _, episode in ended)
        assert all(episode[1] <= H for _, _, episode in ended)
        if trainer.updates > updates:
            assert trainer.step == trainer.updates * 3 * H * 4
            assert (trainer.env.state()["elapsed"] == 0).all() and (trainer.episodes.lengths == 0).all()
            assert trainer.carry is None
            running += 1
            for k, e, _ in ended:
                running[k, e] = 0
            dropped += running.sum()
    assert trainer.updates == 3 and dropped > 0
    assert recorded + dropped + trainer.episodes.lengths.sum() == len(SEEDS) * trainer.step


def test_resets_continue_the_generators(task: str) -> None:
    """Each window begins with other episodes."""
    batches = windows_of(Trainer(cell_of(task, 9), SEEDS), 6)
    starts = torch.stack([batch.obs[:, 0, :, 1] for batch in batches])
    assert len(starts.flatten(1).unique(dim=0)) > 1


@pytest.mark.parametrize("stop", [1, 29, 30, 31, 47, 60])
def test_resume_inside_a_window(task: str, stop: int) -> None:
    """From checkpoints at any step, in other packs, the learner is the same after the next updates."""
    cell = cell_of(task, 4)
    unbroken = Trainer(cell, SEEDS)
    for _ in range(stop):
        unbroken.advance()
    saved = copy.deepcopy(unbroken.checkpoints({}))  # they hold live arrays, which a run writes at once
    while unbroken.step < cell.steps:
        unbroken.advance()
    assert unbroken.updates == 4
    for rows in ([0], [2, 1]):
        again = Trainer(cell, [SEEDS[row] for row in rows])
        again.load([saved[row] for row in rows])
        episodes = []
        while again.step < cell.steps:
            episodes += again.advance()
        assert again.updates == 4 and episodes
        assert again.digests() == [unbroken.digests()[row] for row in rows]
        state, expected = again.state_dict(), unbroken.state_dict()
        for name in ("obs", "returns", "lengths", "env/generators", "storage/obs"):
            np.testing.assert_array_equal(state[name], expected[name][rows])


# ---- returns and gradients ---------------------------------------------------------------------------------


def test_returns_by_brute_force(task: str) -> None:
    for batch in windows_of(Trainer(cell_of(task, 9), SEEDS), 4):
        batch = replace(
            batch, reward=torch.randn(batch.reward.shape, generator=torch.Generator().manual_seed(0))
        )
        ours = reinforce.monte_carlo_returns(batch, GAMMA)
        np.testing.assert_allclose(ours.numpy(), brute_force(batch, GAMMA), rtol=1e-4, atol=1e-5)


def weighted_batch(space: spaces.Space) -> Batch:
    """A random window of 12 steps of 3 environments, in which what begins in the first 7 counts."""
    batch = make_batch((12, 3), space)
    weight = np.zeros(batch.reward.shape, np.float32)
    for k, e, first, end in counted(batch, 6):
        weight[k, first:end, e] = 1
    assert 0 < weight.mean() < 1
    return replace(batch, weight=torch.from_numpy(weight))


def grads_taken(agent: reinforce.Agent, batch: Batch) -> dict[str, list[Tensor]]:
    """The gradients that `update` hands to the optimisers, which then do not move."""
    taken: dict[str, list[Tensor]] = {"policy": [], "baseline": []}
    for learner in agent.learners:
        learner.optimiser.step = lambda grad, rate, name=learner.name: taken[name].append(grad)
    agent.update(batch, None, 0.0)
    return taken


def by_hand(params: Parameters, outputs: Tensor, weights: np.ndarray) -> Tensor:
    """The sum over all steps, one at a time, of a weight times the gradient of the output there."""
    total = torch.zeros(params.matrix.shape, dtype=torch.float64)
    for t, e in np.ndindex(*outputs.shape[1:]):
        grad = params.grad(outputs[:, t, e], retain_graph=True).double()
        total += torch.from_numpy(weights[:, t, e, None]) * grad
    return total


@BOTH_KINDS
@pytest.mark.parametrize("standardise", [False, True], ids=["raw", "standardised"])
@pytest.mark.parametrize("baseline", BASELINES)
def test_gradient_by_hand(space: spaces.Space, standardise: bool, baseline: str) -> None:
    """The sum of score times (G - b) over the steps of whole episodes, by the number of all steps."""
    settings = {
        "baseline": baseline,
        "standardise": standardise,
        "gamma": GAMMA,
        "envs": 3,
        "value_epochs": 1,
    }
    agent, batch = make_agent(reinforce, space, **settings), weighted_batch(space)
    ret, w = brute_force(batch, GAMMA), batch.weight.double().numpy()
    subtracted = np.zeros_like(ret)
    value = None
    if baseline == "mean":
        for k, e in np.ndindex(3, 3):
            others = [i for i in range(3) if i != e]
            subtracted[k, :, e] = (ret * w)[k][:, others].sum() / w[k][:, others].sum()
    elif baseline == "learned":
        value = agent.baseline(batch.obs)[..., 0]
        subtracted = value.detach().double().numpy()
    advantage = ret - subtracted
    if standardise:
        for k in range(3):
            used = advantage[k][w[k] > 0]
            advantage[k] = (advantage[k] - used.mean()) / used.std()
    taken = grads_taken(agent, batch)
    logp = agent.policy.evaluate(batch.obs, batch.action)[0]
    policy = by_hand(agent.learned_policy.params, logp, -advantage * w / 36)
    torch.testing.assert_close(taken["policy"][0].double(), policy, rtol=1e-3, atol=1e-6)
    if value is None:
        assert not taken["baseline"] and not hasattr(agent, "baseline")
        return
    error = value.detach().double().numpy() - ret
    fit = by_hand(agent.learned_baseline.params, value, 2 * error * w / 36)
    torch.testing.assert_close(taken["baseline"][0].double(), fit, rtol=1e-3, atol=1e-6)


@BOTH_KINDS
@pytest.mark.parametrize("baseline", BASELINES)
def test_only_whole_episodes_count(space: spaces.Space, baseline: str) -> None:
    """What has no weight may hold any numbers, and successors are never asked for a value."""
    agents = [make_agent(reinforce, space, baseline=baseline, envs=3) for _ in range(2)]
    batch = weighted_batch(space)
    out = batch.weight == 0
    other = replace(
        batch,
        obs=torch.where(out[..., None], batch.obs.flip(1) + 2, batch.obs),
        reward=torch.where(out, 100.0, batch.reward),
        next_obs=torch.full_like(batch.next_obs, torch.nan),
    )
    for agent, window in zip(agents, (batch, other), strict=True):
        agent.update(window, None, 0.0)
    for ours, theirs in zip(*(agent.learners for agent in agents), strict=True):
        torch.testing.assert_close(ours.params.matrix, theirs.params.matrix)


def test_policy_step_comes_before_the_baselines() -> None:
    """However long the baseline is fitted, this update's policy step is the same; the next one is not."""
    agents = [make_agent(reinforce, DISCRETE, envs=3, value_epochs=n) for n in (1, 20)]
    batch = weighted_batch(DISCRETE)
    start = agents[0].learned_policy.params.matrix.clone()
    for agent in agents:
        agent.update(batch, None, 0.0)
    assert torch.equal(*(a.learned_policy.params.matrix for a in agents))
    assert not torch.equal(start, agents[0].learned_policy.params.matrix)
    for agent in agents:
        agent.update(batch, None, 0.0)
    assert not torch.equal(*(a.learned_policy.params.matrix for a in agents))


def test_mean_is_independent_of_the_environments_own_actions() -> None:
    batch = weighted_batch(DISCRETE)
    ret = reinforce.monte_carlo_returns(batch, GAMMA)
    before = reinforce.mean_of_others(ret, batch.weight)
    ret[:, :, 1] += 5.0
    after = reinforce.mean_of_others(ret, batch.weight)
    torch.testing.assert_close(after[..., 1], before[..., 1])
    assert (after[..., [0, 2]] > before[..., [0, 2]] + 0.5).all()


def test_mean_needs_another_environment() -> None:
    with pytest.raises(InputError, match="baseline 'mean' is over the other environments"):
        resolve("reinforce", "CartPole-v1", overrides={"baseline": "mean", "envs": 1})


def test_baselines_lower_the_variance_and_leave_the_mean(task: str) -> None:
    """At a frozen policy, over many windows: `none` > `mean` > `learned`, whose V knows earlier windows."""
    cell = cell_of(task, 1000, standardise=False, value_learning_rate=1e-2)
    trainer = Trainer(cell, SEEDS)
    agent = trainer.agent
    for batch in windows_of(trainer, 100):
        ret = reinforce.monte_carlo_returns(batch, agent.config.gamma)
        for _ in range(10):
            agent.learned_baseline.descend(agent.value_loss(batch, ret), 1e-2)
    batches, grads = windows_of(trainer, 200), {}
    for baseline in BASELINES:
        object.__setattr__(agent.config, "baseline", baseline)
        rows = []
        for batch in batches:
            advantage = agent.advantage(batch, reinforce.monte_carlo_returns(batch, agent.config.gamma))
            rows.append(agent.learned_policy.params.grad(agent.policy_loss(batch, advantage)[0]))
        grads[baseline] = torch.stack(rows).double().numpy()  # (windows, S, P)
    variance = {name: g.var(0).sum(-1) for name, g in grads.items()}  # (S,), each about 10 % off
    assert (variance["mean"] < 0.6 * variance["none"]).all()
    assert (variance["learned"] < 0.3 * variance["mean"]).all()
    for name in ("mean", "learned"):
        change = grads[name] - grads["none"]
        z = change.mean(0) / (change.std(0) / len(batches) ** 0.5 + 1e-12)
        assert np.abs(z).max() < 5 and np.abs(z).mean() < 1.2
