"""Environments from outside this project: how they are declared, and what is promised of them.

A foreign environment is a Python object with a generator of its own, whose state nobody can save. So an
episode is saved as the seed of its reset and the actions since then, and restored by playing it again; every
observation, reward and flag is compared with a digest of the first one. The seed of an episode is derived
from the seed of the environment and the number of the episode.

An environment for which this works is `replayable`: its results are the same alone, packed, and after a kill.
Any other is `loose`: it trains, but nothing of this is promised. `tried` finds the difference.

`replayed.py` steps and restores them; `gym.py` and `pettingzoo.py` adapt the two interfaces. Declaring an
environment imports nothing; its module is imported, and so its code run, by their `open_task` alone.
"""

import json
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import blake2b, sha256
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ascent.suites.spec import Spec

MOST_NAME = 70  # characters of an environment's name in the name of its task
EARLIER = 3  # episodes before the one that must not depend on them
TRIED = 100  # steps of the episodes by which `guarantee` decides
WORDS: dict[type, str] = {float: "a number", int: "a whole number", bool: "true or false"}
REPLAYABLE, LOOSE = "replayable", "loose"


class EnvironmentFailed(Exception):
    """An environment raised an error, or broke the rules of its interface. The message is one line.

    `row` is the row of the seed in the batch; None before the first step of a batch.
    """

    def __init__(self, message: str, row: int | None = None):
        super().__init__(message)
        self.row = row


@dataclass(frozen=True)
class Foreign:
    """A foreign environment, as its user declares it. All of it but `budget` identifies the cell.

    Raises:
        ValueError: a value is of the wrong type, or `kwargs` has values that JSON has not.
    """

    id: str  # "gym:LunarLander-v3", "gym:package.module:MyEnv-v0" or "pettingzoo:package.module"
    kwargs: Mapping[str, Any] = field(default_factory=dict)  # keyword arguments of its constructor
    wrappers: tuple[str, ...] = ()  # "package.module:Wrapper", the innermost first
    name: str = ""  # of the task; default: made from the id
    random_score: float | None = None  # mean score of the uniform random policy
    reference_score: float | None = None  # score that corresponds to a normalised score of 1
    reference_source: str = ""  # source of reference_score
    loose: bool = False  # ask for no exact resumption, whatever is found
    budget: int = 0  # default length of a training run, in environment steps per seed; 0: none

    def __post_init__(self) -> None:
        if not isinstance(self.wrappers, list | tuple) or not isinstance(self.kwargs, Mapping):
            raise ValueError(f"{self.id}: wrappers are a list, and kwargs a table")
        object.__setattr__(self, "wrappers", tuple(self.wrappers))
        for name, kind in (
            ("random_score", float),
            ("reference_score", float),
            ("budget", int),
            ("loose", bool),
        ):
            value = getattr(self, name)
            if kind is float and type(value) is int:
                object.__setattr__(self, name, float(value))
            elif value is not None and type(value) is not kind:
                raise ValueError(f"{name} must be {WORDS[kind]}, not {value!r}")
        texts = {"id": self.id, "name": self.name, "reference_source": self.reference_source}
        texts |= {f"wrapper {number}": name for number, name in enumerate(self.wrappers, 1)}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise ValueError(f"{name} must be text, not {text!r}")
        for name in self.wrappers:
            if not all(name.partition(":")):
                raise ValueError(f"wrapper {name!r}: write package.module:Wrapper")
        try:
            same = json.loads(json.dumps(dict(self.kwargs))) == dict(self.kwargs)
        except (TypeError, ValueError):
            same = False
        if not same:
            raise ValueError(
                f"{self.id}: kwargs may hold numbers, text, true, false and lists: {self.kwargs!r}"
            )

    @property
    def suite(self) -> str:
        """The suite of the task, which is the interface of the environment: "gym", "pettingzoo"."""
        return self.id.partition(":")[0]

    @property
    def target(self) -> str:
        """What the interface knows the environment by: the id without its suite."""
        return self.id.partition(":")[2]

    @property
    def task(self) -> str:
        """The name of the task, which can be the name of a folder.

        It ends in digits that change with anything declared, unless there is nothing but a plain id.
        """
        label = self.name or self.target
        safe = re.sub(r"[^A-Za-z0-9_.-]+", ".", label)[:MOST_NAME]
        declared = self.to_json()
        if declared == {"id": f"{self.suite}:{safe}"}:
            return f"{self.suite}-{safe}"
        digest = sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()
        return f"{self.suite}-{safe}-{digest[:6]}"

    def to_json(self) -> dict[str, Any]:
        """Return what identifies the environment: its id, and what else is declared."""
        defaults = asdict(Foreign(""))
        given = {**asdict(self), "kwargs": dict(self.kwargs), "wrappers": list(self.wrappers)}
        return {
            name: value
            for name, value in given.items()
            if name == "id" or (name != "budget" and value != defaults[name] and value not in ([], {}))
        }


class Environment(Protocol):
    """One environment, as `ForeignBatch` steps it. `gym.py` and `pettingzoo.py` have such classes."""

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode and return its first observation (O,) float32."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool]:
        """Return the observation (O,) float32, the reward, () or (N,), terminated and truncated."""

    def close(self) -> None:
        """Release what it holds."""


@dataclass(frozen=True)
class ForeignTask:
    """A foreign environment that this process can step."""

    foreign: Foreign
    spec: Spec
    make: Callable[[], Environment]


# ---- code of others


def load(path: str) -> Any:
    """Import and return what "package.module:Name" names. Raises ValueError, in one line."""
    module, _, name = path.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:
        raise ValueError(f"{path}: {said(error)}") from error
    return found


