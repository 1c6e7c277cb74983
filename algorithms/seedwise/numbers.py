"""Elementwise functions and statistics whose bits do not depend on packing."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ascent import kernels


def sqrt(x: Tensor) -> Tensor:
    """Return the square root, without gradient. On the CPU numpy's: torch's is slow on denormal numbers."""
    return torch.sqrt(x) if x.is_cuda else torch.from_numpy(np.sqrt(x.numpy()))


def _by_numpy(x: Tensor) -> bool:
    """Return whether numpy computes an elementary function: where the kernels compute networks.

    Torch's would take MKL's, whose bits depend on the processor's maker.
    """
    return not x.is_cuda and kernels.enabled()


def root(x: Tensor) -> Tensor:
    """Return the square root, without gradient, for what networks are fed with."""
    return sqrt(x) if _by_numpy(x) else torch.sqrt(x)


def _exp(x: Tensor) -> Tensor:
    with np.errstate(over="ignore"):  # infinity, as torch's, without a warning
        return torch.from_numpy(np.exp(x.detach().contiguous().numpy()))


class _Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = _exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return grad * y


class _Logarithm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.from_numpy(np.log(x.detach().contiguous().numpy()))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad / x


def exp(x: Tensor) -> Tensor:
    """Return e^x."""
    if not _by_numpy(x):
        return torch.exp(x)
    return _Exp.apply(x) if torch.is_grad_enabled() else _exp(x)


def logarithm(x: Tensor) -> Tensor:
    """Return the natural logarithm."""
    return _Logarithm.apply(x) if _by_numpy(x) else torch.log(x)


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.from_numpy(np.tanh(x.detach().numpy()))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, y)


def tanh(x: Tensor) -> Tensor:
    """Return the hyperbolic tangent. On the CPU numpy's, six times as fast as torch's (measured on Zen 4)."""
    if x.is_cuda:
        return torch.tanh(x)
    if torch.is_grad_enabled():
        return _Tanh.apply(x)
    return torch.from_numpy(np.tanh(x.detach().numpy()))


def softplus(x: Tensor) -> Tensor:
    """Return log(1 + exp(x)), without overflow."""
    return torch.log1p(exp(-x.abs())) + torch.maximum(x, torch.zeros_like(x))  # slope 1/2 at 0


def sigmoid(x: Tensor) -> Tensor:
    """Return 1 / (1 + exp(-x))."""
    return exp(-softplus(-x))


def standardise(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Shift each seed's numbers (S, ...) to mean 0 and scale them to standard deviation 1 (divisor n - 1)."""
    flat = x.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + eps)).view(x.shape)
