"""The shared vocabulary: a seed's bits do not depend on its company, and the numbers are the right ones."""

import copy
from collections.abc import Callable
from functools import partial
from itertools import chain, combinations, pairwise, product

import numpy as np
import pytest
import scipy.stats
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import Tensor

from ascent.algorithms import seedwise
from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Linear,
    Parameters,
    RMSProp,
    Streams,
    Vector,
    clip_grad_norm,
    derive_seed,
    generator_words,
    move_target,
    orthogonal,
    set_generator_words,
    sigmoid,
    softplus,
    standardise,
    tanh,
    uniform,
    uniform_fan_in,
)

ALL = list(range(10))
PACKS = [*([k] for k in ALL), [0, 1, 2], [3, 4, 5], [9, 2, 7], ALL[:5], ALL[5:]]
ODD = (1, 2, 3, 5, 7, 8, 13, 15, 17, 31, 33, 63, 65, 257, 1001)  # around the widths of vector registers
SMOOTH = [tanh, softplus, sigmoid]


def check_packing(compute: Callable[[list[int]], dict[str, Tensor]]) -> None:
    """`compute(seeds)` gives tensors (S, ...): each seed's bits are those it has in the pack of ten."""
    expected = compute(ALL)
    assert all(len(tensor) == len(ALL) for tensor in expected.values())
    for pack in PACKS:
        for name, tensor in compute(pack).items():
            for row, seed in enumerate(pack):
                ours, theirs = bits(tensor[row]), bits(expected[name][seed])
                assert ours == theirs, f"{name} of seed {seed} in the pack {pack}"


def bits(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().numpy().tobytes()


def numbers(seeds: list[int], *shape: int, purpose: str = "test", scale: float = 1.0) -> Tensor:
    """Normal numbers (S, *shape), each row its seed's own."""
    return scale * Streams(seeds, purpose).normal(*shape)


def network(
    seeds: list[int], sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor], copies: int = 1
) -> MLP:
    return MLP(Streams(seeds, "init"), sizes, activation, [uniform_fan_in] * (len(sizes) - 1), copies)


def vector(seeds: list[int], width: int, purpose: str = "vector") -> Parameters:
    """A parameter matrix (S, width) of normal numbers."""
    parameters = Parameters(Vector(Streams(seeds, "init"), width, 0.0))
    parameters.matrix.copy_(numbers(seeds, width, purpose=purpose))
    return parameters


# ---- packing -----------------------------------------------------------------------------------------------


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
        x, y, target = vector(seeds, width), vector(seeds, width), vector(seeds, width, "target")
        adam, rmsprop = Adam(x, 1e-5), RMSProp(y, 1e-5, 0.99)
        out = {}
        for step in range(4):
            grad, out[f"norm {step}"] = clip_grad_norm(
                numbers(seeds, width, purpose=f"g{step}"), 0.5 * width**0.5
            )
            adam.step(grad, 1e-3)
            rmsprop.step(grad, 1e-3)
            move_target(target, x, 0.005)
        out |= {"adam": x.matrix, "rmsprop": y.matrix, "target": target.matrix, "clipped": grad}
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


# ---- parameters --------------------------------------------------------------------------------------------


def torch_twin(net: MLP, seed: int, activation: type[torch.nn.Module]) -> torch.nn.Sequential:
    """One seed's network as plain torch modules."""
    modules: list[torch.nn.Module] = []
    for layer in net.layers:
        weight, bias = layer.weight[seed].detach(), layer.bias[seed, 0].detach()
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data.copy_(weight.T)
        linear.bias.data.copy_(bias)
        modules += [linear, activation()]
    return torch.nn.Sequential(*modules[:-1])


def torch_grad(twin: torch.nn.Module) -> Tensor:
    """The gradients in the order and orientation of the matrix's columns."""
    grads = [p.grad.T if p.dim() == 2 else p.grad for p in twin.parameters()]
    return torch.cat([g.flatten() for g in grads])


def test_parameters_are_views() -> None:
    """The matrix and the layers are the same memory, and the layers together cover every column once."""
    streams = Streams([4, 5], "init")
    net, free = MLP(streams, (3, 5, 2), tanh, [orthogonal(1.0)] * 2), Vector(streams, 2, -0.5)
    before = [net.layers[0].weight, net.layers[0].bias, net.layers[1].weight, net.layers[1].bias, free.value]
    parameters = Parameters(net, free)
    tensors = [net.layers[0].weight, net.layers[0].bias, net.layers[1].weight, net.layers[1].bias, free.value]
    assert parameters.matrix.shape == (2, 3 * 5 + 5 + 5 * 2 + 2 + 2)
    assert torch.equal(parameters.matrix, torch.cat([t.flatten(1) for t in before], 1))
    for tensor in tensors:
        assert tensor.untyped_storage().data_ptr() == parameters.matrix.untyped_storage().data_ptr()
    x = numbers([4, 5], 6, 3)
    y = net(x).detach()
    with torch.no_grad():
        parameters.matrix[1] *= 1.5
    assert torch.equal(net(x)[0], y[0])
    assert not torch.equal(net(x)[1], y[1])
    assert free.value[1, 0] == -0.75
    parameters.matrix.copy_(torch.arange(parameters.matrix.numel()).view(2, -1))
    assert torch.equal(torch.cat([t.detach().flatten(1) for t in tensors], 1), parameters.matrix)


@pytest.mark.parametrize(
    "ours, theirs",
    [
        (tanh, torch.nn.Tanh),
        (torch.relu_, torch.nn.ReLU),
    ],
)
def test_gradient_is_each_seeds_own(ours: Callable[[Tensor], Tensor], theirs: type[torch.nn.Module]) -> None:
    """`Parameters.grad` of losses (S,) against a plain torch network per seed."""
    seeds, sizes = [0, 1, 2], (3, 8, 5, 1)
    net = MLP(Streams(seeds, "init"), sizes, ours, [uniform_fan_in] * 3)
    parameters = Parameters(net)
    x, y = numbers(seeds, 4, 5, 3), numbers(seeds, 4, 5, 1, purpose="y")
    assert net(x).shape == (3, 4, 5, 1)
    grad = parameters.grad((net(x) - y).square().flatten(1).mean(1))
    for k in range(3):
        twin = torch_twin(net, k, theirs)
        torch.testing.assert_close(net(x)[k].detach(), twin(x[k]).detach(), rtol=1e-5, atol=1e-6)
        (twin(x[k]) - y[k]).square().mean().backward()
        torch.testing.assert_close(grad[k], torch_grad(twin), rtol=1e-5, atol=1e-6)


