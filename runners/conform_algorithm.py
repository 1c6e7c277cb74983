"""`ascent conform`: the tests that every algorithm of the suite passes, for one from outside.

Exactness: the same bytes in a second run, for a seed alone, after being killed, and beside a seed whose
rewards are NaN; evaluating more often changes nothing. Learning: every parameter moves, and on probe
environments, whose right values and actions are known, those are learned.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Agent, Learned, Parameters, Replay, Streams, WholeEpisodes
from ascent.records import files, layout
from ascent.records.cell import Cell, Evaluation
from ascent.records.errors import InputError
from ascent.runners import own
from ascent.runners.resolve import first_update, learnable, make_agent, resolve
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from ascent.suites import probes

SEEDS = [0, 1, 2]
TASKS = ("CartPole-v1", "Pendulum-v1", "simple_adversary_v3", "simple_reference-openai")
UPDATES = 6  # in a small run, at least
PASS, FAIL, SKIPPED = "pass", "FAIL", "skipped"
# Small runs: only those of these hyperparameters are set that a Config has.
SHRUNK = {
    "steps": 16,
    "horizons": 1,
    "envs": 2,
    "workers": 2,
    "epochs": 2,
    "minibatch": 8,
    "value_epochs": 2,
    "capacity": 70,
    "batch": 8,
    "learning_starts": 20,
    "target_every": 5,
}
# On probe environments: bolder than any real task allows.
BOLD = {
    "gamma": probes.GAMMA,
    "envs": 4,
    "workers": 4,
    "rms_eps": 1e-2,
    "steps": 8,
    "horizons": 3,  # of 3 steps
    "minibatch": 32,
    "epochs": 4,
    "learning_rate": 1e-2,
    "value_learning_rate": 1e-2,
    "value_epochs": 10,
    "anneal": False,
    "entropy_coef": 0.0,
    "max_grad_norm": 10.0,
    "hidden": [16],
    "width": 16,
    "capacity": 1000,
    "learning_starts": 100,
    "target_every": 25,
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 1e-2,
    "batch": 64,
    "tau": 0.05,
    "alpha": 1e-3,  # what entropy is worth would be in the values
    "reward_scale": 1.0,
    "bootstrap_time_limit": True,
    "clip_value": False,
    "normalise": False,
}
BUDGET = 8_000  # steps on a probe environment


@dataclass(frozen=True)
class Check:
    """What a test gave: its name, the task, the grade, and why it failed or was skipped."""

    name: str
    task: str
    grade: str
    reason: str = ""


class Killed(Exception):
    """Ends training in the midst of a step, as a kill does."""


def conform(word: str, tell: Callable[[str], None] = lambda what: None) -> Iterator[Check]:
    """Yield the outcome of every test of an algorithm, given its name or its file.

    `tell` receives what is tested next. Raises InputError if there is no such algorithm.
    """
    system = own.name_of(word)
    able = [spec.id for spec in learnable(system) if spec.id in TASKS]
    if not able:
        raise InputError(f"{word}: it can learn none of {', '.join(TASKS)}")
    for task in able:
        yield from _on_task(system, task, tell)
    with probes.listed():
        for name in probes.PROBES if not suites.TASKS[able[0]].team else ():
            for kind in ("discrete", "continuous"):
                task = probes.task(name, kind)
                tell(task)
                yield Check(f"learns {name}", task, *_graded(partial(_probe, system, name, kind), system))


def _graded(test: Callable[[], str], system: str) -> tuple[str, str]:
    """Run a test, which returns what is wrong, and return grade and reason."""
    try:
        wrong = test()
    except Skipped as reason:
        return SKIPPED, str(reason)
    except InputError as error:
        return FAIL, str(error)
    except Exception as error:
        if not SYSTEMS[system].own:
            raise
        return FAIL, own.fault(error, system)
    return (FAIL, wrong) if wrong else (PASS, "")


class Skipped(Exception):
    """A test does not apply; the message says why."""


# ---- exactness


def small(system: str, task: str, points: int = 2) -> Cell:
    """Return a cell of a few updates."""
    overrides = {name: value for name, value in SHRUNK.items() if name in fields(system)}
    every = resolve(system, task).config.get("train_every", 8)
    overrides |= {"train_every": min(every, 8)} if "train_every" in fields(system) else {}
    cell = resolve(system, task, overrides=overrides)
    experience = make_agent(cell, Streams([0], "init"), "cpu").experience
    first = first_update(experience, suites.TASKS[task])
    window = experience.every if isinstance(experience, Replay) else first
    steps = max(120, first + UPDATES * window)
    return resolve(system, task, overrides=overrides, steps=steps, evaluation=Evaluation(points, 1))


def fields(system: str) -> Any:
    """Return the names of a system's hyperparameters."""
    return SYSTEMS[system].module().Config.__dataclass_fields__


