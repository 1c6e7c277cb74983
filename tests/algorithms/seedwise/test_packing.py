"""A seed's bits do not depend on which other seeds are in the pack."""

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Linear,
    Parameters,
    RMSProp,
    Streams,
    clip_grad_norm,
    move_target,
    orthogonal,
    standardise,
    tanh,
    uniform,
    uniform_fan_in,
)
from tests.algorithms.seedwise.tools import (
    ODD,
    SMOOTH,
    check_packing,
    network,
    numbers,
    vector,
)


@pytest.mark.parametrize(
    "n_in, n_out", [(4, 64), (64, 1), (257, 1), (33, 1), (1, 1), (1, 7), (17, 13), (3, 2), (64, 7), (256, 2)]
)
def test_packing_linear(n_in: int, n_out: int) -> None:
    """Outputs, and gradients of inputs, weights and biases; an output of width 1 and a batch of 1 too."""

    def compute(seeds: list[int]) -> dict[str, Tensor]:
        out = {}
        for batch in (1, 2, 3, 64, 257):
            layer = Linear(Streams(seeds, "init"), n_in, n_out, uniform_fan_in)
            parameters = Parameters(layer)
            x = numbers(seeds, batch, n_in)
            out[f"y {batch}"] = layer(x)
            out[f"grad {batch}"] = parameters.grad(layer(x).square().flatten(1).mean(1))
            if n_in > 1:
                x.requires_grad_()
                out[f"x grad {batch}"] = torch.autograd.grad(layer(x).square().sum(), x)[0]
        return out

    check_packing(compute)