def test_gradient_ignores_other_seeds_data() -> None:
    """Another seed's data become NaN: this seed's gradient, clipped gradient and step keep their bits."""
    seeds, bad = [0, 1, 2], 1

    def step(corrupt: bool) -> dict[str, Tensor]:
        net = MLP(Streams(seeds, "init"), (3, 8, 1), tanh, [uniform_fan_in] * 2)
        parameters, x = Parameters(net), numbers(seeds, 16, 3)
        if corrupt:
            x[bad] = torch.nan
        grad = parameters.grad(net(standardise(x)).square().flatten(1).mean(1))
        clipped, norm = clip_grad_norm(grad, 0.01)
        Adam(parameters, 1e-8).step(clipped, 1e-2)
        RMSProp(parameters, 1e-8, 0.9).step(clipped, 1e-2)
        return {"grad": grad, "clipped": clipped, "norm": norm, "matrix": parameters.matrix}

    sound, corrupt = step(False), step(True)
    for name in sound:
        assert corrupt[name][bad].isnan().any(), name
        for k in (0, 2):
            assert bits(sound[name][k]) == bits(corrupt[name][k]), name


# ---- the gradient of an MLP --------------------------------------------------------------------------------

ACTIVATIONS = pytest.mark.parametrize("activation", [tanh, torch.relu_], ids=["tanh", "relu"])
CREATE_GRAPH = pytest.mark.parametrize("create_graph", [False, True], ids=["plain", "create_graph"])
WIDTHS = (1, 2, 7, 20, 33)  # 1 is a case of its own; products may be turned round below 16 and below 32
BATCHES = (1, 5, 15, 16, 64)
SHAPES = [(3, 5, 2), (1, 20, 1), (2, 1), (40, 1, 3), (33, 16, 40, 17)]


def exact_twin(net: MLP, row: int) -> torch.nn.Sequential:
    """One network as plain torch modules, in float64."""
    return torch_twin(net, row, {tanh: torch.nn.Tanh, torch.relu_: torch.nn.ReLU}[net.activation]).double()


def check_close(ours: Tensor, exact: Tensor) -> None:
    """float32 against float64; sums may cancel, so that the largest number counts too."""
    scale = max(1.0, exact.detach().abs().max().item())
    torch.testing.assert_close(ours.detach().double(), exact.detach(), rtol=1e-5, atol=1e-6 * scale)


def check_gradient(
    sizes: tuple[int, ...],
    batches: tuple[int, ...],
    activation: Callable[[Tensor], Tensor],
    create_graph: bool = False,
) -> None:
    """Outputs, and their gradients by parameters and inputs, against a torch network in float64 per seed."""
    seeds = [0, 1]
    net = network(seeds, sizes, activation)
    parameters = Parameters(net)
    twins = [exact_twin(net, k) for k in range(2)]
    for batch in batches:
        x = numbers(seeds, batch, sizes[0], scale=2.0).requires_grad_()
        w = numbers(seeds, batch, sizes[-1], purpose="w")
        y = net(x)
        given = [(t, t.detach().clone()) for t in (x, w, y)]
        x_grad, *found = torch.autograd.grad(y, [x, *parameters.leaves], w, create_graph=create_graph)
        assert [g.shape for g in found] == [leaf.shape for leaf in parameters.leaves]
        for tensor, before in given:
            assert torch.equal(tensor, before), "changed by the gradient"
        exact_x = x.detach().double().requires_grad_()
        exact_y = torch.stack([twin(row) for twin, row in zip(twins, exact_x, strict=True)])
        for twin in twins:
            twin.zero_grad()
        exact_y.backward(w.double())
        check_close(y, exact_y)
        check_close(x_grad, exact_x.grad)
        check_close(torch.cat([g.flatten(1) for g in found], 1), torch.stack([*map(torch_grad, twins)]))


@ACTIVATIONS
@pytest.mark.parametrize("n_in", WIDTHS)
def test_gradient_is_torchs(n_in: int, activation: Callable[[Tensor], Tensor]) -> None:
    """For narrow and wide layers in every combination, and batches on both sides of the bounds."""
    for hidden, n_out in product(WIDTHS, WIDTHS):
        check_gradient((n_in, hidden, n_out), BATCHES, activation)


@ACTIVATIONS
@CREATE_GRAPH
@pytest.mark.parametrize("sizes", [(5, 1), (1, 2), (15, 16), (31, 32), (16, 15, 32, 31, 4), *SHAPES], ids=str)
def test_gradient_is_torchs_whatever_the_depth(
    sizes: tuple[int, ...],
    activation: Callable[[Tensor], Tensor],
    create_graph: bool,
) -> None:
    check_gradient(sizes, (1, 15, 16), activation, create_graph)