def results(cell: Cell, out: Path, seeds: Sequence[int]) -> dict[int, dict[str, bytes]]:
    """Return the result bytes of runs."""
    names = (*layout.RESULT_FILES, layout.RESULT)
    return {
        seed: {name: (cell.run_folder(seed, out) / name).read_bytes() for name in names} for seed in seeds
    }


def _on_task(system: str, task: str, tell: Callable[[str], None]) -> Iterator[Check]:
    with tempfile.TemporaryDirectory(prefix="ascent-conform-") as work:
        out = Path(work)
        expected: dict[int, dict[str, bytes]] = {}
        tests: list[tuple[str, Callable[[], str]]] = [
            ("trains", lambda: _trains(cell, out / "first", expected)),
            ("the same twice", lambda: _again(cell, out / "twice", [SEEDS], expected)),
            ("the same in any pack", lambda: _again(cell, out / "packs", [[2], [1, 0]], expected)),
            ("the same after a kill", lambda: _killed(cell, out / "killed", expected)),
            ("the same beside a NaN", lambda: beside_nan(cell, out / "nan", expected)),
            ("the same if evaluated more often", lambda: _often(cell, out / "often", expected)),
            ("every parameter moves", lambda: unmoved(cell)),
        ]
        try:
            cell = small(system, task)
        except InputError as error:
            yield Check("trains", task, FAIL, str(error))
            return
        for name, test in tests:
            tell(f"{task}: {name}")
            check = Check(name, task, *_graded(test, system))
            yield check
            if name == "trains" and check.grade == FAIL:
                return


def _trains(cell: Cell, out: Path, expected: dict[int, dict[str, bytes]]) -> str:
    train(cell, SEEDS, out)
    expected |= results(cell, out, SEEDS)
    ended = [files.read_json(cell.run_folder(seed, out) / layout.RESULT)["status"] for seed in SEEDS]
    if set(ended) != {"done"}:
        return f"the runs ended so: {', '.join(ended)}"
    alike = [name for name in (layout.LADDER, layout.EVAL) if len({r[name] for r in expected.values()}) == 1]
    return f"{alike[0]} is the same for different seeds" if alike else ""


def _again(cell: Cell, out: Path, packs: list[list[int]], expected: dict[int, dict[str, bytes]]) -> str:
    for pack in packs:
        train(cell, pack, out)
    return _unlike(results(cell, out, SEEDS), expected)


def _unlike(found: dict[int, dict[str, bytes]], expected: dict[int, dict[str, bytes]]) -> str:
    """Return the first difference between runs; "" if there is none."""
    for seed, record in found.items():
        names = [name for name, data in record.items() if data != expected[seed][name]]
        if names:
            rows = [expected[seed][layout.LADDER].decode().split(), record[layout.LADDER].decode().split()]
            steps = (row.rpartition(",")[0] for row, other in zip(*rows, strict=False) if row != other)
            return f"seed {seed}: {', '.join(names)} differ; the learner first at: {next(steps, 'the end')}"
    return ""


