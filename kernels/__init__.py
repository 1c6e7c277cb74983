"""Compiled kernels for networks on a CPU; README.md says what they promise.

`enabled` says whether this process uses them: if they are built, and unless ASCENT_KERNELS=off.
"""

import ctypes
import os
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ascent.kernels.build import LEVELS, library, unavailable

VERSION = 2  # raise it when a change here changes results
MAX_LAYERS = 8
NEEDED = {  # by level: the processor's flags without which the library does not run
    "x86_64_v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl", "avx2", "fma", "bmi2"},
    "x86_64_v3": {"avx2", "fma", "bmi2"},
    "generic": set(),
}


class _Network(ctypes.Structure):
    """Network in network.h."""

    _fields_ = [
        ("layers", ctypes.c_int32),
        ("relu", ctypes.c_int32),
        ("sizes", ctypes.c_int32 * (MAX_LAYERS + 1)),
        ("weight_step", ctypes.c_int64 * MAX_LAYERS),
        ("bias_step", ctypes.c_int64 * MAX_LAYERS),
        ("weight", ctypes.c_void_p * MAX_LAYERS),
        ("bias", ctypes.c_void_p * MAX_LAYERS),
    ]


class _Adam(ctypes.Structure):
    """Adam in optimiser.h."""

    _fields_ = [(name, ctypes.c_double) for name in ("learning_rate", "beta1", "beta2", "eps")]


class _Objective(ctypes.Structure):
    """Objective in ppo.h."""

    _fields_ = [
        ("adam", _Adam),
        *((name, ctypes.c_float) for name in ("clip", "value_coef", "entropy_coef", "max_grad_norm")),
        ("huber_delta", ctypes.c_float),
        *((name, ctypes.c_int32) for name in ("clip_value", "standardise", "discrete", "separate_norms")),
    ]


class _Columns(ctypes.Structure):
    """Columns in ppo.h."""

    _fields_ = [
        (name, ctypes.c_void_p)
        for name in ("policy_obs", "value_obs", "action", "old_logp", "advantage", "ret", "old_value")
    ]


# The functions of kernels.cpp: p is a pointer, n an int64.
SIGNATURES = {
    "mlp_forward": "pnnppp",
    "mlp_sample": "pnnppp",
    "mlp_backward": "pnnppppp",
    "adam_step": "pnnnpppp",
    "ppo_steps": "pppnnnnppnpppp",
    "elementary": "nnp",
}


@cache
def _library() -> ctypes.CDLL | None:
    """Load the library for this processor; None if there is none, or with ASCENT_KERNELS=off."""
    if os.environ.get("ASCENT_KERNELS") == "off":
        return None
    flags = _processor_flags()
    for level in LEVELS.get(platform.machine(), ()):
        path = Path(__file__).with_name(library(level))
        if NEEDED[level] <= flags and path.exists():
            return load(path)
    return None


def load(path: Path) -> ctypes.CDLL:
    """Load a library that `build` made."""
    loaded = ctypes.CDLL(str(path))
    for name, kinds in SIGNATURES.items():
        function = getattr(loaded, name)
        function.errcheck = _check
        function.argtypes = [ctypes.c_void_p if kind == "p" else ctypes.c_int64 for kind in kinds]
    return loaded


def _check(out_of_memory: int, *_: object) -> None:
    if out_of_memory:
        raise MemoryError("the kernels cannot get the memory that they need")


def _processor_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.split(":")[1].split() for line in lines if line.startswith("flags")), []))


def enabled() -> bool:
    """Return whether this process uses the kernels."""
    return _library() is not None


def missing() -> str | None:
    """Return one line if torch computes although nobody turned the kernels off; else None."""
    if enabled() or os.environ.get("ASCENT_KERNELS") == "off":
        return None
    return unavailable() or "the kernels are not built: run `python kernels/build.py`"


def _use() -> ctypes.CDLL:
    loaded = _library()
    assert loaded is not None, "the kernels are not built"
    return loaded


# ---- multi-layer perceptrons