@ACTIVATIONS
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_gradient_by_what_is_asked(sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> None:
    """By the input alone, the parameters alone, one of them: the bits are those of all together.

    Nor does the output depend on whether there will be a gradient.
    """
    seeds = [0, 1, 2]
    net, frozen = network(seeds, sizes, activation), network(seeds, sizes, activation)
    leaves = Parameters(net).leaves
    for batch in (1, 5, 64):
        x, w = numbers(seeds, batch, sizes[0]), numbers(seeds, batch, sizes[-1], purpose="w")
        source = x.clone().requires_grad_()
        y = net(source)
        x_grad, *expected = torch.autograd.grad(y, [source, *leaves], w, retain_graph=True)
        for g, e in zip(torch.autograd.grad(net(x), leaves, w), expected, strict=True):
            assert bits(g) == bits(e)
        for leaf, e in zip(leaves, expected, strict=True):
            assert bits(*torch.autograd.grad(y, leaf, w, retain_graph=True)) == bits(e)
        for z in (y, frozen(source)):
            assert bits(*torch.autograd.grad(z, source, w, retain_graph=True)) == bits(x_grad)
        outputs = [
            net(x),
            frozen(x),
            frozen(source),
            net.composed(x, *(getattr(*slot) for slot in net.slots())),
        ]
        with torch.no_grad():
            outputs.append(net(x))
        with torch.inference_mode():
            outputs.append(net(x))
        assert all(bits(z) == bits(y) for z in outputs)
        assert not frozen(x).requires_grad


@ACTIVATIONS
@CREATE_GRAPH
def test_net_in_series(create_graph: bool, activation: Callable[[Tensor], Tensor]) -> None:
    """A network whose input depends on its own parameters."""
    net, x = network([0, 1], (3, 20, 3), activation), numbers([0, 1], 16, 3)
    parameters = Parameters(net)
    loss = net(0.5 * net(x) + x).square().flatten(1).sum(1)
    grad = parameters.grad(loss, create_graph=create_graph)
    for k in range(2):
        twin, row = exact_twin(net, k), x[k].double()
        twin(0.5 * twin(row) + row).square().sum().backward()
        check_close(grad[k], torch_grad(twin))


@ACTIVATIONS
@CREATE_GRAPH
def test_net_used_twice(create_graph: bool, activation: Callable[[Tensor], Tensor]) -> None:
    """On one input and on two of the same shape: gradients add up, and neither use spoils the other."""
    seeds = [0, 1]
    net = network(seeds, (3, 20, 33, 2), activation)
    parameters = Parameters(net)
    x, z = numbers(seeds, 16, 3).requires_grad_(), numbers(seeds, 16, 3, purpose="z")
    outputs = [net(x), net(z), net(x + 1.0), net(x)]
    before = [y.detach().clone() for y in outputs]
    a, b, c, d = outputs
    loss = (a * b * c.cos() + d.square()).flatten(1).mean(1)
    grad = parameters.grad(loss, retain_graph=True, create_graph=create_graph)
    (x_grad,) = torch.autograd.grad(loss.sum(), x)
    assert all(torch.equal(y, e) for y, e in zip(outputs, before, strict=True))
    for k in range(2):
        twin, row, other = exact_twin(net, k), x[k].detach().double(), z[k].double()
        row.requires_grad_()
        (twin(row) * twin(other) * twin(row + 1.0).cos() + twin(row).square()).mean().backward()
        check_close(grad[k], torch_grad(twin))
        check_close(x_grad[k], row.grad)


@ACTIVATIONS
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_backward_again(sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> None:
    """Through one graph several times, with other incoming gradients between: each time the same bits.

    Without `retain_graph` once only.
    """
    net = network([0, 1], sizes, activation)
    leaves, x = Parameters(net).leaves, numbers([0, 1], 16, sizes[0]).requires_grad_()
    weights = [numbers([0, 1], 16, sizes[-1], purpose=p) for p in "abaaba"]
    y = net(x)
    for w in weights:
        kept = w.clone()
        again = torch.autograd.grad(y, [x, *leaves], w, retain_graph=True)
        assert torch.equal(w, kept)
        afresh = torch.autograd.grad(net(x), [x, *leaves], w)
        assert [bits(g) for g in again] == [bits(g) for g in afresh]
    torch.autograd.grad(y.sum(), x)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y.sum(), x)


@ACTIVATIONS
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_gradient_takes_any_memory_layout(
    sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]
) -> None:
    """Inputs and incoming gradients turned, cut, repeated: the numbers of their contiguous copies."""
    seeds, batch = [0, 1], 16
    net = network(seeds, sizes, activation)
    leaves = Parameters(net).leaves

    def layouts(n: int, purpose: str) -> list[Tensor]:
        return [
            numbers(seeds, n, batch, purpose=purpose).mT,
            numbers(seeds, batch + 3, 2 * n + 1, purpose=purpose)[:, 2:-1, 1::2],
            numbers(seeds, 1, n, purpose=purpose).expand(-1, batch, -1),
            numbers(seeds, batch, 1, purpose=purpose).expand(-1, -1, n),
            numbers(seeds[:1], batch, n, purpose=purpose).expand(2, -1, -1),
            numbers(seeds, 1, 1, purpose=purpose).expand(-1, batch, n),
        ]

    for x, w in zip(layouts(sizes[0], "x"), layouts(sizes[-1], "w"), strict=True):
        x0, w0 = (torch.empty(t.shape).copy_(t) for t in (x, w))
        exact = torch.autograd.grad(net(x0.requires_grad_()), [x0, *leaves], w0)
        x1 = x.detach().requires_grad_()
        for mine, other in zip(torch.autograd.grad(net(x1), [x1, *leaves], w), exact, strict=True):
            check_close(mine, other.double())
        assert torch.equal(x1, x0)
        assert torch.equal(w, w0)
    x = numbers(seeds, 2, 4, 5, sizes[0]).requires_grad_()  # more axes
    (x_grad,) = torch.autograd.grad(net(x).square().sum(), x)
    flat = x.detach().flatten(1, 3).requires_grad_()
    assert torch.equal(*torch.autograd.grad(net(flat).square().sum(), flat), x_grad.flatten(1, 3))


def test_gradient_at_zero() -> None:
    """A network without bias on zeros: a ReLU's slope at 0 is 0, tanh's is 1, as torch has it."""
    for activation in (tanh, torch.relu_):
        net = MLP(Streams([0], "init"), (3, 5, 2), activation, [orthogonal(1.0)] * 2)
        x, twin = torch.zeros(1, 4, 3, requires_grad=True), exact_twin(net, 0)
        (x_grad,) = torch.autograd.grad(net(x).sum(), x)
        exact = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
        twin(exact).sum().backward()
        assert (exact.grad == 0).all() == (activation is torch.relu_)
        check_close(x_grad[0], exact.grad)


