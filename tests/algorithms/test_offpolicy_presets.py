"""Presets of SAC, TD3, DDPG and DQN: updates of `cleanrl` against CleanRL's loops, written in plain torch.

The other side has `torch.nn` modules and `torch.optim.Adam` in float64, one seed at a time, actions in the
environment's units, critics' losses without a half, and the step numbers of CleanRL's loops. It takes the
same batches, noise and weights. Two listed departures are left out of it: 1e-6 in the slope of SAC's tanh,
and critics that see actions in the environment's units, which are the same where the bounds are -1 and 1.
"""

import copy
from collections.abc import Iterator
from dataclasses import asdict, replace
from types import ModuleType

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ascent.algorithms import SYSTEMS, ddpg, dqn, heads, sac, td3
from ascent.algorithms.seedwise import Batch, Streams, networks
from ascent.records.cell import Cell
from ascent.runners.resolve import preset_config, resolve
from ascent.runners.trainer import Trainer
from tests.algorithms.test_captured import Recording
from tests.algorithms.test_equations import N_OBS, SEEDS, make_agent, make_batch
from tests.small import SHRUNK

UNIT = spaces.Box(-1.0, 1.0, (2,), np.float32)
SKEWED = spaces.Box(np.array([-1.0, -3.0], np.float32), np.array([3.0, -2.5], np.float32))
ACTIONS = spaces.Discrete(3)
N, UPDATES = 16, 6
CRITIC = (N_OBS + 2) * 16 + 16 + 16 * 8 + 8 + 8 + 1  # numbers in a critic of `make_agent`'s widths
CONTINUOUS = pytest.mark.parametrize("module", [ddpg, td3, sac], ids=["ddpg", "td3", "sac"])
SPACES = pytest.mark.parametrize("space", [UNIT, SKEWED], ids=["unit", "skewed"])


# ---- their side --------------------------------------------------------------------------------------------


def network(row: Tensor, n_in: int, n_out: int) -> nn.Sequential:
    """A ReLU network of `make_agent`'s widths with the parameters of one of our rows."""
    layers = [nn.Linear(n_in, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, n_out)]
    for layer in layers[::2]:
        size = layer.weight.numel()
        weight, bias, row = row.split((size, layer.out_features, len(row) - size - layer.out_features))
        layer.weight.data = weight.view(layer.in_features, layer.out_features).T.double().clone()
        layer.bias.data = bias.double().clone()
    assert len(row) == 0
    return nn.Sequential(*layers)


def row_of(*networks: nn.Sequential) -> Tensor:
    """The parameters of networks, in the order of our row."""
    layers = [layer for net in networks for layer in net if isinstance(layer, nn.Linear)]
    return torch.cat([x.detach().flatten() for layer in layers for x in (layer.weight.T, layer.bias)])


@torch.no_grad()
def follow(pairs: list[tuple[nn.Module, nn.Module]], tau: float = 0.005) -> None:
    for online, target in pairs:
        for x, moved in zip(online.parameters(), target.parameters(), strict=True):
            moved.copy_(tau * x + (1 - tau) * moved)


class Theirs:
    """The networks of one seed, from our state, and what CleanRL's three loops have in common."""

    def __init__(self, state: dict[str, Tensor], k: int, space: spaces.Box, actor: str, n_out: int) -> None:
        self.scale = torch.from_numpy((space.high - space.low) / 2).double()
        self.bias = torch.from_numpy((space.high + space.low) / 2).double()
        self.low, self.high = (torch.from_numpy(x).double() for x in (space.low, space.high))
        n = state["params/q"].shape[1] // CRITIC
        self.qs, self.target_qs = (
            [network(row, N_OBS + 2, 1) for row in state[f"{kind}/q"][k].chunk(n)]
            for kind in ("params", "target")
        )
        self.actor = network(state[f"params/{actor}"][k], N_OBS, n_out)
        if f"target/{actor}" in state:
            self.target_actor = network(state[f"target/{actor}"][k], N_OBS, n_out)

    def q(self, net: nn.Module, obs: Tensor, action: Tensor) -> Tensor:
        return net(torch.cat([obs, (action - self.bias) / self.scale], 1)).view(-1)

    def act(self, net: nn.Module, obs: Tensor) -> Tensor:
        return net(obs).tanh() * self.scale + self.bias

    def critic_step(self, optimiser: torch.optim.Adam, batch: Batch, y: Tensor) -> None:
        loss = sum(mse_loss(self.q(net, batch.obs, batch.action), y) for net in self.qs)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def adam(*networks: nn.Module, rate: float) -> torch.optim.Adam:
    return torch.optim.Adam([x for net in networks for x in net.parameters()], lr=rate)


