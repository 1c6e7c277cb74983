"""Several networks per seed, networks as constants, and gradients of gradients."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from ascent.algorithms.seedwise import MLP, Adam, Parameters, Streams, orthogonal, tanh, uniform_fan_in
from tests.algorithms.seedwise.tools import (
    ACTIVATIONS,
    CREATE_GRAPH,
    SHAPES,
    TWICE,
    bits,
    check_close,
    exact_twin,
    network,
    numbers,
    plain,
    torch_grad,
)

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


# ---- gradients of gradients --------------------------------------------------------------------------------


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
