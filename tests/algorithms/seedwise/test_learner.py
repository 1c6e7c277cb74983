"""Optimisers, clipping and targets, against torch and other implementations."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor

from ascent.algorithms.seedwise import Adam, Parameters, RMSProp, clip_grad_norm, move_target
from tests.algorithms.seedwise.tools import ALL, bits, numbers, vector


def gradients(seeds: list[int], width: int, steps: int) -> list[Tensor]:
    """Gradients of very different sizes, so that eps, bias correction and the averages all show."""
    scales = 10.0 ** torch.linspace(-6, 2, width)
    return [numbers(seeds, width, purpose=f"gradient {t}") * scales for t in range(steps)]


@pytest.mark.usefixtures("torch_only")
@pytest.mark.parametrize("width", [1, 7, 40])
@pytest.mark.parametrize("eps, betas", [(1e-8, (0.9, 0.999)), (1e-5, (0.9, 0.999)), (1e-3, (0.5, 0.9))])
def test_adam_is_torchs(eps: float, betas: tuple[float, float], width: int) -> None:
    """Against torch's on each row, with learning rates that rise and fall: its fused kernel to the bit."""
    seeds = [0, 1, 2]
    x = vector(seeds, width)
    start, ours = x.matrix.clone(), Adam(x, eps, betas)
    plain, fused = ([torch.nn.Parameter(row.clone()) for row in start] for _ in range(2))
    options = {"lr": 1e-2, "eps": eps, "betas": betas}
    optimisers = [torch.optim.Adam([p], foreach=False, fused=False, **options) for p in plain]
    optimisers += [torch.optim.Adam([p], fused=True, **options) for p in fused]
    for t, grad in enumerate(gradients(seeds, width, 20)):
        rate, kept = 1e-2 / (1 + t * 7 % 5), grad.clone()
        ours.step(grad, rate)
        assert torch.equal(grad, kept)
        for p, optimiser, g in zip([*plain, *fused], optimisers, [*grad, *grad], strict=True):
            p.grad = g
            optimiser.param_groups[0]["lr"] = rate
            optimiser.step()
    assert (x.matrix - start).abs().min() > 1e-7
    torch.testing.assert_close(x.matrix, torch.stack([p.detach() for p in plain]), rtol=1e-6, atol=2e-7)
    assert bits(x.matrix) == bits(torch.stack(fused))
    for name, its in (("m", "exp_avg"), ("v", "exp_avg_sq")):
        moments = [optimiser.state[p][its] for p, optimiser in zip(plain, optimisers[:3], strict=True)]
        torch.testing.assert_close(ours.state_dict()[name], torch.stack(moments), rtol=1e-5, atol=0.0)


def test_adam_learning_rate_as_a_tensor() -> None:
    """A number in a tensor counts as that number, to the bit."""
    for rate in (torch.tensor(1e-3), torch.tensor(1e-3, dtype=torch.float64), torch.tensor(0.0)):
        x, y = vector([0, 1], 33), vector([0, 1], 33)
        ours, theirs = Adam(x, 1e-5), Adam(y, 1e-5)
        for grad in gradients([0, 1], 33, 5):
            ours.step(grad, rate)
            theirs.step(grad, rate.item())
        assert bits(x.matrix) == bits(y.matrix)
        assert torch.equal(x.matrix, vector([0, 1], 33).matrix) == (rate == 0)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_adam_keeps_rows_apart(bad: float) -> None:
    """A seed whose gradient is no number spoils itself alone, and the count of steps goes on."""
    x, y = vector([0, 1, 2], 33), vector([0, 1, 2], 33)
    ours, sound = Adam(x, 1e-5), Adam(y, 1e-5)
    for t, grad in enumerate(gradients([0, 1, 2], 33, 4)):
        sound.step(grad, 1e-2)
        if t == 1:
            grad = grad.clone()
            grad[1] = bad
        ours.step(grad, 1e-2)
    assert x.matrix[1].isnan().all()
    for mine, its in zip(
        (x.matrix, *ours.state_dict().values()), (y.matrix, *sound.state_dict().values()), strict=True
    ):
        assert bits(mine[[0, 2]]) == bits(its[[0, 2]])


def test_adam_takes_any_memory_layout() -> None:
    grads = [g.T.contiguous().T for g in gradients([0, 1], 33, 3)]
    x, y = vector([0, 1], 33), vector([0, 1], 33)
    ours, theirs = Adam(x, 1e-5), Adam(y, 1e-5)
    for grad in grads:
        ours.step(grad, 1e-2)
        theirs.step(grad.contiguous(), 1e-2)
    assert torch.equal(x.matrix, y.matrix)


