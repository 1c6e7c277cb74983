"""Training on a GPU, where there is one: the CPU's numbers up to rounding, and exact resumption."""

import json
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import numpy as np
import pytest
import torch

from ascent.algorithms import SYSTEMS
from ascent.records.errors import InputError
from ascent.runners.resolve import resolve
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from tests.small import results, run_of, small_cell, statuses, systems_and_tasks

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
SEEDS = [0, 1, 2]
OFF_POLICY = ("ddpg", "td3", "sac", "sac-fixed", "rpc")
# Of parameters that 100 updates move by up to 4e-2. Rounding flips a ReLU or the smaller critic now and then,
# and Adam makes whole steps of it: on the CPU, with initial weights changed by 1e-7 of themselves, one number
# in a hundred ends up to 1e-4 away and single ones 5e-3.
NEARLY_ALL, ALL = 5e-4, 1e-2


@pytest.mark.parametrize("system", OFF_POLICY)
def test_agrees_with_the_cpu(system: str) -> None:
    """The same batches and the same noise on both: parameters and targets after 100 updates, TF32 off."""
    torch.set_float32_matmul_precision("highest")
    cell = resolve(system, "Hopper-v5", overrides={"learning_starts": 500}, steps=1000)
    cpu, gpu = Trainer(cell, SEEDS), Trainer(cell, SEEDS, "cuda")
    while cpu.step < 300:  # before the first update
        cpu.advance()
    for _ in range(100):
        batch = cpu.storage.sample(cpu.replay_rng)
        for trainer in (cpu, gpu):  # each has its own streams, with the same numbers
            moved = batch.map(lambda x: x.to(trainer.device))
            trainer.agent.update(moved, trainer.learn_rng, 0.0)
    for name, ours in cpu.learner().items():
        if "params/" in name or "target/" in name:
            difference = np.abs(gpu.learner()[name] - ours)
            assert np.quantile(difference, 0.99) < NEARLY_ALL, name
            assert difference.max() < ALL, name


@pytest.mark.parametrize("pair", systems_and_tasks(), ids="-".join)
def test_every_system_trains(pair: tuple[str, str], tmp_path: Path) -> None:
    """`--device cuda` for every algorithm, twice the same bytes; the record names device and packing."""
    cell = small_cell(*pair)
    for out in ("once", "again"):
        assert train(cell, SEEDS, tmp_path / out, "cuda")
    assert statuses(cell, tmp_path / "once", SEEDS) == ["done"] * 3
    assert results(cell, tmp_path / "once", SEEDS) == results(cell, tmp_path / "again", SEEDS)
    record = json.loads((cell.folder(tmp_path / "once") / "seed-0" / "run.json").read_text())
    assert torch.cuda.get_device_name() in record["attempts"][0]["device"]
    assert record["attempts"][0]["pack"] == SEEDS


@pytest.mark.parametrize("system", SYSTEMS)
def test_resumes_exactly(system: str, tmp_path: Path) -> None:
    """Stopped three times and resumed on the same device: the bytes of a run never interrupted."""
    task = next(task for name, task in systems_and_tasks() if name == system)
    cell = small_cell(system, task, steps=200)
    assert train(cell, SEEDS, tmp_path / "whole", "cuda")
    for stop_after in (31, 17, 29):
        stop = partial(next, chain(repeat(False, stop_after), repeat(True)))
        assert not train(cell, SEEDS, tmp_path / "cut", "cuda", 0.0, stop)
    assert train(cell, SEEDS, tmp_path / "cut", "cuda")
    assert results(cell, tmp_path / "cut", SEEDS) == results(cell, tmp_path / "whole", SEEDS)


def test_not_resumed_on_another_device(tmp_path: Path) -> None:
    """A checkpoint of a GPU is no exact state of a run on the CPU."""
    cell = small_cell("sac", "Pendulum-v1")
    train(cell, [0], tmp_path, "cuda", 0.0, partial(next, chain(repeat(False, 40), repeat(True))))
    assert run_of(cell, 0, tmp_path).checkpoints.steps()
    with pytest.raises(InputError, match="cannot be resumed exactly"):
        train(cell, [0], tmp_path, "cpu")