class Perceptron:
    """The N networks of one `MLP`: weights (N, in, out) and biases (N, 1, out), which stay in place."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]], relu: bool) -> None:
        sizes = [layers[0][0].shape[1], *(weight.shape[2] for weight, _ in layers)]
        self.layers = layers
        self.n_in, self.n_out, self.units = sizes[0], sizes[-1], sum(sizes[1:-1])
        self.networks = len(layers[0][0])
        self.struct = shape(sizes, relu)
        for i, (weight, bias) in enumerate(layers):
            assert weight[0].is_contiguous() and bias[0].is_contiguous()
            self.struct.weight[i], self.struct.bias[i] = weight.data_ptr(), bias.data_ptr()
            self.struct.weight_step[i], self.struct.bias_step[i] = weight.stride(0), bias.stride(0)
        self.pointer = ctypes.byref(self.struct)

    def forward(self, x: Tensor, keep: bool) -> tuple[Tensor, Tensor | None]:
        """Return the outputs (N, B, out) for x (N, B, in), and if `keep` the hidden units for `backward`."""
        x = x.contiguous()
        n, rows = self.networks, x.shape[1]
        out = torch.empty(n, rows, self.n_out)
        hidden = torch.empty(n, rows * self.units) if keep else None
        kept = hidden.data_ptr() if hidden is not None else None
        _use().mlp_forward(self.pointer, n, rows, x.data_ptr(), kept, out.data_ptr())
        return out, hidden

    def sample(self, x: Tensor, chance: Tensor) -> Tensor:
        """Return samples (N, B) int64 from the softmax of the outputs, by uniform `chance` (N, B) float64."""
        x, chance = x.contiguous(), chance.contiguous()
        action = torch.empty(chance.shape, dtype=torch.int64)
        pointers = (tensor.data_ptr() for tensor in (x, chance, action))
        _use().mlp_sample(self.pointer, self.networks, x.shape[1], *pointers)
        return action

    def backward(
        self, x: Tensor, hidden: Tensor, out_grad: Tensor, of_parameters: bool, of_x: bool
    ) -> tuple[list[Tensor] | None, Tensor | None]:
        """Return the gradients of weights and biases, and of x, if asked for, from that of the outputs."""
        x, out_grad = x.contiguous(), out_grad.contiguous()
        n, rows = self.networks, x.shape[1]
        shapes = [tensor.shape[1:] for layer in self.layers for tensor in layer]
        counts = [part.numel() for part in shapes]
        grad = torch.empty(n, sum(counts)) if of_parameters else None
        x_grad = torch.empty(n, rows, self.n_in) if of_x else None
        _use().mlp_backward(
            self.pointer,
            n,
            rows,
            x.data_ptr(),
            hidden.data_ptr(),
            out_grad.data_ptr(),
            grad.data_ptr() if grad is not None else None,
            x_grad.data_ptr() if x_grad is not None else None,
        )
        if grad is None:
            return None, x_grad
        parts = zip(grad.split(counts, 1), shapes, strict=True)
        return [part.view(n, *part_shape) for part, part_shape in parts], x_grad


def shape(sizes: Sequence[int], relu: bool) -> _Network:
    """Return a network of some widths (inputs, hidden units, outputs), as yet without parameters."""
    struct = _Network(layers=len(sizes) - 1, relu=relu)
    struct.sizes[: len(sizes)] = list(sizes)
    return struct


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return the matrix products (N, rows, columns) of a (N, rows, depth) and b (N, depth, columns)."""
    zero = torch.zeros(len(b), 1, b.shape[2])
    return Perceptron([(b.contiguous(), zero)], relu=False).forward(a, keep=False)[0]


# ---- optimisers


def adam_step(
    x: Tensor,
    m: Tensor,
    v: Tensor,
    grad: Tensor,
    t: int,
    learning_rate: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """Take step t of Adam on the parameters x (S, P); t counts from 1."""
    assert x.is_contiguous() and m.is_contiguous() and v.is_contiguous()
    adam = _Adam(learning_rate, *betas, eps)
    grad = grad.contiguous()  # held by name: a temporary copy would be freed before the call
    pointers = (tensor.data_ptr() for tensor in (x, m, v, grad))
    _use().adam_step(ctypes.byref(adam), t, *x.shape, *pointers)


class ClippedSteps:
    """Adam's steps on the clipped objective of PPO and MAPPO: the loss, its gradient and the optimiser.

    The parameters (S, P) are the policy's, its log standard deviations unless actions are discrete, and the
    value network's.
    """

    def __init__(
        self,
        policy: Sequence[int],
        value: Sequence[int],
        relu: bool,
        discrete: bool,
        *,
        adam_eps: float,
        clip: float,
        clip_value: bool,
        standardise: bool,
        value_coef: float,
        entropy_coef: float,
        max_grad_norm: float,
        separate_norms: bool = False,
        huber_delta: float = 0.0,
    ) -> None:
        self.networks = [shape(policy, relu), shape(value, relu)]
        self.objective = _Objective(
            _Adam(0.0, 0.9, 0.999, adam_eps),
            clip,
            value_coef,
            entropy_coef,
            max_grad_norm,
            huber_delta,
            clip_value,
            standardise,
            discrete,
            separate_norms,
        )

    def __call__(
        self,
        parameters: Tensor,
        m: Tensor,
        v: Tensor,
        t: int,
        learning_rate: float,
        order: Tensor,
        size: int,
        *columns: Tensor,
    ) -> Tensor:
        """Take the steps after the t-th on minibatches of `size` rows, and return the mean metrics (S, 6).

        `order` (S, steps * size) int64 has the rows of all minibatches. The columns are (S, n, ...):
        observations of policy and value network, action, old log density, advantage, target of the value
        network, and its old value.
        """
        order, columns = order.contiguous(), tuple(column.contiguous() for column in columns)
        self.objective.adam.learning_rate = learning_rate
        metrics = torch.empty(len(order), 6, dtype=torch.float64)
        pointers = _Columns(*(column.data_ptr() for column in columns))
        _use().ppo_steps(
            ctypes.byref(self.objective),
            *map(ctypes.byref, self.networks),
            len(order),
            columns[0].shape[1],
            order.shape[1] // size,
            size,
            order.data_ptr(),
            ctypes.byref(pointers),
            t,
            *(tensor.data_ptr() for tensor in (parameters, m, v)),
            metrics.data_ptr(),
        )
        torch.autograd.graph.increment_version(parameters)  # so that autograd refuses graphs of the old ones
        return metrics.float()