@pytest.mark.parametrize("eps, decay", [(1e-5, 0.99), (0.1, 0.99), (1e-3, 0.5)])
@pytest.mark.parametrize("convention", ["tensorflow", "torch"])
def test_rmsprop_is_that_of_its_convention(
    eps: float, decay: float, convention: Literal["tensorflow", "torch"]
) -> None:
    """Against Stable-Baselines3's copy of TensorFlow's, or torch's own; and the formula in float64."""
    seeds, width, inside = [0, 1, 2], 40, convention == "tensorflow"
    x = vector(seeds, width)
    start, ours = x.matrix.clone(), RMSProp(x, eps, decay, convention)
    theirs = [torch.nn.Parameter(row.clone()) for row in start]
    kind = RMSpropTFLike if inside else torch.optim.RMSprop
    optimisers = [kind([p], lr=1e-2, alpha=decay, eps=eps) for p in theirs]
    exact, square = start.double().numpy(), np.full((3, width), float(inside))
    for grad in gradients(seeds, width, 20):
        ours.step(grad, 1e-2)
        for p, optimiser, g in zip(theirs, optimisers, grad, strict=True):
            p.grad = g
            optimiser.step()
        g = grad.double().numpy()
        square = decay * square + (1 - decay) * g**2
        exact -= 1e-2 * g / (np.sqrt(square + eps) if inside else np.sqrt(square) + eps)
    torch.testing.assert_close(x.matrix, torch.stack([p.detach() for p in theirs]), rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(x.matrix.numpy(), exact, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "make",
    [lambda x: Adam(x, 1e-5), lambda x: RMSProp(x, 1e-5, 0.9), lambda x: RMSProp(x, 1e-5, 0.9, "torch")],
    ids=["adam", "tensorflow", "torch"],
)
def test_optimiser_state_continues(make: Callable[[Parameters], Adam | RMSProp]) -> None:
    """Saved after some steps and loaded for some of the seeds: the same bits as without the break."""
    seeds, rows = [0, 1, 2], [2, 0]
    grads = gradients(seeds, 17, 8)
    x = vector(seeds, 17)
    whole = make(x)
    for grad in grads[:5]:
        whole.step(grad, 1e-2)
    y = vector([2, 0], 17, "other")
    part = make(y)
    part.step(grads[0][rows], 1.0)  # what it did before being loaded does not matter
    y.matrix.copy_(x.matrix[rows])
    part.load_state_dict({name: value[rows].clone() for name, value in whole.state_dict().items()})
    for grad in grads[5:]:
        whole.step(grad, 1e-2)
        part.step(grad[rows], 1e-2)
    assert bits(x.matrix[rows]) == bits(y.matrix)
    for name, value in part.state_dict().items():
        assert torch.equal(value, whole.state_dict()[name][rows])
        if name == "t":
            assert (value.dtype, value.tolist()) == (torch.int64, [8, 8])


@pytest.mark.parametrize("max_norm", [0.5, 3.0, 1e4])
def test_clipping_is_torchs_per_seed(max_norm: float) -> None:
    """Each seed by its own norm: small gradients stay, large ones are cut, and a zero gradient stays zero."""
    grad = numbers(ALL, 33) * 10.0 ** torch.linspace(-3, 3, 10)[:, None]
    grad[4] = 0.0
    before = grad.clone()
    clipped, norms = clip_grad_norm(grad, max_norm)
    assert torch.equal(grad, before)
    for k in ALL:
        p = torch.nn.Parameter(torch.zeros(33))
        p.grad = grad[k].clone()
        norm = torch.nn.utils.clip_grad_norm_([p], max_norm)
        torch.testing.assert_close(norms[k], norm, rtol=1e-6, atol=0.0)
        torch.testing.assert_close(
            clipped[k], grad[k] * min(1.0, max_norm / max(norm, 1e-30)), rtol=1e-6, atol=0.0
        )
        # torch adds 1e-6 to the norm, we do not: that much they may differ by, and rounding
        torch.testing.assert_close(clipped[k], p.grad, rtol=1e-6 + 1e-6 / max_norm, atol=0.0)
    assert clipped.norm(dim=1).max() <= max_norm * (1 + 1e-6)
    assert (clipped[4] == 0).all()


@pytest.mark.parametrize("tau", [0.005, 0.25, 0.9, 1.0])
def test_target_is_the_moving_average(tau: float) -> None:
    """tau is the share of the new weights; tau 1 is a copy, to the bit; the online weights stay."""
    online, target = vector([0, 1], 33), vector([0, 1], 33, "target")
    theta, expected = online.matrix.clone(), target.matrix.double()
    for _ in range(3):
        move_target(target, online, tau)
        expected = (1 - tau) * expected + tau * theta.double()
    torch.testing.assert_close(target.matrix.double(), expected, rtol=1e-6, atol=1e-7)
    assert torch.equal(online.matrix, theta)
    assert torch.equal(target.matrix, theta) == (tau == 1.0)
