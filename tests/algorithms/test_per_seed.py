"""Agents of ordinary torch modules: the guarantees as bytes, what is saved, and what is refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Streams
from ascent.records import policy
from ascent.records.cell import Cell, Evaluation
from ascent.records.errors import InputError
from ascent.runners import conform_algorithm as conform
from ascent.runners import own, policies
from ascent.runners.resolve import make_agent, resolve
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from tests.small import rest_slow

TEMPLATE = own.TEMPLATES / "torch_nn.py"
SMALL = {"envs": 2, "steps": 8, "width": 8}
# Deep Q-learning, for what the template has not: replay, a target, dropout, batch normalisation, RMSProp with
# momentum, a learner that is a module itself, a list of modules, a counter and running moments.
Q_LEARNING = """
import copy
from dataclasses import dataclass
import torch
from torch import nn
from ascent.algorithms.per_seed import PerSeed
from ascent.algorithms.seedwise import Replay

@dataclass(frozen=True)
class Config:
    envs: int = 1

class Learner(nn.Module):
    def __init__(self, config, observation_space, action_space):
        super().__init__()
        self.experience = Replay(envs=1, capacity=60, batch=8, starts=20, every=2, updates=1)
        self.body = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.1))
        self.heads = [nn.Linear(8, 2)]
        self.target = copy.deepcopy(nn.ModuleList([self.body, *self.heads]))
        parameters = [*self.body.parameters(), *self.heads[0].parameters()]
        self.optimiser = torch.optim.RMSprop(parameters, lr=1e-2, momentum=0.9)
        self.updates, self.mean = 0, torch.zeros(4)

    def q(self, obs, training):
        self.body.train(training)
        return self.heads[0](self.body(obs - self.mean))

    def act(self, obs, explore, progress):
        if explore and torch.rand(()) < 0.2:
            return torch.randint(2, obs.shape[:1])
        return self.q(obs, False).argmax(-1)

    def update(self, batch, progress):
        self.updates += 1
        self.mean += (batch.obs.mean(0) - self.mean) / self.updates
        self.optimiser.param_groups[0]["lr"] *= 0.99
        with torch.no_grad():
            self.target.eval()
            following = self.target[1](self.target[0](batch.next_obs - self.mean)).amax(-1)
        wanted = batch.reward + 0.9 * (1 - batch.terminated) * following
        found = self.q(batch.obs, True).gather(-1, batch.action[:, None]).squeeze(-1)
        loss = (found - wanted).square().mean()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        if self.updates % 5 == 0:
            self.target.load_state_dict(nn.ModuleList([self.body, *self.heads]).state_dict())
        return {"loss": loss}

class Agent(PerSeed):
    Learner = Learner
"""


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    for name in set(SYSTEMS) - own.SUITE:
        del SYSTEMS[name]


def cell_of(text: str, folder: Path, task: str = "CartPole-v1", steps: int = 160) -> Cell:
    path = folder / "mine.py"
    path.write_text(text)
    known = SMALL if "width" in text else {}
    return resolve(str(path), task, overrides=known, steps=steps, evaluation=Evaluation(2, 1))


@pytest.mark.parametrize("case", rest_slow(["replay", "discrete", "continuous"]))
def test_the_bytes_are_the_same(case: str, tmp_path: Path) -> None:
    """Twice, in any pack, after a kill, and beside a seed that diverges; and every parameter moves."""
    text = Q_LEARNING if case == "replay" else TEMPLATE.read_text()
    cell = cell_of(text, tmp_path, "Pendulum-v1" if case == "continuous" else "CartPole-v1")
    expected: dict[int, dict[str, bytes]] = {}
    assert conform._trains(cell, tmp_path / "first", expected) == ""
    assert conform._again(cell, tmp_path / "twice", [conform.SEEDS], expected) == ""
    assert conform._again(cell, tmp_path / "packs", [[2], [1, 0]], expected) == ""
    assert conform._killed(cell, tmp_path / "killed", expected) == ""
    assert conform.beside_nan(cell, tmp_path / "nan", expected) == ""
    assert conform.unmoved(cell) == ""


def test_policies(tmp_path: Path) -> None:
    """The recorded policy acts as the trained one; alone, without the file, it says that it cannot."""
    cell = cell_of(TEMPLATE.read_text(), tmp_path)
    assert train(cell, [0, 1], tmp_path / "runs")
    agent = policies.load(cell, cell.folder(tmp_path / "runs"), [0, 1])
    trainer = Trainer(cell, [0, 1])
    while trainer.step < cell.steps:
        trainer.advance()
    obs = torch.linspace(-1, 1, 40).view(2, 5, 4)
    actions = [x.act(obs, Streams([0, 1], "test"), False, 1.0)[0] for x in (agent, trainer.agent)]
    assert actions[0].tolist() == actions[1].tolist()
    with pytest.raises(InputError, match="does not describe how it acts: only its algorithm's file"):
        policy.load(cell.folder(tmp_path / "runs"), 0, tmp_path / "runs")


def test_random_numbers(tmp_path: Path) -> None:
    """Weights depend on the seed alone; torch's own generator is left as it was."""
    cell = cell_of(TEMPLATE.read_text(), tmp_path)
    before = torch.get_rng_state()
    pack, alone = (make_agent(cell, Streams(seeds, "init"), "cpu").state_dict() for seeds in ([3, 5], [5]))
    assert all(torch.equal(pack[name][1:], alone[name]) for name in pack)
    assert not torch.equal(pack["params/policy/0.weight"][0], pack["params/policy/0.weight"][1])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("torch.optim.lr_scheduler.ConstantLR(self.optimiser)", "compute the learning rate from `progress`"),
        ("__import__('numpy').random.default_rng(0)", "the state of a Generator is not saved"),
        ("[__import__('random').Random(0)]", "rng/0: the state of a Random is not saved: draw from torch"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved_is_refused(attribute: str, message: str, tmp_path: Path) -> None:
    old = "lr=config.learning_rate)\n"
    text = TEMPLATE.read_text().replace(old, f"{old}        self.rng = {attribute}\n")
    with pytest.raises(InputError, match=message):
        cell_of(text, tmp_path)


def test_state_that_comes_later_is_refused(tmp_path: Path) -> None:
    """When it is restored; until then, nobody can know."""
    old = "        self.optimiser.step()\n"
    text = TEMPLATE.read_text().replace(old, f"{old}        self.late = policy_loss.detach()\n")
    trainer = Trainer(cell_of(text, tmp_path), [0])
    while not trainer.updates:
        trainer.advance()
    fresh = Trainer(trainer.cell, [0])
    with pytest.raises(ValueError, match=r"normaliser/late: what a learner remembers must be there"):
        fresh.load_state_dict(trainer.step, trainer.state_dict())


def test_faults_of_a_learner_are_told(tmp_path: Path) -> None:
    """Only a seed that has diverged is excused."""
    old = "        c = self.config\n"
    text = TEMPLATE.read_text().replace(old, f"{old}        raise ArithmeticError('wrong')\n")
    with pytest.raises(ArithmeticError, match="wrong"):
        train(cell_of(text, tmp_path), [0], tmp_path / "runs")
