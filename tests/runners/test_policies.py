"""A policy's file is enough to act: the code in docs/policies.md, run on policies of every system."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ascent.algorithms.seedwise import Streams
from ascent.records.checkpoints import pack_arrays
from ascent.runners.play import to_env
from ascent.runners.trainer import Trainer
from tests.small import small_cell, systems_and_tasks

DOCS = Path(__file__).parents[2] / "docs" / "policies.md"


@pytest.fixture(scope="module")
def documented() -> dict[str, Any]:
    """The functions of the page."""
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code.partition("\nabout, arrays = ")[0], names)
    return names


@pytest.mark.parametrize("system,task", systems_and_tasks())
def test_numpy_acts_alike(system: str, task: str, documented: dict[str, Any], tmp_path: Path) -> None:
    """Greedy actions of two seeds after some updates, for observations of an episode."""
    trainer = Trainer(small_cell(system, task, normalise=True), [3, 4])
    while not trainer.updates:
        trainer.advance()
    obs = np.random.default_rng(0).normal(size=(2, 6, trainer.obs.shape[-1])).astype(np.float32)
    action, _ = trainer.agent.act(torch.from_numpy(obs), Streams([3, 4], "eval", 0), False, 1.0, None)
    if system == "rpc":  # the page says that z is its mean there
        action = trainer.agent.bounds.scale(trainer.agent.preference(torch.from_numpy(obs)).tanh())
    _, expected = to_env(action.detach(), trainer.spec)
    for row in (0, 1):
        path = tmp_path / "policy.npz"
        path.write_bytes(pack_arrays(trainer.policy(row)))
        about, arrays = documented["read"](path)
        assert about["task"] == task
        for seen, wanted in zip(obs[row], expected[row], strict=True):
            parts = [(seen[slice(*agent["observation"])], agent) for agent in about["agents"]]
            actions = [documented["act"](part, agent, arrays) for part, agent in parts]
            np.testing.assert_allclose(np.hstack(actions), wanted, rtol=1e-4, atol=1e-5)
