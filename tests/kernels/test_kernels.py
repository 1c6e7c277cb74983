"""The compiled kernels against torch, packs against single seeds, and builds against each other."""

import platform
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from ascent import kernels
from ascent.algorithms import mappo, ppo, trpo
from ascent.algorithms.seedwise import MLP, Adam, Parameters, Streams, tanh, uniform_fan_in
from ascent.kernels.build import LEVELS, library
from ascent.runners.platform import packages, platform_key
from tests.algorithms.test_equations import BOTH_KINDS, OBS, SEEDS, make_agent, make_batch
from tests.algorithms.test_teams import DISCRETE, SKEWED, experience, make_ppo_team

Switch = Callable[[str], None]
FLAGS = kernels._processor_flags()
BUILT = [
    path
    for level in LEVELS.get(platform.machine(), ())
    if (path := Path(kernels.__file__).with_name(library(level))).exists() and kernels.NEEDED[level] <= FLAGS
]
pytestmark = pytest.mark.skipif(not BUILT, reason="the kernels are not built: see kernels/README.md")
FUNCTIONS = {"exponential": np.exp, "logarithm": np.log, "tanh": np.tanh}
SHAPES = [(4, 64, 64, 2), (17, 64, 64, 6), (3, 5, 1), (23, 256, 256, 1), (7, 9), (1, 33, 18)]
BOTH_ACTIVATIONS = pytest.mark.parametrize("activation", [tanh, torch.relu_], ids=["tanh", "relu"])


def elementary(path: Path, number: int, x: np.ndarray) -> np.ndarray:
    y = x.astype(np.float32)
    kernels.load(path).elementary(number, len(y), y.ctypes.data)
    return y


def points(name: str) -> np.ndarray:
    tiny = np.exp(np.linspace(-60, 0, 3_001))
    wide = {"exponential": np.linspace(-86, 87, 100_003), "logarithm": np.exp(np.linspace(-86, 87, 100_003))}
    x = wide.get(name, np.concatenate([np.linspace(-12, 12, 100_003), tiny, -tiny]))
    return x.astype(np.float32)


@pytest.mark.parametrize("number, name", list(enumerate(FUNCTIONS)))
def test_elementary_functions(number: int, name: str) -> None:
    """Within 1.3 units in the last place of float64's, and NaN stays NaN."""
    x = points(name)
    exact = FUNCTIONS[name](x.astype(np.float64))
    unit = np.spacing(np.abs(exact).astype(np.float32))
    assert (np.abs(elementary(BUILT[0], number, x) - exact) <= 1.3 * unit).all()
    assert np.isnan(elementary(BUILT[0], number, np.array([np.nan], np.float32))).all()


@pytest.mark.skipif(len(BUILT) < 2, reason="this processor runs only one of the levels")
@pytest.mark.parametrize("number, name", list(enumerate(FUNCTIONS)))
def test_levels_agree(number: int, name: str) -> None:
    first, second = (elementary(path, number, points(name)) for path in BUILT)
    assert first.tobytes() == second.tobytes()


def network(seeds: list[int], sizes: tuple[int, ...], activation: object) -> tuple[MLP, Parameters]:
    net = MLP(Streams(seeds, "init"), sizes, activation, [uniform_fan_in] * (len(sizes) - 1))
    return net, Parameters(net)


def gradients(net: MLP, params: Parameters, x: Tensor, weights: Tensor) -> list[Tensor]:
    """Outputs, the gradient of the parameters and that of x, of the sum of outputs times weights."""
    x = x.clone().requires_grad_()
    y = net(x)
    loss = (y * weights).sum()
    grads = torch.autograd.grad(loss, [*params.leaves, x])
    return [y.detach(), torch.cat([g.flatten(1) for g in grads[:-1]], 1), grads[-1]]


