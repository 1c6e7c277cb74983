"""How a policy acts without exploring, as steps that anyone can repeat without this project.

| step      | y, given x                                                 | arguments                       |
|-----------|------------------------------------------------------------|---------------------------------|
| normalise | clip((x - mean) / sqrt(variance + epsilon), -bound, bound) | mean, variance, epsilon, bound  |
| dense     | activation(x weight + bias)                                | weight, bias, activation        |
| first     | the first n numbers of x                                   | n                               |
| squash    | bound * tanh(x / bound)                                    | bound                           |
| softmax   | the softmax of each part of x, one after another           | sizes: the lengths of the parts |
| scale     | middle + half * x                                          | middle, half                    |
| clip      | x within low and high                                      | low, high                       |
| argmax    | the index of the largest number of x                       |                                 |

An activation is `none`, `tanh` or `relu`. Tensors have the seed axis first, as everywhere; those of
`scale` have none.
"""

from dataclasses import dataclass, field
from typing import Any

import torch

from ascent.algorithms.seedwise.networks import MLP


@dataclass(frozen=True)
class Step:
    """A step of acting: its name in the table above, and its arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


def network(net: MLP) -> list[Step]:
    """Return the steps of a network, one per layer."""
    hidden = "relu" if net.activation is torch.relu_ else "tanh"
    activations = [hidden] * (len(net.layers) - 1) + ["none"]
    return [
        Step("dense", {"weight": layer.weight, "bias": layer.bias, "activation": activation})
        for layer, activation in zip(net.layers, activations, strict=True)
    ]


def squash(bound: float = 1.0) -> Step:
    """Return the step that maps numbers into (-bound, bound)."""
    return Step("squash", {"bound": bound})
