"""CUDA graphs: replay the tensor work of an update or of acting on a GPU."""

import gc
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ascent.algorithms.seedwise.contract import Batch

Input = Tensor | Batch | float


def captured(work: Callable[..., Any], device: str) -> Callable[..., Any]:
    """Return `work`, a function of tensors, numbers and a Batch; on a GPU, replay it as a CUDA graph.

    `work` may change tensors that stay in place (parameters, optimisers). On a GPU the numbers arrive as
    tensors, the Python code in `work` runs only while the graph is made, and the next call overwrites what
    the last one returned. Random numbers are inputs, so that a GPU draws the same numbers as a CPU.
    """
    return work if device == "cpu" else _Graphs(work, device)


class _Graphs:
    """One graph for each combination of input shapes."""

    def __init__(self, work: Callable[..., Any], device: str) -> None:
        self.work = work
        self.device = device
        self.graphs: dict[tuple[Any, ...], _Graph] = {}

    def __call__(self, *inputs: Input) -> Any:
        flat = _flat(inputs)
        shapes = tuple(getattr(x, "shape", ()) for x in flat)
        if shapes not in self.graphs:
            self.graphs[shapes] = _Graph(self.work, [_static(x, self.device) for x in inputs])
        return self.graphs[shapes](flat)


class _Graph:
    """`work` on inputs that stay in place: each call copies its arguments into them."""

    WARM_UP = 3  # calls that run normally, on a side stream, as PyTorch requires before a capture

    def __init__(self, work: Callable[..., Any], inputs: Sequence[Input]) -> None:
        self.work = work
        self.inputs = inputs
        self.flat = _flat(inputs)
        self.calls = 0
        self.stream = torch.cuda.Stream()
        self.graph = torch.cuda.CUDAGraph()

    def __call__(self, flat: Sequence[Tensor | float]) -> Any:
        for target, source in zip(self.flat, flat, strict=True):
            assert isinstance(target, Tensor)
            if isinstance(source, Tensor):
                target.copy_(source)
            else:
                target.fill_(source)
        self.calls += 1
        if self.calls <= self.WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                result = self.work(*self.inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return result
        if self.calls == self.WARM_UP + 1:
            gc.collect()
            gc.disable()  # freeing another graph's memory during this capture would abort it
            try:
                with torch.cuda.graph(self.graph):
                    self.result = self.work(*self.inputs)
            finally:
                gc.enable()
        self.graph.replay()
        return self.result


def _flat(inputs: Sequence[Input]) -> list[Tensor | float]:
    """List the tensors and numbers in the inputs, with each Batch replaced by its fields."""
    fields = [list(vars(x).values()) if isinstance(x, Batch) else [x] for x in inputs]
    return [x for row in fields for x in row if x is not None]


def _static(x: Input, device: str) -> Tensor | Batch:
    """Copy an input into tensors that stay in place."""
    if isinstance(x, Batch):
        return x.map(Tensor.clone)
    return x.clone() if isinstance(x, Tensor) else torch.tensor(x, device=device)
