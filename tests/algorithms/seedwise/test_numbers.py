"""Elementwise functions and their gradients, against float64."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor

from ascent.algorithms.seedwise import exp, logarithm, root, sigmoid, softplus, standardise, tanh
from tests.algorithms.seedwise.tools import ODD, SMOOTH, check_packing, numbers

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


@pytest.mark.usefixtures("either_path")
def test_exponential_logarithm_and_root() -> None:
    """Against float64, first and second derivatives by differences, and the same bits in every pack."""
    x = torch.linspace(-80, 80, 5001)[None]
    torch.testing.assert_close(exp(x).double(), x.double().exp(), rtol=4e-7, atol=0.0)
    positive = exp(x)
    torch.testing.assert_close(logarithm(positive).double(), positive.double().log(), rtol=4e-7, atol=1e-7)
    torch.testing.assert_close(root(positive).double(), positive.double().sqrt(), rtol=2e-7, atol=0.0)
    ends = torch.tensor([[-torch.inf, torch.inf, 0.0, torch.nan]])
    assert torch.equal(exp(ends).nan_to_num(7.0), torch.tensor([[0.0, torch.inf, 1.0, 7.0]]).nan_to_num(7.0))
    assert torch.equal(logarithm(ends[:, 1:3]), torch.tensor([[torch.inf, -torch.inf]]))
    few = numbers([0, 1], 5).double().requires_grad_()
    for function in (exp, lambda y: logarithm(y.abs() + 0.1)):
        assert torch.autograd.gradcheck(function, few)
        assert torch.autograd.gradgradcheck(function, few)

    def compute(seeds: list[int]) -> dict[str, Tensor]:
        found = {}
        for width in ODD:
            y = numbers(seeds, 3, width)
            values = {"exp": exp(y), "log": logarithm(y.abs()), "root": root(y.abs())}
            turned = {"turned exp": exp(y.mT), "turned log": logarithm(y.abs().mT)}
            found |= {f"{name} of {width}": value for name, value in (values | turned).items()}
        return found

    check_packing(compute)


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