def run_deterministic(them: Theirs, batches: list[Batch], noise: Iterator[Tensor]) -> Iterator[dict]:
    """td3_continuous_action.py and, with one critic, ddpg_continuous_action.py, from the first update on."""
    q_optimiser, actor_optimiser = adam(*them.qs, rate=3e-4), adam(them.actor, rate=3e-4)
    for global_step, batch in enumerate(batches, 25_001):
        with torch.no_grad():
            action = them.act(them.target_actor, batch.next_obs)
            if len(them.qs) == 2:
                action = action + (next(noise) * 0.2).clamp(-0.5, 0.5) * them.scale
                action = action.clamp(them.low, them.high)
            next_qs = [them.q(net, batch.next_obs, action) for net in them.target_qs]
            y = batch.reward + (1 - batch.terminated) * 0.99 * torch.stack(next_qs).amin(0)
        them.critic_step(q_optimiser, batch, y)
        if global_step % 2 == 0:
            loss = -them.q(them.qs[0], batch.obs, them.act(them.actor, batch.obs)).mean()
            actor_optimiser.zero_grad()
            loss.backward()
            actor_optimiser.step()
            pairs = zip([them.actor, *them.qs], [them.target_actor, *them.target_qs], strict=True)
            follow(list(pairs))
        yield {
            "params/actor": row_of(them.actor),
            "target/actor": row_of(them.target_actor),
            "params/q": row_of(*them.qs),
            "target/q": row_of(*them.target_qs),
        }


