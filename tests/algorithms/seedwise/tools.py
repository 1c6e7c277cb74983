"""Packs of seeds, random numbers, and reference networks for the tests of seedwise."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from ascent.algorithms.seedwise import (
    MLP,
    Parameters,
    Streams,
    Vector,
    sigmoid,
    softplus,
    tanh,
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


PLAIN = {tanh: torch.tanh, torch.relu_: torch.relu}
TWICE = [(3, 5, 2), (1, 1), (2, 1, 3), (4, 20, 1), (1, 33, 16), (17, 7, 33, 2)]


def plain(theta: Tensor, x: Tensor, sizes: tuple[int, ...], activation: Callable[[Tensor], Tensor]) -> Tensor:
    """The output (B, out) as a function of one network's row of numbers."""
    for n_in, n_out in pairwise(sizes):
        weight, bias, theta = theta.split([n_in * n_out, n_out, len(theta) - (n_in + 1) * n_out])
        x = x @ weight.view(n_in, n_out) + bias
        x = PLAIN[activation](x) if len(theta) else x
    return x