@BOTH_ACTIVATIONS
@pytest.mark.parametrize("sizes", SHAPES)
@pytest.mark.parametrize("rows", [1, 5, 64, 300])
def test_networks(switch: Switch, activation: object, sizes: tuple[int, ...], rows: int) -> None:
    """Outputs and gradients are torch's; those of a seed do not depend on the others, to the bit."""
    numbers = Streams(SEEDS, "act")
    x, weights = numbers.normal(rows, sizes[0]), numbers.normal(rows, sizes[-1])
    net, params = network(SEEDS, sizes, activation)
    switch("off")
    expected = gradients(net, params, x, weights)
    switch("on")
    assert net.compiled() is not None
    found = gradients(net, params, x, weights)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * theirs.abs().max().item())
    with torch.no_grad():
        assert torch.equal(net(x), found[0])
    for k, seed in enumerate(SEEDS):
        alone = gradients(*network([seed], sizes, activation), x[k : k + 1], weights[k : k + 1])
        assert all(torch.equal(a, b[k : k + 1]) for a, b in zip(alone, found, strict=True))


def test_adam(switch: Switch) -> None:
    """Five steps are those of torch's kernel."""
    ends = []
    for state in ("off", "on"):
        switch(state)
        _, params = network(SEEDS, (5, 7, 3), tanh)
        optimiser, numbers = Adam(params, eps=1e-5), Streams(SEEDS, "learn")
        for _ in range(5):
            optimiser.step(numbers.normal(params.matrix.shape[1]), 3e-3)
        ends.append([params.matrix, optimiser.m, optimiser.v])
    for ours, theirs in zip(ends[1], ends[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("actions", [2, 3, 18])
@pytest.mark.parametrize("rows", [1, 500])
def test_samples(switch: Switch, actions: int, rows: int) -> None:
    """They are torch's, but where a chance is as good as on a limit; a seed's do not depend on the others."""
    switch("on")
    numbers, sizes = Streams(SEEDS, "act"), (4, 16, actions)
    x, chance = 10 * numbers.normal(rows, 4), numbers.uniform(rows)
    net, _ = network(SEEDS, sizes, tanh)
    with torch.no_grad():
        cdf = net(x).double().softmax(-1).cumsum(-1)[..., :-1]
    clear = ((chance[..., None] - cdf).abs() > 1e-6).all(-1)
    found = net.compiled().sample(x, chance)
    assert clear.float().mean() > 0.99 and (rows == 1 or len(found.unique()) == actions)
    assert torch.equal(found[clear], (chance[..., None] > cdf).sum(-1)[clear])
    for k, seed in enumerate(SEEDS):
        alone, _ = network([seed], sizes, tanh)
        assert torch.equal(alone.compiled().sample(x[k : k + 1], chance[k : k + 1]), found[k : k + 1])
    x[0, 0, 0] = torch.nan
    assert net.compiled().sample(x, chance)[0, 0] == 0


VARIANTS = {
    "cleanrl": {"clip_value": True, "entropy_coef": 0.01},
    "raw advantages": {"normalise_advantage": False, "log_std_init": -0.5, "adam_eps": 1e-8},
    # Narrow: `make_agent` adds so much to the weights that the ratios of a wide network overflow.
    "relu": {"activation": "relu", "hidden": (16,), "max_grad_norm": 0.1},
}


@BOTH_KINDS
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_update_of_ppo(switch: Switch, space: spaces.Space, variant: str) -> None:
    """Six steps end at torch's parameters and metrics."""
    config = replace(ppo.Config(), envs=3, steps=72, minibatch=72, epochs=2, **VARIANTS[variant])
    batch = make_batch((72, 3), space)
    learners = []
    for state in ("off", "on"):
        switch(state)
        agent = make_agent(ppo, space, **vars(config))
        assert (agent.compiled is not None) == (state == "on")
        before = agent.learned.params.matrix.clone()
        metrics = agent.update(batch, Streams(SEEDS, "learn"), 0.1)
        learners.append((agent.learned.params.matrix, torch.stack(list(metrics.values()))))
    (theirs, their_metrics), (ours, our_metrics) = learners
    assert (ours - before).abs().amax(1).min() > 1e-4
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    torch.testing.assert_close(our_metrics, their_metrics, rtol=1e-4, atol=1e-5)


@BOTH_KINDS
def test_packs_of_ppo(switch: Switch, space: spaces.Space) -> None:
    """An update of a seed has the same bits alone and among others."""
    switch("on")
    batch = make_batch((72, 3), space)
    config = replace(ppo.Config(), envs=3, steps=72, minibatch=72, epochs=2)

    def update(seeds: list[int], rows: slice) -> Tensor:
        agent = ppo.Agent(config, OBS, space, Streams(seeds, "init"), "cpu")
        agent.update(batch.map(lambda x: x[rows]), Streams(seeds, "learn"), 0.1)
        return agent.learned.params.matrix

    together = update(SEEDS, slice(None))
    for k, seed in enumerate(SEEDS):
        assert torch.equal(update([seed], slice(k, k + 1))[0], together[k])


@pytest.mark.parametrize("preset", [*map(str, mappo.PRESETS["code"]), "small"])
@pytest.mark.parametrize("local", [False, True], ids=["mappo", "ippo"])
@pytest.mark.parametrize("moved", [0.0, 0.1], ids=["first update", "moved"])
def test_an_update_of_mappo(switch: Switch, preset: str, local: bool, moved: float) -> None:
    """A pass over a window ends at torch's parameters and metrics: the first update of every preset as it is,
    and one from other weights.
    """
    config = mappo.PRESETS["code"].get(preset, mappo.PRESETS["small"])
    space = SKEWED if "continuous" in preset else DISCRETE
    settings = vars(config) | {"envs": 8, "steps": 6, "minibatch": 24, "epochs": 1, "local_value": local}
    if moved:
        settings["adam_eps"] = 1e-3  # with a small one, Adam amplifies the rounding of tiny gradients
    batch = experience((6, 8), space)
    learners = []
    for state in ("off", "on"):
        switch(state)
        team = make_ppo_team(space, moved=moved, **settings)
        before = [learned.params.matrix.clone() for learned in team.learned]
        metrics = team.update(batch, Streams(SEEDS, "learn"), 0.1)
        parameters = [learned.params.matrix for learned in team.learned]
        learners.append((parameters, torch.stack([*metrics.values()])))
    (theirs, their_metrics), (ours, our_metrics) = learners
    for start, x, y in zip(before, ours, theirs, strict=True):
        assert (x - start).abs().amax(1).min() > 1e-4
        torch.testing.assert_close(x, y, rtol=0, atol=1e-6)
    torch.testing.assert_close(our_metrics, their_metrics, rtol=1e-4, atol=1e-5)


def test_packs_of_mappo(switch: Switch) -> None:
    """An update of a seed has the same bits alone and among others."""
    switch("on")
    batch = experience((6, 4), DISCRETE)

    def update(seeds: list[int], rows: slice) -> Tensor:
        team = make_ppo_team(DISCRETE, seeds)
        team.update(batch.map(lambda x: x[rows]), Streams(seeds, "learn"), 0.1)
        return torch.cat([learned.params.matrix for learned in team.learned], 1)

    together = update(SEEDS, slice(None))
    for k, seed in enumerate(SEEDS):
        assert torch.equal(update([seed], slice(k, k + 1))[0], together[k])


@BOTH_KINDS
def test_fisher_products_of_trpo(switch: Switch, space: spaces.Space) -> None:
    """They are torch's, and those of a seed do not depend on the others, to the bit."""
    obs = Streams(SEEDS, "act").normal(300, OBS.shape[0])

    def product(state: str, seeds: list[int], rows: slice) -> Tensor:
        switch(state)
        agent = trpo.Agent(trpo.Config(), OBS, space, Streams(seeds, "init"), "cpu")
        direction = Streams(seeds, "learn").normal(agent.policy_params.matrix.shape[1])
        return agent.fisher(obs[rows])(direction)

    together, expected = (product(state, SEEDS, slice(None)) for state in ("on", "off"))
    assert not torch.equal(together, expected)  # two paths
    torch.testing.assert_close(together, expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())
    for k, seed in enumerate(SEEDS):
        assert torch.equal(product("on", [seed], slice(k, k + 1))[0], together[k])


def test_the_record_says_so(switch: Switch) -> None:
    """The platform key names the kernels, and so does what must agree before a run is resumed."""
    switch("off")
    key, versions = platform_key(), packages("CartPole-v1")
    switch("on")
    assert platform_key() == f"{key}/kernels-{kernels.VERSION}"
    assert packages("CartPole-v1") == versions | {"kernels": str(kernels.VERSION)}


def test_one_line_where_they_are_missing(switch: Switch, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said if they are not built, and not if they are there or turned off."""
    switch("on")
    assert kernels.missing() is None
    monkeypatch.setattr(kernels, "library", lambda level: "kernels-of-nobody.so")
    switch("on")
    assert "not built" in kernels.missing()
    switch("off")
    assert kernels.missing() is None
