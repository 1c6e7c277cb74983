"""Parameter matrices, layers and their gradients, against torch in float64."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Parameters,
    RMSProp,
    Streams,
    Vector,
    clip_grad_norm,
    orthogonal,
    standardise,
    tanh,
    uniform,
    uniform_fan_in,
)
from tests.algorithms.seedwise.tools import (
    ACTIVATIONS,
    ALL,
    BATCHES,
    CREATE_GRAPH,
    SHAPES,
    WIDTHS,
    bits,
    check_close,
    exact_twin,
    network,
    numbers,
    torch_grad,
    torch_twin,
)

# ---- parameters --------------------------------------------------------------------------------------------


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
def test_gradient_by_what_is_asked(
    sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor], either_path: str
) -> None:
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
        outputs = [net(x), frozen(x), frozen(source)]
        if either_path == "torch":
            outputs.append(net.composed(x, *(getattr(*slot) for slot in net.slots())))
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