def _killed(cell: Cell, out: Path, expected: dict[int, dict[str, bytes]]) -> str:
    """Have a checkpoint written at a third of the run, kill training at two thirds, and go on from there."""
    envs = int(cell.config.get("envs", cell.config.get("workers", 1)))
    train(cell, SEEDS, out, stop=_stop_at(cell.steps // envs // 3))
    with suppress(Killed):
        train(cell, SEEDS, out, stop=_stop_at(cell.steps // envs // 3, Killed))
    train(cell, SEEDS, out)
    return _unlike(results(cell, out, SEEDS), expected)


def _stop_at(calls: int, error: type[Exception] | None = None) -> Callable[[], bool]:
    """Return what stops training, or raises an error, when it is asked for the `calls`-th time."""
    left = [max(1, calls)]

    def stop() -> bool:
        left[0] -= 1
        if left[0] == 0 and error:
            raise error
        return left[0] == 0

    return stop


def beside_nan(cell: Cell, out: Path, expected: dict[int, dict[str, bytes]]) -> str:
    """Train seeds 0 to 2 with rewards of NaN for seed 1, and return what is wrong with that."""
    with nan_rewards(row=1):
        train(cell, SEEDS, out)
    status = files.read_json(cell.run_folder(1, out) / layout.RESULT)["status"]
    if status != "diverged":
        return f"seed 1, whose rewards are NaN, is recorded as {status}, not as diverged"
    return _unlike(results(cell, out, [0, 2]), expected)


@contextmanager
def nan_rewards(row: int) -> Iterator[None]:
    """Have the environments of one seed of every pack pay NaN."""
    make = suites.make

    def corrupted(task: str, seeds: np.ndarray, threads: int = 1) -> suites.Trainable:
        env = make(task, seeds, threads)
        step = env.step

        def nan_step(actions: np.ndarray) -> suites.Step:
            now = step(actions)
            now.reward[row] = np.nan
            return now

        env.step = nan_step  # type: ignore[method-assign]  # of this object alone
        return env

    with mock.patch.object(suites, "make", corrupted):
        yield


def _often(cell: Cell, out: Path, expected: dict[int, dict[str, bytes]]) -> str:
    often = small(cell.system, cell.task, points=2 * cell.evaluation.points)
    train(often, SEEDS, out)
    for seed, record in results(often, out, SEEDS).items():
        before, after = (x[seed][layout.LADDER].splitlines() for x in (expected, {seed: record}))
        if not set(before) <= set(after) or record[layout.TRAIN] != expected[seed][layout.TRAIN]:
            return f"seed {seed}: acting in evaluation changes what is learned"
    return ""


# ---- learning


def parameters(agent: Agent) -> list[Parameters]:
    """List the parameter matrices of an agent, also those in lists, dictionaries and `Learned`."""

    def search(value: object) -> list[Parameters]:
        if isinstance(value, Parameters):
            return [value]
        if isinstance(value, Learned):
            return search(vars(value))
        if isinstance(value, dict):
            return search(list(value.values()))
        if isinstance(value, (list, tuple)):
            return [matrix for item in value for matrix in search(item)]
        return []

    return list(dict.fromkeys(search(vars(agent))))  # each once


def unmoved(cell: Cell, seeds: Sequence[int] = (0, 1)) -> str:
    """Train a cell and return what has hardly moved: a layer, or most of a network; "" if everything has.

    Layers of units that are off, say, may keep some of their numbers.
    """
    trainer = Trainer(cell, seeds)
    before = _layers(trainer.agent)
    while trainer.step < cell.steps:
        trainer.advance()
    moved: dict[str, list[torch.Tensor]] = {}
    for (network, layer), now in _layers(trainer.agent).items():
        flags = (now != before[network, layer]).flatten(1)
        if not (flags.float().mean(1) > 0.2).all():
            return f"{network}: {layer} of {flags.shape[1]} numbers hardly moved"
        moved.setdefault(network, []).append(flags)
    for network, layers in moved.items():
        if not (torch.cat(layers, 1).float().mean(1) > 0.5).all():
            return f"{network}: most of its numbers have not moved"
    return ""


def _layers(agent: Agent) -> dict[tuple[str, str], torch.Tensor]:
    """Return a copy of each layer (S, ...) by network and layer."""
    if matrices := parameters(agent):
        pairs = [
            (f"matrix {m}", f"layer {n}", x) for m, p in enumerate(matrices) for n, x in enumerate(p.leaves)
        ]
    else:
        state = {name: x for name, x in agent.state_dict().items() if name.startswith("params/")}
        pairs = [(name.rpartition("/")[0], name.rpartition("/")[2], x) for name, x in state.items()]
    floats = [(network, layer, x) for network, layer, x in pairs if x.is_floating_point()]
    return {(network, layer): x.detach().clone() for network, layer, x in floats}


def trained_on_probe(system: str, probe: str, kind: str) -> Trainer:
    """Return the training of a system on a probe environment, at its end.

    Raises:
        InputError: "needs a ..." if the system takes no such actions.
    """
    overrides = {name: value for name, value in BOLD.items() if name in fields(system)}
    if "workers" in fields(
        system
    ):  # a worker's step is of a whole window's sum: at a constant rate it trembles
        overrides["anneal"] = True
    preset = next(iter(SYSTEMS[system].module().PRESETS))
    task, evaluation = probes.task(probe, kind), Evaluation(1, 1)
    cell = resolve(system, task, preset=preset, overrides=overrides, steps=BUDGET, evaluation=evaluation)
    trainer = Trainer(cell, SEEDS)
    while trainer.step < cell.steps:
        trainer.advance()
    return trainer


def known_values(agent: Agent, probe: str) -> tuple[list[float], list[float], float]:
    """Return observations of a probe environment, their right values, and the tolerance."""
    if probe == "known-reward":
        return [-1.0, 1.0], [-1.0, 1.0], 0.15
    if probe == "delayed-reward":
        return [0.0, 1.0], [probes.GAMMA, 1.0], 0.12
    value = 1 / (1 - probes.GAMMA)
    if isinstance(agent.experience, WholeEpisodes) or getattr(agent, "ends_at_limit", False):
        # Nothing bootstraps: the return ends with the limit, after 3, 2 or 1 rewards.
        value = float(np.mean([sum(probes.GAMMA**k for k in range(left)) for left in (3, 2, 1)]))
    return [1.0], [value], 0.2 * value


def _probe(system: str, probe: str, kind: str) -> str:
    try:
        trainer = trained_on_probe(system, probe, kind)
    except InputError as error:
        if "needs a" in str(error):
            raise Skipped("it does not take such actions") from error
        raise
    agent: Any = trainer.agent
    if probe == "follow":
        obs = torch.tensor([[[-1.0], [1.0]]] * len(SEEDS))
        actions, _ = agent.act(obs, Streams(SEEDS, "test"), False, 1.0)
        right = [[0, 1]] if kind == "discrete" else [[-0.5, 0.5]]
        found = actions.numpy().reshape(len(SEEDS), 2)
        return _far(found, np.array(right * len(SEEDS)), 0.25, "greedy actions")
    if not hasattr(agent, "value_estimate"):
        raise Skipped("it has no value_estimate")
    seen, right_values, tolerance = known_values(agent, probe)
    obs = torch.tensor(seen).repeat(len(SEEDS), 1)[..., None]  # (S, n, 1)
    action, _ = agent.act(obs, Streams(SEEDS, "test"), False, 1.0)
    with torch.no_grad():
        found = agent.value_estimate(obs, action).numpy()
    return _far(found, np.array([right_values] * len(SEEDS)), tolerance, f"values at {seen}")


def _far(found: np.ndarray, right: np.ndarray, tolerance: float, what: str) -> str:
    """Return how far numbers (S, n) are from the right ones; "" if none is further than the tolerance."""
    if np.abs(found - right).max() <= tolerance:
        return ""
    means = ", ".join(f"{x:.2f}" for x in found.mean(0))
    return f"{what} are {means}, not {', '.join(f'{x:g}' for x in right[0])} (tolerance {tolerance:.2g})"
