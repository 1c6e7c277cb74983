"""Layers, initialisers and multi-layer perceptrons with a leading seed axis."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from ascent import kernels
from ascent.algorithms.seedwise.numbers import tanh
from ascent.algorithms.seedwise.random import Streams

Initialiser = Callable[[Streams, int, int], tuple[Tensor, Tensor]]  # (streams, in, out) -> weight, bias
Slot = tuple[object, str]  # where a parameter is stored: an object and the name of its attribute


class Module(Protocol):
    """Anything with parameters."""

    def slots(self) -> list[Slot]:
        """List where the parameters are stored."""


# ---- initial weights


def orthogonal(gain: float) -> Initialiser:
    """Make W with orthogonal rows or columns times `gain`, bias 0 (Saxe et al. 2014, arXiv 1312.6120)."""

    def initialise(streams: Streams, n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
        normal = streams.normal(max(n_in, n_out), min(n_in, n_out)).cpu().numpy().astype(np.float64)
        q, r = np.linalg.qr(normal)  # one small decomposition per seed
        q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]  # makes q uniform over orthogonal matrices
        scaled = gain * (q if n_in >= n_out else q.transpose(0, 2, 1))
        weight = torch.from_numpy(scaled).float().contiguous().to(streams.device)
        return weight, torch.zeros(len(weight), 1, n_out, device=streams.device)

    return initialise


def uniform(bound: float) -> Initialiser:
    """Make weight and bias uniform in +-`bound`."""
    return lambda streams, n_in, n_out: _uniform(streams, n_in, n_out, 1 / bound)


def uniform_fan_in(streams: Streams, n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
    """Make weight and bias uniform in +-1/sqrt(in), the default of torch.nn.Linear."""
    return _uniform(streams, n_in, n_out, n_in**0.5)


def _uniform(streams: Streams, n_in: int, n_out: int, divisor: float) -> tuple[Tensor, Tensor]:
    numbers = (2 * streams.uniform(n_in + 1, n_out) - 1).float() / divisor
    return numbers[:, :n_in].contiguous(), numbers[:, n_in:].contiguous()


# ---- affine maps and their gradients


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W + b. (S, B, in), (S, in, out), (S, 1, out) -> (S, B, out).

    A width of 1 would become a matrix-vector product when S is 1, with other bits. An output of width 1 is
    therefore a sum of products, and an input of width 1 is padded to 2. A product with few outputs is
    computed transposed, in less than half the time, except for small batches: a batch of 1 would again be a
    width of 1.
    """
    n_in, n_out = weight.shape[1:]
    if n_out == 1:
        return (x * weight.view(-1, 1, n_in)).sum(-1, keepdim=True) + bias
    if n_in == 1:
        x = pad(x, (0, 1))
        weight = pad(weight, (0, 0, 0, 1))
    if n_out >= 16 or x.shape[1] < 16:
        return torch.baddbmm(bias, x, weight)
    return torch.baddbmm(bias.mT, weight.mT, x.mT).mT.contiguous()


class _Product(torch.autograd.Function):
    """x W by the kernels, with gradients of any order: (S, B, in), (S, in, out) -> (S, B, out)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return kernels.product(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight = ctx.needs_input_grad
        return (
            _Product.apply(grad, weight.mT) if of_x else None,
            _Product.apply(x.mT, grad) if of_weight else None,
        )


def _compiled_affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return what `_affine` does, without MKL: its bits differ between makers of processors."""
    return _Product.apply(x, weight) + bias


def _weight_grad(x: Tensor, grad: Tensor) -> Tensor:
    """Return x^T grad, the gradient of the weights of `_affine`: (S, in, out)."""
    n_in, n_out = x.shape[2], grad.shape[2]
    x = pad(x, (0, 1)) if n_in == 1 else x
    grad = pad(grad, (0, 1)) if n_out == 1 else grad
    transposed = n_out < 16 and x.shape[1] >= 16
    product = torch.bmm(grad.mT, x).mT if transposed else torch.bmm(x.mT, grad)
    return product[:, :n_in, :n_out]


def _input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """Return grad W^T, the gradient of the input of `_affine`: (S, B, in)."""
    n_in, n_out = weight.shape[1:]
    if n_out == 1:
        return grad * weight.view(-1, 1, n_in)
    if n_in == 1:
        return torch.bmm(grad, pad(weight, (0, 0, 0, 1)).mT)[..., :1]
    transposed = n_in < 32 and grad.shape[1] >= 16
    return torch.bmm(weight, grad.mT).mT.contiguous() if transposed else torch.bmm(grad, weight.mT)