def wrapped(declared: Foreign, env: Any) -> Any:
    """Return an environment in its wrappers. Raises ValueError, in one line, if one fails."""
    for wrapper in declared.wrappers:
        try:
            env = load(wrapper)(env)
        except MemoryError:
            raise
        except Exception as error:
            why = str(error) if isinstance(error, ValueError) else f"{wrapper}: {said(error)}"
            raise ValueError(f"{declared.id}: wrapper {why}") from error
    return env


def said(error: BaseException) -> str:
    """Return the name and the message of somebody else's error, in one line; where it has none, its place."""
    text = " ".join(str(error).split())
    if not text and (frames := traceback.extract_tb(error.__traceback__)):
        text = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}"
    hint = ""
    if isinstance(error, ModuleNotFoundError):
        hint = " (is it installed here, or its folder in PYTHONPATH?)"
    return f"{type(error).__name__}: {text[:300]}{hint}"


def origins(objects: Sequence[object]) -> tuple[tuple[str, ...], tuple[tuple[str, Path], ...]]:
    """Return what defines environments and wrappers: the distributions of the modules of their classes and of
    what these modules import by name, and the modules that no distribution installed, with their files.
    """
    names = {kind.__module__ for one in objects for kind in type(one).mro()}
    for name in [name for name in names if not _is_of_python(name)]:
        for value in list(vars(sys.modules[name]).values()):
            of_value = getattr(value, "__name__" if isinstance(value, ModuleType) else "__module__", None)
            names |= {of_value} if isinstance(of_value, str) else set()
    installed = _distributions()
    distributions: set[str] = set()
    files: list[tuple[str, Path]] = []
    for name in sorted(name for name in names if name in sys.modules and not _is_of_python(name)):
        file = getattr(sys.modules[name], "__file__", None)
        if found := installed.get(name.partition(".")[0]):
            distributions |= set(found)
        elif file:
            files.append((name, Path(file)))
    return tuple(sorted(distributions)), tuple(files)


_distributions = cache(packages_distributions)  # reading what is installed takes a second


def _is_of_python(module: str) -> bool:
    """Return whether a module belongs to Python itself, whose version every run records."""
    return module.partition(".")[0] in sys.stdlib_module_names


# ---- the class of an environment


def close(envs: list[Environment]) -> None:
    for env in envs:
        env.close()


def mark(obs: np.ndarray, reward: Any = 0.0, terminated: bool = False, truncated: bool = False) -> int:
    """Return 64 bits that change with any bit of what an environment returned."""
    numbers = np.append(np.asarray(reward, np.float64), (terminated, truncated))
    return int.from_bytes(blake2b(obs.tobytes() + numbers.tobytes(), digest_size=8).digest())


def random_actions(spec: Spec, steps: int, seed: int) -> np.ndarray:
    """Return uniform random actions (steps, ...) of one environment."""
    rng = np.random.Generator(np.random.PCG64(seed))
    shape = (steps, *spec.action_shape)
    if spec.choices is not None:
        return rng.integers(0, spec.choices, shape)
    assert spec.bounds is not None
    low, high = spec.bounds
    return rng.uniform(low, high, shape).astype(np.float32).clip(low, high)


def play(
    env: Environment, actions: np.ndarray, seed: int, between: Callable[[], object] = lambda: None
) -> list[int]:
    """Play an episode, at most to the end of the actions, and return the digests of what it returned.

    `between` is called before each step.
    """
    marks = [mark(env.reset(seed))]
    for action in actions:
        between()
        obs, reward, terminated, truncated = env.step(action.copy())
        marks.append(mark(obs, reward, terminated, truncated))
        if terminated or truncated:
            break
    return marks


# What an episode must not depend on, and what it may be due to if it does.
TRIALS = {
    "in two new environments": "a global generator, or a reset that ignores its seed",
    "after other episodes": "something that a reset does not reset",
    "beside another environment": "a state or a generator that environments share",
}


def tried(task: ForeignTask, steps: int, seed: int) -> list[bool]:
    """Play an episode again, with the same actions, as `TRIALS` says, and return where it is the same.

    Args:
        task: the environment.
        steps: the most steps of an episode.
        seed: of the episode and its actions.

    Raises:
        EnvironmentFailed: it raises, or cannot be seeded.
    """
    actions, others = (random_actions(task.spec, steps, 2 * seed + k) for k in (0, 1))
    envs: list[Environment] = []
    try:
        envs += (task.make() for _ in range(5))
        new, again, used, beside, other = envs
        expected = play(new, actions, seed)
        for before in range(EARLIER):
            play(used, others, seed + 1 + before)
        return [
            play(again, actions, seed) == expected,
            play(used, actions, seed) == expected,
            play(beside, actions, seed, _stepping(other, others)) == expected,
        ]
    except MemoryError:
        raise
    except Exception as error:
        what = "cannot be seeded" if "'seed'" in str(error) else "failed when it was tried"
        raise EnvironmentFailed(f"{task.foreign.id} {what}: {said(error)}") from error
    finally:
        close(envs)


def _stepping(env: Environment, actions: np.ndarray) -> Callable[[], None]:
    """Return a function that steps an environment once, and resets it where an episode ends."""
    todo = iter(np.resize(actions, (4 * len(actions), *actions.shape[1:])))
    env.reset(9)

    def step() -> None:
        if any(env.step(next(todo).copy())[2:]):
            env.reset(9)

    return step


_found: dict[str, str] = {}


def guarantee(task: ForeignTask) -> str:
    """Return REPLAYABLE, or LOOSE for an environment that is declared so or that `tried` finds at fault."""
    if task.foreign.loose:
        return LOOSE
    name = task.spec.id
    if name not in _found:
        _found[name] = REPLAYABLE if all(tried(task, TRIED, seed=7)) else LOOSE
    return _found[name]