@pytest.mark.parametrize("activation", [tanh, torch.relu_], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "sizes",
    [
        (4, 64, 64, 1),
        (3, 17, 13, 1),
        (5, 33, 1),
        (1, 7, 1),
        (17, 1),
        (13, 33, 3),
        (8, 5, 7, 2),
        (2, 65, 31, 5),
    ],
    ids=str,
)
def test_packing_mlp(sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> None:
    def compute(seeds: list[int]) -> dict[str, Tensor]:
        out = {}
        for batch in (1, 7, 64, 257):
            net = MLP(Streams(seeds, "init"), sizes, activation, [uniform_fan_in] * (len(sizes) - 1))
            parameters = Parameters(net)
            y = net(numbers(seeds, batch, sizes[0], scale=2.0))
            out[f"y {batch}"] = y
            with torch.no_grad():  # acting takes this way
                out[f"act {batch}"] = net(numbers(seeds, 1, batch, sizes[0], scale=2.0))
            # A zero gradient may have either sign (batch of 1, ReLU): the optimisers make the same of both.
            out[f"grad {batch}"] = parameters.grad(y.square().flatten(1).mean(1)) + 0.0
        return out

    check_packing(compute)


def test_packing_hidden_width_one() -> None:
    def compute(seeds: list[int]) -> dict[str, Tensor]:
        out = {}
        for sizes, batch in (
            ((3, 1, 13, 1), 65),
            ((2, 1, 33, 2), 17),
            ((1, 1, 64, 2), 64),
            ((2, 5, 1, 2), 33),
        ):
            net = MLP(Streams(seeds, "init"), sizes, tanh, [uniform_fan_in] * (len(sizes) - 1))
            parameters = Parameters(net)
            loss = net(numbers(seeds, batch, sizes[0])).square().flatten(1).mean(1)
            out[f"{sizes}"] = parameters.grad(loss)
        return out

    check_packing(compute)


@pytest.mark.parametrize("activation", [tanh, torch.relu_], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "sizes",
    [(4, 33, 1), (1, 1, 1), (3, 17, 1, 2), (1, 7, 20), (2, 1, 3), (33, 2), (13, 5, 31, 16), (40, 64, 24, 1)],
    ids=str,
)
def test_packing_copies(sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> None:
    """Two networks per seed: outputs, gradients of parameters and inputs, also through the first as a
    constant, whose weights have gaps between them."""

    def compute(seeds: list[int]) -> dict[str, Tensor]:
        net = network(seeds, sizes, activation, copies=2)
        parameters = Parameters(net, copies=2)
        first, out = net.constant(every=2), {"matrix": parameters.matrix}
        for batch in (1, 7, 16, 257):
            x = numbers(seeds, 2, batch, sizes[0], scale=2.0).flatten(0, 1).requires_grad_()
            y = net(x)
            (x_grad,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
            some = x.detach()[::2].contiguous().requires_grad_()
            z = first(some)
            # A zero may have either sign where a ReLU's slope is 0: the optimisers make the same of both.
            grads = [x_grad, *torch.autograd.grad(z.square().sum(), some)]
            grads.append(parameters.grad(y.view(len(seeds), -1).square().mean(1)))
            tensors = [y, z, *(g + 0.0 for g in grads)]
            out |= {f"{i} {batch}": t.reshape(len(seeds), -1) for i, t in enumerate(tensors)}
        return out

    check_packing(compute)


@pytest.mark.parametrize("sizes", [(3, 17, 2), (4, 33, 1), (1, 1, 20, 1), (17, 2, 33)], ids=str)
def test_packing_gradients_of_gradients(sizes: tuple[int, ...]) -> None:
    """Products with the Jacobian and with the Hessian."""

    def compute(seeds: list[int]) -> dict[str, Tensor]:
        net, out = network(seeds, sizes, tanh), {}
        parameters = Parameters(net)
        v = numbers(seeds, parameters.matrix.shape[1], purpose="v")
        for batch in (1, 7, 64):
            y = net(numbers(seeds, batch, sizes[0]))
            u = torch.zeros_like(y, requires_grad=True)
            pulled = parameters.grad(y, u, create_graph=True)
            (out[f"forward {batch}"],) = torch.autograd.grad(pulled, u, v, retain_graph=True)
            grad = parameters.grad(y.square().flatten(1).mean(1), create_graph=True)
            out[f"grad {batch}"], out[f"hessian {batch}"] = grad + 0.0, parameters.grad(grad, v) + 0.0
        return out

    check_packing(compute)


@pytest.mark.parametrize("function", SMOOTH, ids=lambda f: f.__name__)
def test_packing_functions(function: Callable[[Tensor], Tensor]) -> None:
    """Elementwise functions and their gradients; on views whose memory is not in order too."""

    def compute(seeds: list[int]) -> dict[str, Tensor]:
        out = {}
        for width in ODD:
            for name, x in {
                "flat": numbers(seeds, width, scale=3.0),
                "deep": numbers(seeds, 3, width, scale=3.0),
                "turned": numbers(seeds, width, 3, scale=3.0).transpose(1, 2),
                "cut": numbers(seeds, width + 3, scale=3.0)[:, 1:-2],
            }.items():
                out[f"{name} {width} acting"] = function(x)
                x = x.detach().requires_grad_()
                out[f"{name} {width}"] = y = function(x)
                out[f"{name} {width} grad"] = torch.autograd.grad(y.square().sum(), x)[0]
        return out

    check_packing(compute)


def test_packing_standardise() -> None:
    def compute(seeds: list[int]) -> dict[str, Tensor]:
        wide = {f"{n}": standardise(numbers(seeds, n)) for n in ODD if n > 1}
        deep = {f"{n} deep": standardise(numbers(seeds, n, 3)) for n in ODD}
        return wide | deep | {f"{n} turned": standardise(numbers(seeds, n, 3).transpose(1, 2)) for n in ODD}

    check_packing(compute)


@pytest.mark.parametrize("width", ODD)
def test_packing_optimisers(width: int) -> None:
    """Some steps of Adam and RMSProp on clipped gradients, and a target that follows."""

    def compute(seeds: list[int]) -> dict[str, Tensor]:
        x, y, z, target = (vector(seeds, width, name) for name in ("adam", "rmsprop", "torch", "target"))
        adam, rmsprop, torchs = Adam(x, 1e-5), RMSProp(y, 1e-5, 0.99), RMSProp(z, 1e-5, 0.99, "torch")
        out = {}
        for step in range(4):
            grad, out[f"norm {step}"] = clip_grad_norm(
                numbers(seeds, width, purpose=f"g{step}"), 0.5 * width**0.5
            )
            adam.step(grad, 1e-3)
            rmsprop.step(grad, 1e-3)
            torchs.step(grad, 1e-3)
            move_target(target, x, 0.005)
        out |= {"adam": x.matrix, "rmsprop": y.matrix, "torch": z.matrix, "target": target.matrix}
        out |= {"clipped": grad, "torch g": torchs.g}
        return out | {f"adam {k}": v for k, v in adam.state_dict().items()} | rmsprop.state_dict()

    check_packing(compute)


def test_packing_initialisers() -> None:
    shapes = [(4, 64), (64, 64), (64, 1), (1, 7), (17, 13), (3, 1), (1, 1)]

    def compute(seeds: list[int]) -> dict[str, Tensor]:
        out = {}
        inits = {"orthogonal": orthogonal(2**0.5), "fan in": uniform_fan_in, "uniform": uniform(0.003)}
        for (name, init), (n_in, n_out) in product(inits.items(), shapes):
            name = f"{name} {n_in} {n_out}"
            out[name], out[f"{name} bias"] = init(Streams(seeds, "i"), n_in, n_out)
        return out

    check_packing(compute)


def test_packing_streams() -> None:
    def compute(seeds: list[int]) -> dict[str, Tensor]:
        s = Streams(seeds, "act", 3)
        return {
            "uniform": s.uniform(3, 5),
            "normal": s.normal(7),
            "integers": s.integers(6, 11),
            "permutation": s.permutation(13),
            "more": s.uniform(9000),
        }

    check_packing(compute)