class _Chain(torch.autograd.Function):
    """An MLP with a hand-written gradient: the faster order for each product, slopes applied in place."""

    @staticmethod
    def forward(ctx: Any, net: "MLP", x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.net = net
        ctx.compiled = net.compiled()
        ctx.save_for_backward(x, *parameters)
        if ctx.compiled:
            y, ctx.hidden = ctx.compiled.forward(x, keep=True)
            return y
        ctx.inputs = net.forward(x)
        return ctx.inputs.pop()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        _, *needed = ctx.needs_input_grad
        if torch.is_grad_enabled():  # a gradient of this gradient will be computed
            # Differentiate by aliases: x may depend on the parameters by a path outside this function.
            aliases = [t.view_as(t) for t in (x, *parameters)]
            sources = [t for t, need in zip(aliases, needed, strict=True) if need]
            grads = iter(torch.autograd.grad(ctx.net.composed(*aliases), sources, grad, create_graph=True))
            return None, *(next(grads) if need else None for need in needed)
        if ctx.compiled:
            grads, x_grad = ctx.compiled.backward(x, ctx.hidden, grad, any(needed[1:]), needed[0])
            return None, x_grad, *(grads or [None] * len(parameters))
        parameter_grads: list[Tensor] = []
        for i, (layer, y) in reversed(list(enumerate(zip(ctx.net.layers, ctx.inputs, strict=True)))):
            if any(needed[1:]):
                parameter_grads = [_weight_grad(y, grad), grad.sum(1, keepdim=True), *parameter_grads]
            if i or needed[0]:
                grad = _input_grad(grad, layer.weight)
            if i:
                ctx.net.slope_(grad, y)
        x_grad = grad if needed[0] else None
        return (
            (None, x_grad, *parameter_grads) if parameter_grads else (None, x_grad, *[None] * len(parameters))
        )


def _relu_slope_(grad: Tensor, y: Tensor) -> None:
    torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=grad)


def _tanh_slope_(grad: Tensor, y: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(grad, y, grad_input=grad)


# ---- modules


class Linear:
    """y = x W + b for every seed at once. (S, B, in) -> (S, B, out).

    With `copies` per seed, S * copies takes the place of S, the copies of a seed side by side.
    """

    weight: Tensor  # (S, in, out)
    bias: Tensor  # (S, 1, out)

    def __init__(self, streams: Streams, n_in: int, n_out: int, init: Initialiser, copies: int = 1) -> None:
        drawn = [init(streams, n_in, n_out) for _ in range(copies)]
        self.weight, self.bias = (torch.stack(x, 1).flatten(0, 1) for x in zip(*drawn, strict=True))

    def __call__(self, x: Tensor) -> Tensor:
        return _affine(x, self.weight, self.bias)

    def slots(self) -> list[Slot]:
        return [(self, "weight"), (self, "bias")]


class MLP:
    """Linear layers with `tanh` or `torch.relu_` between them. (S, ..., sizes[0]) -> (S, ..., sizes[-1]).

    With `copies` per seed, S * copies takes the place of S, the copies of a seed side by side.
    """

    def __init__(
        self,
        streams: Streams,
        sizes: Sequence[int],
        activation: Callable[[Tensor], Tensor],
        inits: Sequence[Initialiser],
        copies: int = 1,
    ) -> None:
        widths = zip(sizes[:-1], sizes[1:], inits, strict=True)
        self.layers = [Linear(streams, n_in, n_out, init, copies) for n_in, n_out, init in widths]
        self.sizes = tuple(sizes)
        self.activation = activation
        self._compiled: kernels.Perceptron | None = None
        self.slope_ = {tanh: _tanh_slope_, torch.relu_: _relu_slope_}[activation]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy keeps: not the addresses of these parameters."""
        return vars(self) | {"_compiled": None}

    def __call__(self, x: Tensor) -> Tensor:
        y = x if x.dim() == 3 else x.flatten(1, -2)  # (S, B, in)
        if torch.is_grad_enabled():
            y = _Chain.apply(self, y, *(getattr(*slot) for slot in self.slots()))
        else:
            compiled = self.compiled()
            y = compiled.forward(y, keep=False)[0] if compiled else self.forward(y)[-1]
        return y if x.dim() == 3 else y.view(*x.shape[:-1], -1)

    def compiled(self) -> kernels.Perceptron | None:
        """Return the same networks for the compiled kernels; None where torch computes them."""
        first = self.layers[0].weight
        if not kernels.enabled() or first.is_cuda or len(self.layers) > kernels.MAX_LAYERS:
            return None
        if self._compiled is None or self._compiled.layers[0][0] is not first:  # the parameters have moved
            layers = [(layer.weight, layer.bias) for layer in self.layers]
            self._compiled = kernels.Perceptron(layers, self.activation is torch.relu_)
        return self._compiled

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the input of each layer, and the output. (S, B, in)."""
        values = [x]
        for layer in self.layers[:-1]:
            values.append(self.activation(layer(values[-1])))
        return [*values, self.layers[-1](values[-1])]

    def composed(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return the output for these weights and biases by plain, twice differentiable operations."""
        affine = _compiled_affine if self.compiled() else _affine
        *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
        for weight, bias in hidden:
            x = self.activation(affine(x, weight, bias))
        return affine(x, *last)

    def constant(self, every: int = 1) -> "MLP":
        """Return the network in the same memory, but with parameters that receive no gradient.

        `every` = n keeps only the first of n copies per seed.
        """
        net = copy.copy(self)
        net.layers = [copy.copy(layer) for layer in self.layers]
        for layer in net.layers:
            layer.weight = layer.weight.detach()[::every]
            layer.bias = layer.bias.detach()[::every]
        return net

    def slots(self) -> list[Slot]:
        return [slot for layer in self.layers for slot in layer.slots()]


class Vector:
    """A free parameter of n numbers per seed, such as a state-independent log standard deviation."""

    def __init__(self, streams: Streams, n: int, value: float) -> None:
        self.value = torch.full((len(streams.seeds), n), value, device=streams.device)  # (S, n)

    def slots(self) -> list[Slot]:
        return [(self, "value")]
