"""What a GPU replays as a graph: traced here on the CPU, where a graph freezes the same things.

torch's `make_fx` records the operations of a function of tensors, as a capture does: Python numbers that
change, decisions on values and random numbers drawn inside would be frozen or refused. Training by replaying
such recordings must give the bits of training without them.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ascent.algorithms import SYSTEMS, heads
from ascent.algorithms.seedwise import Batch, Replay, networks
from ascent.algorithms.seedwise.graphs import _flat, _static
from ascent.runners.trainer import Trainer
from tests.small import KINDS, kind_of, others_slow, small_cell, systems_and_tasks

CAPTURED = {"ppo", "dqn", "ddpg", "td3", "sac", "sac-fixed", "rpc", "maddpg", "iddpg", "mappo", "ippo"}
PAIRS = [pair for pair in systems_and_tasks(KINDS) if pair[0] in CAPTURED]


class Recording:
    """A recording in place of a CUDA graph: the first call runs as it is, the second records."""

    made = 0

    def __init__(self, work: Callable[..., object]):
        self.work, self.graphs, self.calls = work, {}, {}

    def __call__(self, *inputs: Tensor | Batch | float) -> object:
        # Numbers in double precision: single, as on a GPU, would round learning rates.
        fixed = [
            torch.tensor(x, dtype=torch.float64) if isinstance(x, float) else _static(x, "cpu")
            for x in inputs
        ]
        flat = _flat(fixed)
        shapes = tuple(x.shape for x in flat)
        self.calls[shapes] = self.calls.get(shapes, 0) + 1
        if self.calls[shapes] == 1:
            return self.work(*fixed)
        if shapes in self.graphs:
            graph, make = self.graphs[shapes]
            with torch.no_grad():
                return make(graph(*flat))
        kept = {}

        def flattened(*flat: Tensor) -> list[Tensor]:
            left = iter(flat)
            again = [
                Batch(*[None if v is None else next(left) for v in vars(x).values()])
                if isinstance(x, Batch)
                else next(left)
                for x in fixed
            ]
            result = self.work(*again)
            if isinstance(result, dict):
                kept["make"] = lambda values, names=tuple(result): dict(zip(names, values, strict=True))
                values = list(result.values())
            elif isinstance(result, tuple):
                kept["make"], values = tuple, list(result)
            else:
                kept["make"] = lambda values: values[0] if values else None
                values = [] if result is None else [result]
            kept["values"] = [value.detach().clone() for value in values]
            return values

        self.graphs[shapes] = make_fx(flattened)(*flat), kept["make"]
        Recording.made += 1
        return kept["make"](kept["values"])


@pytest.mark.usefixtures("torch_only")
@pytest.mark.parametrize(("system", "task"), others_slow(PAIRS, kind_of))
def test_replaying_is_training(system: str, task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every update and every action by replayed recordings: the same learner, the same metrics."""
    module = SYSTEMS[system].module()
    for file in (networks, heads, module):
        if hasattr(file, "tanh"):  # as on a GPU; numpy's cannot be recorded
            monkeypatch.setattr(file, "tanh", torch.tanh)
    cell = small_cell(system, task, steps=300)
    plain = Trainer(cell, [0, 1])
    monkeypatch.setattr(module, "captured", lambda work, device: Recording(work))
    made = Recording.made
    recorded = Trainer(cell, [0, 1])
    while plain.updates < 9:
        plain.advance()
        recorded.advance()
    assert plain.step <= cell.steps and Recording.made > made
    assert recorded.digests() == plain.digests()
    assert (recorded.take_metrics() == plain.take_metrics()).all()


def test_every_replay_algorithm_is_captured() -> None:
    """A system that learns from replay, where a step is an update, is in the list above."""
    for system, task in systems_and_tasks(KINDS):
        agent = Trainer(small_cell(system, task), [0]).agent
        assert (system in CAPTURED) >= isinstance(agent.experience, Replay)