@CREATE_GRAPH
def test_gradient_of_what_has_changed_is_refused(create_graph: bool) -> None:
    """Parameters or inputs written to between the output and its gradient: an error, not a wrong number."""
    net, x = network([0, 1], (3, 5, 2), tanh), numbers([0, 1], 4, 3)
    parameters = Parameters(net)
    for tensor in (parameters.matrix, parameters.matrix[1, -1:], x):
        y = net(x)
        tensor.mul_(1.5)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            parameters.grad(y.sum(), create_graph=create_graph)


# ---- gradients of gradients --------------------------------------------------------------------------------

PLAIN = {tanh: torch.tanh, torch.relu_: torch.relu}
TWICE = [(3, 5, 2), (1, 1), (2, 1, 3), (4, 20, 1), (1, 33, 16), (17, 7, 33, 2)]


def plain(theta: Tensor, x: Tensor, sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> Tensor:
    """The output (B, out) as a function of one network's row of numbers."""
    for n_in, n_out in pairwise(sizes):
        weight, bias, theta = theta.split([n_in * n_out, n_out, len(theta) - (n_in + 1) * n_out])
        x = x @ weight.view(n_in, n_out) + bias
        x = PLAIN[activation](x) if len(theta) else x
    return x


@ACTIVATIONS
@pytest.mark.parametrize("sizes", TWICE, ids=str)
def test_hessian_products(sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> None:
    """The gradient of (gradient of a loss) times a vector, by parameters and inputs, whichever are asked."""
    seeds = [0, 1]
    net = network(seeds, sizes, activation)
    parameters = Parameters(net)
    leaves, theta = parameters.leaves, parameters.matrix
    v = numbers(seeds, theta.shape[1], purpose="v")

    def loss(y: Tensor, target: Tensor) -> Tensor:
        return ((y - target).square() * target.cos()).sum()

    def plain_loss(theta: Tensor, x: Tensor, target: Tensor) -> Tensor:
        return loss(plain(theta, x, sizes, activation), target)

    for batch in (1, 16):
        x, w = numbers(seeds, batch, sizes[0]), numbers(seeds, batch, sizes[0], purpose="w")
        source, target = x.clone().requires_grad_(), numbers(seeds, batch, sizes[-1], purpose="target")
        # by the parameters alone, the input needing no gradient
        grad = parameters.grad(loss(net(x), target), create_graph=True)
        second = parameters.grad(grad, v)
        # by the input alone, the parameters needing none
        (x_grad,) = torch.autograd.grad(loss(net.constant()(source), target), source, create_graph=True)
        (x_second,) = torch.autograd.grad(x_grad, source, w)
        # by both
        x_first, *found = torch.autograd.grad(loss(net(source), target), [source, *leaves], create_graph=True)
        first = torch.cat([g.flatten(1) for g in found], 1)
        x_both, *found = torch.autograd.grad([first, x_first], [source, *leaves], [v, w])
        both = torch.cat([g.flatten(1) for g in found], 1)
        for k in range(2):
            exact = partial(plain_loss, target=target[k].double())
            point, along = (theta[k].double(), x[k].double()), (v[k].double(), w[k].double())
            for vectors, results in (
                (along, (both, x_both)),
                ((along[0], 0 * along[1]), (second, None)),
                ((0 * along[0], along[1]), (None, x_second)),
            ):
                _, products = torch.autograd.functional.hvp(exact, point, vectors)
                for mine, other in zip(results, products, strict=True):
                    if mine is not None:
                        check_close(mine[k], other)
            slope, x_slope = torch.autograd.functional.jacobian(exact, point)
            for mine, other in ((grad, slope), (first, slope), (x_grad, x_slope), (x_first, x_slope)):
                check_close(mine[k], other)


@ACTIVATIONS
@pytest.mark.parametrize("sizes", TWICE, ids=str)
def test_jacobian_products(sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> None:
    """J v as the derivative of J^T u by u, and J^T J v, through graphs built once, against the matrix J."""
    seeds = [0, 1]
    net = network(seeds, sizes, activation)
    parameters = Parameters(net)
    theta = parameters.matrix
    for batch in (1, 16):
        x = numbers(seeds, batch, sizes[0])
        y = net(x)
        jacobians = []  # (B * out, P)
        for row, x_row in zip(theta.double(), x.double(), strict=True):
            exact = partial(plain, x=x_row, sizes=sizes, activation=activation)
            jacobians.append(torch.autograd.functional.jacobian(exact, row).flatten(0, 1))
        u = torch.zeros_like(y, requires_grad=True)
        pulled = parameters.grad(y, u, create_graph=True)
        assert (pulled == 0).all()
        for step in range(3):
            v = numbers(seeds, theta.shape[1], purpose=f"v{step}")
            (jv,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
            jtjv = parameters.grad(y, jv, retain_graph=True)
            for k, jacobian in enumerate(jacobians):
                check_close(jv[k].flatten(), jacobian @ v[k].double())
                check_close(jtjv[k], jacobian.T @ (jacobian @ v[k].double()))


# ---- several networks per seed -----------------------------------------------------------------------------


@ACTIVATIONS
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_copies_are_separate_networks(sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> None:
    """Three per seed: a seed's row of the matrix is its networks one after the other, and outputs and
    gradients have the bits of three networks by themselves."""
    seeds, n, batch = [4, 7], 3, 16
    net = network(seeds, sizes, activation, n)
    parameters = Parameters(net, copies=n)
    width = sum((n_in + 1) * n_out for n_in, n_out in pairwise(sizes))
    assert parameters.matrix.shape == (2, n * width)
    x, w = (numbers(seeds, n, batch, k, purpose="x") for k in (sizes[0], sizes[-1]))  # (S, n, B, ...)
    source = x.flatten(0, 1).requires_grad_()
    y = net(source)
    assert y.shape == (2 * n, batch, sizes[-1])
    (x_grad,) = torch.autograd.grad(y, source, w.flatten(0, 1), retain_graph=True)
    losses = (y.view(w.shape) * w).flatten(2).sum(2)  # (S, n)
    grad = parameters.grad((losses * torch.tensor([1.0, 2.0, 4.0])).sum(1))
    assert grad.shape == parameters.matrix.shape
    for j in range(n):
        one = network(seeds, sizes, activation)
        own, columns = Parameters(one), slice(j * width, (j + 1) * width)
        own.matrix.copy_(parameters.matrix[:, columns])
        mine = x[:, j].clone().requires_grad_()
        z = one(mine)
        assert bits(z) == bits(y[j::n])
        assert bits(*torch.autograd.grad(z, mine, w[:, j], retain_graph=True)) == bits(x_grad[j::n])
        assert bits(own.grad((z * w[:, j]).flatten(1).sum(1)) * 2.0**j) == bits(grad[:, columns])
        for k in range(2):
            check_close(y[k * n + j], plain(own.matrix[k].double(), x[k, j].double(), sizes, activation))


@pytest.mark.parametrize("init", [uniform_fan_in, orthogonal(2**0.5)], ids=["uniform", "orthogonal"])
def test_copies_start_differently(init: Callable) -> None:
    """No two networks of a pack have a layer in common, and a seed's do not depend on its company."""

    def matrix(seeds: list[int]) -> Tensor:
        net = MLP(Streams(seeds, "init"), (3, 5, 4), tanh, [init] * 2, 3)
        for layer in net.layers:
            assert layer.weight.shape[0] == layer.bias.shape[0] == 3 * len(seeds)
            assert len({bits(row) for row in layer.weight}) == 3 * len(seeds)
            assert (layer.bias == 0).all() or len({bits(row) for row in layer.bias}) == 3 * len(seeds)
        return Parameters(net, copies=3).matrix

    pack = matrix([0, 1, 2])
    assert torch.equal(matrix([1])[0], pack[1])
    assert torch.equal(matrix([5, 2, 9, 0])[[3, 1]], pack[[0, 2]])


def test_copies_are_views() -> None:
    """To write into the columns of one network of one seed changes its outputs alone."""
    net = network([0, 1], (3, 5, 2), tanh, 3)
    parameters, x = Parameters(net, copies=3), numbers([0], 4, 3).expand(6, -1, -1)
    before, width = net(x).detach(), parameters.matrix.shape[1] // 3
    for k, j in product(range(2), range(3)):
        with torch.no_grad():
            parameters.matrix[k, j * width : (j + 1) * width] += 1.0
        after = net(x).detach()
        assert (after != before).flatten(1).any(1).nonzero().flatten().tolist() == [3 * k + j]
        before = after


# ---- constants ---------------------------------------------------------------------------------------------


@ACTIVATIONS
@CREATE_GRAPH
@pytest.mark.parametrize("sizes", SHAPES, ids=str)
def test_constant(
    sizes: tuple[int, ...],
    activation: Callable[[Tensor], Tensor],
    create_graph: bool,
) -> None:
    """The network's outputs and input gradients to the bit, before and after a step; no gradient by it."""
    net = network([0, 1], sizes, activation)
    parameters = Parameters(net)
    fixed, adam, seen = net.constant(), Adam(parameters, 1e-8), []
    x, w = numbers([0, 1], 16, sizes[0]), numbers([0, 1], 16, sizes[-1], purpose="w")
    x.requires_grad_()
    for _ in range(2):
        y, z = net(x), fixed(x)
        seen.append(bits(z))
        assert bits(y) == bits(z)
        for options in ({"create_graph": create_graph}, {}):
            (expected,) = torch.autograd.grad(y, x, w, retain_graph=True, **options)
            assert bits(*torch.autograd.grad(z, x, w, retain_graph=True, **options)) == bits(expected)
        found = torch.autograd.grad(z, parameters.leaves, w, allow_unused=True)
        assert found == (None,) * len(parameters.leaves)
        assert not fixed(x.detach()).requires_grad
        adam.step(parameters.grad(y.square().flatten(1).sum(1)), 1e-2)
    assert len(set(seen)) == 2
    fixed(x).sum().backward()
    assert all(leaf.grad is None for leaf in parameters.leaves)
    slots = zip(net.slots(), fixed.slots(), strict=True)
    tensors = [(getattr(*mine), getattr(*its)) for mine, its in slots]
    assert all(mine.data_ptr() == its.data_ptr() for mine, its in tensors)
    assert all(mine.requires_grad and not its.requires_grad for mine, its in tensors)


@ACTIVATIONS
@pytest.mark.parametrize("n", [2, 3])
def test_constant_first_copy(n: int, activation: Callable[[Tensor], Tensor]) -> None:
    """Of n networks per seed the first, in the same memory; its input gradient against torch's, by way of
    another network that acts."""
    seeds = [0, 1]
    critic, actor = network(seeds, (5, 20, 1), activation, n), network(seeds, (3, 7, 2), activation)
    critics, actors = Parameters(critic, copies=n), Parameters(actor)
    first, x = critic.constant(every=n), numbers(seeds, 16, 3)
    for _ in range(2):
        q = first(torch.cat([x, actor(x)], -1))
        assert q.shape == (2, 16, 1)
        grad = actors.grad(q.flatten(1).mean(1))
        for k in range(2):
            twin, acting = exact_twin(critic, n * k), exact_twin(actor, k)
            row = x[k].double()
            exact = twin(torch.cat([row, acting(row)], -1))
            exact.mean().backward()
            check_close(q[k], exact)
            check_close(grad[k], torch_grad(acting))
        with torch.no_grad():
            critics.matrix[:, : critics.matrix.shape[1] // n] *= 1.5  # the columns of the first
    for (owner, name), mine in zip(first.slots(), critics.leaves, strict=True):
        assert getattr(owner, name).data_ptr() == mine.data_ptr()
    kept = first(numbers(seeds, 4, 5)).detach()
    critics.matrix[:, critics.matrix.shape[1] // n :] += 1.0
    assert torch.equal(first(numbers(seeds, 4, 5)), kept)
    assert critic.layers[0].weight.shape[0] == 2 * n  # it itself still has all


# ---- optimisers --------------------------------------------------------------------------------------------


def gradients(seeds: list[int], width: int, steps: int) -> list[Tensor]:
    """Gradients of very different sizes, so that eps, bias correction and the averages all show."""
    scales = 10.0 ** torch.linspace(-6, 2, width)
    return [numbers(seeds, width, purpose=f"gradient {t}") * scales for t in range(steps)]


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
def test_rmsprop_is_tensorflows(eps: float, decay: float) -> None:
    """Against Stable-Baselines3's copy of TensorFlow's, and the formula in float64: eps inside the root."""
    seeds, width = [0, 1, 2], 40
    x = vector(seeds, width)
    start, ours = x.matrix.clone(), RMSProp(x, eps, decay)
    theirs = [torch.nn.Parameter(row.clone()) for row in start]
    optimisers = [RMSpropTFLike([p], lr=1e-2, alpha=decay, eps=eps) for p in theirs]
    exact, square = start.double().numpy(), np.ones((3, width))
    for grad in gradients(seeds, width, 20):
        ours.step(grad, 1e-2)
        for p, optimiser, g in zip(theirs, optimisers, grad, strict=True):
            p.grad = g
            optimiser.step()
        g = grad.double().numpy()
        square = decay * square + (1 - decay) * g**2
        exact -= 1e-2 * g / np.sqrt(square + eps)
    torch.testing.assert_close(x.matrix, torch.stack([p.detach() for p in theirs]), rtol=1e-6, atol=2e-7)
    np.testing.assert_allclose(x.matrix.numpy(), exact, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    "make", [lambda x: Adam(x, 1e-5), lambda x: RMSProp(x, 1e-5, 0.9)], ids=["adam", "rmsprop"]
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


# ---- initial weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_in, n_out", [(4, 64), (64, 64), (64, 3), (1, 7), (7, 1), (1, 1)])
@pytest.mark.parametrize("gain", [2**0.5, 0.01])
def test_orthogonal(n_in: int, n_out: int, gain: float) -> None:
    weight, bias = orthogonal(gain)(Streams(ALL, "init"), n_in, n_out)
    assert weight.shape == (10, n_in, n_out)
    assert bias.shape == (10, 1, n_out)
    assert weight.dtype == bias.dtype == torch.float32
    assert (bias == 0).all()
    w = weight.double()
    gram = w.mT @ w if n_in >= n_out else w @ w.mT
    torch.testing.assert_close(
        gram, gain**2 * torch.eye(min(n_in, n_out)).double().expand_as(gram), rtol=0, atol=1e-6
    )
    if n_in * n_out > 1:
        assert len({bits(row) for row in weight}) == 10


def test_orthogonal_is_uniform() -> None:
    """Signs and angles of 2 x 2 matrices are uniform: a raw QR decomposition would fix the signs."""
    weight, _ = orthogonal(1.0)(Streams(range(4000), "init"), 2, 2)
    angle = torch.atan2(weight[:, 1, 0], weight[:, 0, 0]).numpy()
    counts, _ = np.histogram(angle, 8, (-np.pi, np.pi))
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    turns = int((torch.linalg.det(weight) > 0).sum())
    assert scipy.stats.binomtest(turns, 4000).pvalue > 1e-3
    small, _ = orthogonal(1.0)(Streams(range(1000), "init"), 1, 1)
    assert scipy.stats.binomtest(int((small > 0).sum()), 1000).pvalue > 1e-3


@pytest.mark.parametrize("n_in, n_out", [(4, 64), (100, 33), (1, 50)])
def test_uniform_fan_in(n_in: int, n_out: int) -> None:
    """Uniform between +-1/sqrt(in), the bias too: the bounds of torch.nn.Linear's default."""
    weight, bias = uniform_fan_in(Streams(ALL, "init"), n_in, n_out)
    assert weight.shape == (10, n_in, n_out)
    assert bias.shape == (10, 1, n_out)
    bound = n_in**-0.5
    theirs = torch.nn.Linear(n_in, 20_000 // n_in)
    for tensor in (weight, bias, theirs.weight.detach(), theirs.bias.detach()):
        assert 0.9 * bound < tensor.abs().max() <= bound
    for k in range(3):
        sample = torch.cat([weight[k].flatten(), bias[k].flatten()]).numpy()
        assert scipy.stats.kstest(sample, scipy.stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert len({bits(row) for row in weight}) == 10


@pytest.mark.parametrize("bound", [0.003, 0.5, 2.0])
@pytest.mark.parametrize("n_in, n_out", [(4, 64), (100, 33), (1, 50)])
def test_uniform(n_in: int, n_out: int, bound: float) -> None:
    """Uniform between the bounds, whatever the widths, the bias too; a seed's numbers are its own."""
    weight, bias = uniform(bound)(Streams(ALL, "init"), n_in, n_out)
    assert weight.shape == (10, n_in, n_out)
    assert bias.shape == (10, 1, n_out)
    assert weight.dtype == bias.dtype == torch.float32
    for tensor in (weight, bias):
        assert 0.9 * bound < tensor.max() <= bound * (1 + 1e-6)
        assert 0.9 * bound < -tensor.min() <= bound * (1 + 1e-6)
        assert scipy.stats.kstest(tensor.flatten(), scipy.stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    together = torch.cat([weight, bias], 1)
    assert len(together.unique()) > 0.99 * together.numel()
    for k in range(3):
        sample = together[k].flatten().numpy()
        assert scipy.stats.kstest(sample, scipy.stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    alone = uniform(bound)(Streams([7], "init"), n_in, n_out)
    assert (bits(alone[0][0]), bits(alone[1][0])) == (bits(weight[7]), bits(bias[7]))
    assert len({bits(row) for row in weight}) == len({bits(row) for row in bias}) == 10


# ---- functions ---------------------------------------------------------------------------------------------

LARGE = [0.5, 20.0, 88.0, 100.0, 1e4, 1e30, float("inf")]
POINTS = [-x for x in reversed(LARGE)] + [-1e-3, -1e-8, 0.0, 1e-8, 1e-3, *LARGE]
REFERENCES: dict[Callable, Callable[[np.ndarray], np.ndarray]] = {
    softplus: lambda x: np.logaddexp(0.0, x),
    sigmoid: scipy.special.expit,
    tanh: np.tanh,
}
SLOPES: dict[Callable, Callable[[np.ndarray], np.ndarray]] = {
    softplus: scipy.special.expit,
    sigmoid: lambda x: scipy.special.expit(x) * scipy.special.expit(-x),
    tanh: lambda x: 1 - np.tanh(x) ** 2,
}


@pytest.mark.parametrize("function", SMOOTH, ids=lambda f: f.__name__)
def test_function_values(function: Callable[[Tensor], Tensor]) -> None:
    """Against float64, at large and infinite arguments too, with and without a gradient tape."""
    x = torch.cat([torch.tensor(POINTS), torch.linspace(-30, 30, 5001)])[None]
    expected = torch.from_numpy(REFERENCES[function](x.double().numpy()))
    y = function(x)
    torch.testing.assert_close(y.double(), expected, rtol=3e-7, atol=1e-7)
    with torch.no_grad():
        assert torch.equal(function(x), y)
    assert torch.equal(function(x.clone().requires_grad_()).detach(), y)
    assert function(torch.tensor([[torch.nan]])).isnan().all()


@pytest.mark.parametrize("function", SMOOTH, ids=lambda f: f.__name__)
def test_function_gradients(function: Callable[[Tensor], Tensor]) -> None:
    """The slope against float64, at large arguments too; first and second derivatives by differences."""
    points = [p for p in POINTS if np.isfinite(p) and p != 0]
    x = torch.cat([torch.tensor(points), torch.linspace(-30, 30, 5000)])[None].requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    expected = torch.from_numpy(SLOPES[function](x.detach().double().numpy()))
    torch.testing.assert_close(slope.double(), expected, rtol=1e-6, atol=3e-7)
    few = numbers([0, 1], 5).double().requires_grad_()
    assert torch.autograd.gradcheck(function, few)
    assert torch.autograd.gradgradcheck(function, few)


@pytest.mark.parametrize(
    "function",
    [
        tanh,
        sigmoid,
        softplus,
    ],
    ids=lambda f: f.__name__,
)
def test_function_gradient_at_zero(function: Callable[[Tensor], Tensor]) -> None:
    """A network with zero bias sees exact zeros."""
    x = torch.zeros(1, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    np.testing.assert_allclose(slope.numpy(), np.full((1, 2), SLOPES[function](np.zeros(1))[0]))


def test_standardise() -> None:
    """Mean 0 and deviation 1 of each seed's numbers by themselves, with n - 1 in the divisor."""
    x = numbers([0, 1, 2], 5, 3, 2) * torch.tensor([1e-3, 1.0, 1e3]).view(3, 1, 1, 1) + 7.0
    rows = x.double().numpy().reshape(3, -1)
    expected = (rows - rows.mean(1, keepdims=True)) / (rows.std(1, ddof=1, keepdims=True) + 1e-8)
    y = standardise(x)
    assert y.shape == x.shape
    np.testing.assert_allclose(y.numpy().reshape(3, -1), expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(y[1:].numpy().reshape(2, -1), expected[1:], rtol=1e-5, atol=1e-5)
    assert (standardise(torch.full((2, 9), 3.0)) == 0).all()
    few = numbers([4], 4).double()
    np.testing.assert_allclose(
        standardise(few, 0.5), (few - few.mean()) / (np.std(few.numpy(), ddof=1) + 0.5)
    )


# ---- random numbers ----------------------------------------------------------------------------------------

Draw = Callable[[Streams], Tensor]
DRAWS: list[Draw] = [
    lambda s: s.uniform(3),
    lambda s: s.normal(2, 3),
    lambda s: s.integers(5, 4),
    lambda s: s.normal(),
    lambda s: s.uniform(37),
    lambda s: s.permutation(11),
    lambda s: s.normal(50),
    lambda s: s.uniform(1, 1),
    lambda s: s.integers(1000, 2, 2),
    lambda s: s.normal(1),
]
BLOCK_SIZES = (1, 4, 7, 16, 4096)  # the draws above straddle all but the last, and some are larger


def test_streams_shapes_and_types() -> None:
    s = Streams([3, 4], "act")
    assert s.uniform(2, 5).shape == s.normal(2, 5).shape == s.integers(3, 2, 5).shape == (2, 2, 5)
    assert s.uniform().shape == (2,)
    assert s.permutation(7).shape == (2, 7)
    assert (s.uniform(1).dtype, s.normal(1).dtype) == (torch.float64, torch.float32)
    assert s.integers(3, 1).dtype == s.permutation(3).dtype == torch.int64


def test_streams_repeat() -> None:
    a, b = Streams([3, 4], "act"), Streams([3, 4], "act")
    for draw in DRAWS:
        assert torch.equal(draw(a), draw(b))


@pytest.mark.parametrize("block", BLOCK_SIZES)
def test_block_size_does_not_change_numbers(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small blocks, straddled by draws and smaller than one, against one block that holds everything."""
    expected = [draw(s) for s in [Streams([3, 4], "act")] for draw in DRAWS * 3]
    monkeypatch.setattr(seedwise._Blocks, "BLOCK", block)
    s = Streams([3, 4], "act")
    for i, draw in enumerate(DRAWS * 3):
        assert torch.equal(draw(s), expected[i])


def test_one_large_draw_is_many_small_ones() -> None:
    """With the true block size: 10000 numbers at once, or in threes."""
    a, b = Streams([3, 4], "act"), Streams([3, 4], "act")
    for kind in ("uniform", "normal"):
        large = getattr(a, kind)(9999)
        small = torch.cat([getattr(b, kind)(3) for _ in range(3333)], 1)
        assert torch.equal(large, small)
        assert torch.equal(getattr(a, kind)(5), getattr(b, kind)(5))


@pytest.mark.parametrize("block", BLOCK_SIZES)
@pytest.mark.parametrize("spent", [0, 1, 3, 5, 8, len(DRAWS)])
def test_streams_continue(block: int, spent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved in the middle of a block and loaded: in the same pack, for some rows, joined from two packs."""
    monkeypatch.setattr(seedwise._Blocks, "BLOCK", block)
    seeds = [3, 4, 5]
    whole, first, second = Streams(seeds, "act"), Streams([3, 4], "act"), Streams([5], "act")
    for draw in DRAWS[:spent]:
        for s in (whole, first, second):
            draw(s)
    saved = copy.deepcopy(whole.state_dict())
    assert all(len(value) == len(seeds) for value in saved.values())
    pieces = [copy.deepcopy(s.state_dict()) for s in (second, first)]
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in saved}
    expected = [draw(whole) for draw in DRAWS]

    for rows, state in (([0, 1, 2], saved), ([2, 0], saved), ([1], saved), ([2, 0, 1], joined)):
        into = Streams([seeds[r] for r in rows], "act")
        into.uniform(2)  # what it did before being loaded does not matter
        into.normal(1)
        take = rows if state is saved else [0, 1, 2]
        into.load_state_dict({name: value[take].copy() for name, value in state.items()})
        for i, draw in enumerate(DRAWS):
            assert torch.equal(draw(into), expected[i][rows])


def test_saving_does_not_disturb() -> None:
    a, b = Streams([3], "act"), Streams([3], "act")
    for draw in DRAWS:
        a.state_dict()
        assert torch.equal(draw(a), draw(b))


def test_normals_do_not_shift_uniforms() -> None:
    a, b = Streams([3], "act"), Streams([3], "act")
    a.normal(5000)
    assert torch.equal(a.uniform(9), b.uniform(9))
    b.uniform(5000)
    a.normal(4)
    b.normal(5004)
    assert torch.equal(a.normal(9), b.normal(9))


def test_streams_are_all_different() -> None:
    """Seeds, purposes, indices and kinds: no two streams share a number, and none correlate."""
    purposes = ("init", "act", "learn", "replay", "env", "eval")
    streams = [Streams([0, 1, 2], p) for p in purposes]
    streams += [Streams([0, 1, 2], "eval", *i) for i in ((1,), (2,), (1, 2), (2, 1), (1, 1))]
    uniforms, normals = (torch.cat([getattr(s, k)(1000) for s in streams]) for k in ("uniform", "normal"))
    starts = np.concatenate([s.state_dict()[f"{k}/words"] for s in streams for k in ("uniform", "normal")])
    assert len(np.unique(starts, axis=0)) == len(starts) == 2 * len(uniforms)
    assert len(uniforms.unique()) == uniforms.numel()
    rows = np.concatenate([scipy.stats.norm.ppf(uniforms.numpy()), normals.numpy()])
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / 1000**0.5


def test_index_zero_is_an_index() -> None:
    drawn = [Streams([1], "eval", *index).uniform(4) for index in ((), (0,), (0, 0))]
    assert not any(torch.equal(a, b) for a, b in combinations(drawn, 2))


def test_distributions() -> None:
    """Uniforms and normals are what they are called, for each seed."""
    s = Streams([0, 1, 2], "act")
    u, z = s.uniform(20_000), s.normal(20_000)
    assert u.min() >= 0
    assert u.max() < 1
    for k in range(3):
        assert scipy.stats.kstest(u[k].numpy(), "uniform").pvalue > 1e-3
        assert scipy.stats.kstest(z[k].numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("high", [1, 2, 7, 50])
def test_integers_are_uniform(high: int) -> None:
    drawn = Streams([0, 1, 2], "replay").integers(high, 20_000)
    assert drawn.min() >= 0
    assert drawn.max() == high - 1
    for k in range(3):
        counts = drawn[k].bincount(minlength=high).numpy()
        assert high == 1 or scipy.stats.chisquare(counts).pvalue > 1e-3


def test_integers_cost_one_draw_whatever_the_bound() -> None:
    a, b = Streams([3], "replay"), Streams([3], "replay")
    a.integers(3, 5)
    b.integers(1_000_000, 5)
    assert torch.equal(a.uniform(4), b.uniform(4))


def test_permutations() -> None:
    """Every number once for every seed, in an order of the seed's own, each order equally often."""
    s = Streams(ALL, "learn")
    order = s.permutation(257)
    assert (order.sort(1).values == torch.arange(257)).all()
    assert len({bits(row) for row in chain(order, s.permutation(257))}) == 20
    orders = torch.cat([s.permutation(3) for _ in range(600)])
    counts = (orders[:, 0] * 3 + orders[:, 1]).bincount(minlength=9).numpy()
    assert (counts[[0, 4, 8]] == 0).all()
    assert scipy.stats.chisquare(counts[counts > 0]).pvalue > 1e-3


def test_derived_seeds() -> None:
    """In range, and different for every seed, purpose and index."""
    indices = [(), *((i,) for i in range(1, 20)), *((i, j) for i in range(20) for j in range(1, 5))]
    derived = [
        derive_seed(s, p, *i) for s in (*range(10), 2**32 - 1) for p in ("env", "eval") for i in indices
    ]
    assert len(set(derived)) == len(derived)
    assert all(0 <= d < 2**63 for d in derived)
    assert max(derived) > 2**62
    assert derive_seed(7, "env", 3) == derive_seed(7, "env", 3)


def test_generator_state_goes_through_words() -> None:
    """PCG64 continues exactly, the half of a word that it keeps for 32-bit draws included."""
    a = np.random.Generator(np.random.PCG64(5))
    a.integers(0, 10, dtype=np.int32)
    assert a.bit_generator.state["has_uint32"] == 1
    b = np.random.Generator(np.random.PCG64(6))
    set_generator_words(b, generator_words(a))
    assert a.bit_generator.state == b.bit_generator.state
    assert (a.integers(0, 10, 9, dtype=np.int32) == b.integers(0, 10, 9, dtype=np.int32)).all()
    assert (a.standard_normal(9) == b.standard_normal(9)).all()