def run_sac(them: Theirs, batches: list[Batch], noise: Iterator[Tensor]) -> Iterator[dict]:
    """sac_continuous_action.py from the first update on."""
    q_optimiser, actor_optimiser = adam(*them.qs, rate=1e-3), adam(them.actor, rate=3e-4)
    log_alpha = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    alpha_optimiser, alpha = torch.optim.Adam([log_alpha], lr=1e-3), 1.0

    def get_action(obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = them.actor(obs).chunk(2, 1)
        std = (-5 + 0.5 * (2 - -5) * (log_std.tanh() + 1)).exp()
        u = mean + std * next(noise)
        log_prob = torch.distributions.Normal(mean, std).log_prob(u)
        log_prob = log_prob - torch.log(them.scale * (1 - u.tanh() ** 2))
        return u.tanh() * them.scale + them.bias, log_prob.sum(1)

    def smaller(nets: list[nn.Module], obs: Tensor, action: Tensor) -> Tensor:
        return torch.min(*(them.q(net, obs, action) for net in nets))

    for global_step, batch in enumerate(batches, 5_001):
        with torch.no_grad():
            action, log_pi = get_action(batch.next_obs)
            next_q = smaller(them.target_qs, batch.next_obs, action) - alpha * log_pi
            y = batch.reward + (1 - batch.terminated) * 0.99 * next_q
        them.critic_step(q_optimiser, batch, y)
        if global_step % 2 == 0:
            for _ in range(2):
                action, log_pi = get_action(batch.obs)
                loss = (alpha * log_pi - smaller(them.qs, batch.obs, action)).mean()
                actor_optimiser.zero_grad()
                loss.backward()
                actor_optimiser.step()
                with torch.no_grad():
                    log_pi = get_action(batch.obs)[1]
                alpha_loss = (-log_alpha.exp() * (log_pi - 2)).mean()  # the target entropy of two dimensions
                alpha_optimiser.zero_grad()
                alpha_loss.backward()
                alpha_optimiser.step()
                alpha = log_alpha.exp().item()
        follow(list(zip(them.qs, them.target_qs, strict=True)))
        yield {
            "params/policy": row_of(them.actor),
            "params/alpha": log_alpha.detach().clone(),
            "params/q": row_of(*them.qs),
            "target/q": row_of(*them.target_qs),
        }


# ---- both sides --------------------------------------------------------------------------------------------


def data(space: spaces.Box | spaces.Discrete, updates: int) -> list[Batch]:
    """A batch for each update, some of its transitions terminal."""
    whole = make_batch((updates * N,), space)
    if isinstance(space, spaces.Box):
        low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
        action = low + (high - low) * Streams(SEEDS, "actions").uniform(updates * N, 2).float()
        whole = replace(whole, action=action)
    whole = replace(whole, truncated=None)
    assert whole.terminated.any() and not whole.terminated.all()
    return [whole.map(lambda x, i=i: x[:, i : i + N]) for i in range(0, updates * N, N)]


def one_seed(batch: Batch, k: int) -> Batch:
    return batch.map(lambda x: x[k].double() if x.is_floating_point() else x[k])


def draws(module: ModuleType) -> Iterator[Tensor]:
    """The noise of our updates in the order in which theirs want it, (S, N, 2) each."""
    rng = Streams(SEEDS, "learn")
    for update in range(1, UPDATES + 1):
        sizes = [1, *([2, 2] if update % 2 == 0 else [])] if module is sac else [module is td3]
        for size in sizes:
            yield from rng.normal(size, N, 2).double().unbind(1)


def trained(module: ModuleType, space: spaces.Box, **changes: object) -> tuple[dict, list[dict], list[dict]]:
    """Our state at first and after each update, and theirs; in ours (S, P), in theirs a list over seeds."""
    settings = asdict(module.PRESETS["cleanrl"]) | {"hidden": (16, 8)} | changes
    agent, batches = make_agent(module, space, **settings), data(space, UPDATES)
    if module is sac:
        agent.log_alpha.value.data.zero_()  # which `make_agent` moves
    start, rng, ours = copy.deepcopy(agent.state_dict()), Streams(SEEDS, "learn"), []
    for batch in batches:
        agent.update(batch, rng, 0.0)
        ours.append(copy.deepcopy(agent.state_dict()))
    name, n_out, run = ("policy", 4, run_sac) if module is sac else ("actor", 2, run_deterministic)
    theirs: list[dict] = [{} for _ in batches]
    for k in range(len(SEEDS)):
        noise = iter([x[k] for x in draws(module)])
        them = Theirs(start, k, space, name, n_out)
        for u, state in enumerate(run(them, [one_seed(batch, k) for batch in batches], noise)):
            for key, value in state.items():
                theirs[u].setdefault(key, []).append(value)
        assert next(noise, None) is None
    return start, ours, [{key: torch.stack(rows) for key, rows in state.items()} for state in theirs]


def tolerance(name: str) -> float:
    """Of log alpha less: Adam's steps hardly depend on a factor of its loss, such as alpha."""
    return 1e-7 if name == "params/alpha" else 1e-5


@CONTINUOUS
@SPACES
def test_updates_against_cleanrl(module: ModuleType, space: spaces.Box) -> None:
    """All weights, targets and the temperature within 1e-5 after each of six updates, three of them with the
    policy's steps; what stands still in between does so on both sides."""
    before, ours, theirs = trained(module, space)
    delayed = {"params/policy", "params/alpha", "params/actor", "target/actor"}
    delayed |= set() if module is sac else {"target/q"}
    for u, (mine, other) in enumerate(zip(ours, theirs, strict=True), 1):
        assert other.keys() == {name for name in mine if name.startswith(("params/", "target/"))}
        for name, expected in other.items():
            torch.testing.assert_close(mine[name].double(), expected, rtol=0, atol=tolerance(name))
            assert torch.equal(mine[name], before[name]) == (name in delayed and u % 2 == 1)
        before = mine


CHANGES = [
    (ddpg, {"delay": 1}),
    (ddpg, {"actor_learning_rate": 1e-3}),
    (td3, {"delay": 1}),
    (td3, {"target_clip": 0.2}),
    (sac, {"actor_learning_rate": 1e-3}),
    (sac, {"critic_learning_rate": 3e-4}),
    (sac, {"alpha_learning_rate": 3e-4}),
    (sac, {"log_alpha_loss": True}),
    (sac, {"environment_units": False}),
    (sac, {"tanh_log_std": False}),
    (sac, {"target_entropy_per_dim": -0.5}),
    (sac, {"reward_scale": 1.01}),
]


@pytest.mark.parametrize("module, change", CHANGES, ids=[f"{next(iter(change))}" for _, change in CHANGES])
def test_each_setting_shows(module: ModuleType, change: dict) -> None:
    """The comparison above notices a single setting that differs from the source's."""
    _, ours, theirs = trained(module, SKEWED, **change)
    gaps = {name: (ours[-1][name].double() - expected).abs().max() for name, expected in theirs[-1].items()}
    assert any(gap > 5 * tolerance(name) for name, gap in gaps.items())


def test_dqn_updates_against_cleanrl() -> None:
    """dqn.py from its first update on, past a copy into the target network: all weights within 1e-5."""
    batches = data(ACTIONS, 53)
    agent = make_agent(dqn, ACTIONS, **asdict(dqn.PRESETS["cleanrl"]) | {"hidden": (16, 8)})
    start, ours = copy.deepcopy(agent.state_dict()), []
    for batch in batches:
        agent.update(batch, None, 0.3)
        ours.append(copy.deepcopy(agent.state_dict()))
    for k in range(len(SEEDS)):
        net, target = (network(start[f"{kind}/q"][k], N_OBS, 3) for kind in ("params", "target"))
        optimiser, copies = adam(net, rate=2.5e-4), 0
        for u, batch in enumerate(batches):
            global_step, part = 10_010 + 10 * u, one_seed(batch, k)
            with torch.no_grad():
                y = part.reward + 0.99 * target(part.next_obs).amax(1) * (1 - part.terminated)
            loss = mse_loss(net(part.obs).gather(1, part.action[:, None]).view(-1), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if global_step % 500 == 0:
                follow([(net, target)], tau=1.0)
                copies += 1
            for name, expected in (("params/q", net), ("target/q", target)):
                torch.testing.assert_close(ours[u][name][k].double(), row_of(expected), rtol=0, atol=1e-5)
        assert copies == 1
    assert (ours[-1]["params/q"] - start["params/q"]).abs().max() > 5e-3


# ---- what every preset promises, where a preset has a path of its own --------------------------------------

PATHS = [
    ("sac", "Hopper-v5", "cleanrl"),  # delay, stretched deviation, the environment's units, resampling
    ("sac-fixed", "Pendulum-v1", "haarnoja-2018a"),
    ("ddpg", "Pendulum-v1", "cleanrl"),
    ("td3", "MountainCarContinuous-v0", "zoo"),  # Ornstein-Uhlenbeck noise
    ("dqn", "CartPole-v1", "zoo"),
]


def small(system: str, task: str, preset: str) -> Cell:
    known = asdict(preset_config(system, preset, task))
    shrunk = {name: value for name, value in SHRUNK.items() if name in known}
    every = min(known["train_every"], 8)
    shrunk |= {"train_every": every, "updates": min(known["updates"], every), "envs": 1, "hidden": [16, 8]}
    return resolve(system, task, preset=preset, overrides=shrunk, steps=120)


@pytest.mark.parametrize("path", PATHS, ids="-".join)
def test_presets_do_not_depend_on_packing(path: tuple[str, str, str]) -> None:
    """The learner after 100 steps: alone, in another order, and in a pack of three."""
    cell, found = small(*path), {}
    for pack in ([0, 1, 2], [2], [1, 0]):
        trainer = Trainer(cell, pack)
        while trainer.step < 100:
            trainer.advance()
        assert trainer.updates > 5
        for seed, digest in zip(pack, trainer.digests(), strict=True):
            assert found.setdefault(seed, digest) == digest


@pytest.mark.usefixtures("torch_only")
@pytest.mark.parametrize("path", PATHS, ids="-".join)
def test_presets_can_be_replayed(path: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates and actions as recorded operations (`test_captured.py`): the same learner."""
    cell, module = small(*path), SYSTEMS[path[0]].module()
    for file in (networks, heads, module):
        if hasattr(file, "tanh"):
            monkeypatch.setattr(file, "tanh", torch.tanh)
    plain = Trainer(cell, [0, 1])
    monkeypatch.setattr(module, "captured", lambda work, device: Recording(work))
    recorded = Trainer(cell, [0, 1])
    while plain.step < cell.steps:
        plain.advance()
        recorded.advance()
    assert plain.updates > 5
    assert recorded.digests() == plain.digests()
