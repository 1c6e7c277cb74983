"""MuJoCo tasks as batches, equal to gymnasium 1.4's environments (`*-v5`) bit for bit.

gymnasium (`gymnasium.envs.mujoco`, Towers et al. 2024) defines these tasks. MuJoCo (Todorov, Erez and Tassa
2012) simulates the bodies, from gymnasium's model files. Observations, rewards and flags are computed here
for the whole batch at once, in gymnasium's order of operations, because another order rounds differently in
the last bit. These rules apply:

- Actions are float32, and so are the sum of their squares and its product with a Python number. The
  humanoids' control cost uses `ctrl` instead, the input of the simulator in float64.
- Actions are not clipped: the cost uses the given action, and MuJoCo limits its force to the model's
  `ctrlrange`.
- `x ** 2` of a numpy scalar is libm's `pow`; `np.float_power(x, 2.0)` is the same for arrays, `np.square` is
  `x * x`.
- `np.vecdot` of a vector with itself is the BLAS product inside `np.linalg.norm`.
- Positions of bodies (`xpos`, `xipos`, `site_xpos`) lag: after a step they belong to the state before its
  last substep. They cannot be recomputed from a saved state, so they are saved with it.
"""

import copy
import math
import time
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import ClassVar

import gymnasium
import mujoco
import numpy as np
from gymnasium.spaces import Box

from ascent.suites.batch import Batch
from ascent.suites.spec import Spec

# The fields of MjData that a task reads, by name, each (n, ...); "state" is qpos and qvel joined.
Fields = dict[str, np.ndarray]

VERSION = 1  # version of the results; increase it with any change that changes a trajectory

# The state from which mj_step continues bit for bit. mjSTATE_FULLPHYSICS lacks the solver's warm start.
_SAVED = int(mujoco.mjtState.mjSTATE_INTEGRATION)

# Seconds of simulation per step that justify a thread. With less work per thread, one thread was faster than
# two: on two cores, two threads ran ten HalfCheetahs at 0.8 times, ten Humanoids at 1.4 times and eighty
# Humanoids at 1.8 times the speed of one.
_WORTH_A_THREAD = 0.7e-3

_ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
_THRESHOLD = "reward_threshold registered by gymnasium"


def _spec(
    task: str,
    model: str,
    observations: int,
    actions: int,
    limit: float,
    horizon: int,
    random_score: float,
    reference_score: float,
    reference_source: str,
) -> Spec:
    """Return the spec of a MuJoCo task.

    Args:
        task: name of the task.
        model: name of gymnasium's model file.
        observations: O, the size of an observation.
        actions: A, the size of an action.
        limit: the bound of each component of an action, from -limit to limit.
        horizon, random_score, reference_score, reference_source: as in `Spec`.
    """
    return Spec(
        id=task,
        suite="mujoco",
        observation_space=Box(-np.inf, np.inf, (observations,)),
        action_space=Box(-limit, limit, (actions,)),
        horizon=horizon,
        budget=1_000_000,
        random_score=random_score,
        reference_score=reference_score,
        reference_source=reference_source,
        return_convention="sum of rewards over the episode, undiscounted",
        packages=("gymnasium", "mujoco"),
        model=_ASSETS / model,
    )


@cache
def _model(task: str, path: Path) -> mujoco.MjModel:
    """Return the compiled model of a task. It is shared within the process, because simulations only read it.

    Raises:
        FileNotFoundError: the model file is missing.
        ValueError: MuJoCo cannot read it.
    """
    remedy = f"reinstall gymnasium=={gymnasium.__version__}, which contains it"
    if not path.exists():
        raise FileNotFoundError(f"{task}: there is no model file {path}; {remedy}")
    try:
        with quiet():
            return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise ValueError(f"{task}: MuJoCo cannot read the model file {path}; {remedy}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence MuJoCo's warnings while it reads a model.

    gymnasium's model files use a deprecated attribute, which MuJoCo reports on the console and in a log file
    in the working folder. Users of a task can do nothing about it.
    """
    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(handler)


def _step_seconds(model: mujoco.MjModel, frame_skip: int) -> float:
    """Estimate the duration of one step of one environment, in seconds."""
    data = mujoco.MjData(model)
    seconds = []
    for _ in range(4):  # the first is slow
        start = time.perf_counter()
        mujoco.mj_step(model, data, frame_skip)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _counters(data: mujoco.MjData) -> np.ndarray:
    """Return a view of the counters of invalid numbers in `MjData.warning`, and of the values in between.

    The counters of qpos, qvel, qacc and ctrl are adjacent, with another value after each. A view without gaps
    is faster to read.
    """
    numbers = data.warning.number[int(mujoco.mjtWarning.mjWARN_BADQPOS) :]
    return np.lib.stride_tricks.as_strided(numbers, (7,), (numbers.itemsize,))


class Simulation(Batch):
    """A MuJoCo task. Physics: qpos, qvel and the fields named in `EXTRA_FIELDS`, flattened and joined.

    A task is a subclass that defines `spec`, the class variables below, `_start`, `_observations` and
    `_outcome`.

    If a state becomes invalid (NaN, or numbers beyond 1e10), MuJoCo resets it to the model's initial state
    and continues, here as in gymnasium. It counts these events in `MjData.warning`: see `_unstable`.
    """

    FRAME_SKIP: ClassVar[int]  # simulator steps per step of the task
    EXTRA_FIELDS: ClassVar[tuple[str, ...]] = ()  # fields of MjData that the task reads besides qpos and qvel
    changes: ClassVar[tuple[str, ...]] = ("mass", "friction", "gravity")

    def __init__(self, env_seeds: np.ndarray, threads: int = 1) -> None:
        super().__init__(env_seeds, threads)
        self._model = self._default_model()
        self._seconds_per_step = self._model.opt.timestep * self.FRAME_SKIP
        n = self._elapsed.size
        self._data = [mujoco.MjData(self._model) for _ in range(n)]
        names = ("qpos", "qvel", *self.EXTRA_FIELDS)
        # Views of the simulators' memory: looking up an attribute of MjData takes longer than copying it.
        self._ctrl = [memoryview(data.ctrl) for data in self._data]
        self._mjdata_fields = [[getattr(data, name).reshape(-1) for name in names] for data in self._data]
        self._all_fields = [memoryview(field) for fields in self._mjdata_fields for field in fields]
        self._counters = [_counters(data) for data in self._data]
        self._all_counters = [counters.data for counters in self._counters]
        # The counters after the last step.
        self._counted = np.zeros((n, self._counters[0].size), dtype=np.int32)
        # Per field: name, columns of the physics, and shape per environment if it is not flat.
        self._layout: list[tuple[str, slice, tuple[int, ...]]] = [
            ("state", slice(0, self._model.nq + self._model.nv), ())
        ]
        stop = 0
        for name in names:
            shape = getattr(self._data[0], name).shape
            start, stop = stop, stop + math.prod(shape)
            self._layout.append((name, slice(start, stop), shape if len(shape) > 1 else ()))
        self._split: tuple[np.ndarray, Fields] = (np.empty(0), {})  # last argument and result of `_fields`
        self._threads = min(threads, n)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._seconds = _step_seconds(self._model, self.FRAME_SKIP) if self._threads > 1 else 0.0
        self._assign(range(n))

    @classmethod
    def check(cls) -> None:
        cls._default_model()

    @classmethod
    def _default_model(cls) -> mujoco.MjModel:
        """Return the unchanged model of the task."""
        assert cls.spec.model is not None, "every MuJoCo task has a model file"
        return _model(cls.spec.id, cls.spec.model)

    # Methods that a task defines.

    @abstractmethod
    def _start(self, generator: np.random.Generator) -> np.ndarray:
        """Draw the initial qpos and qvel, joined, of an episode of one environment."""

    @abstractmethod
    def _observations(self, fields: Fields) -> np.ndarray:
        """Return the observations (n, O) float64."""

    @abstractmethod
    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the reward (n,) float64 and terminated (n,) bool of a step.

        Args:
            before, after: the fields before and after the step.
            actions: (n, A) float32.
        """

    # Methods that all tasks share.

    def _change(self, kind: str, factor: float) -> None:
        model = copy.copy(self._model)  # other batches share the unchanged model
        if kind == "mass":  # all bodies
            model.body_mass *= factor
            model.body_inertia *= factor
        elif kind == "friction":  # all surfaces: sliding, torsional, rolling
            model.geom_friction *= factor
        else:
            model.opt.gravity *= factor
        mujoco.mj_setConst(model, mujoco.MjData(model))  # recompute the constants that depend on them
        self._model = model

    def _begin(self, i: int) -> np.ndarray:
        start = self._start(self._generators[i])
        data = self._data[i]
        mujoco.mj_resetData(self._model, data)
        data.qpos[:] = start[: self._model.nq]
        data.qvel[:] = start[self._model.nq :]
        mujoco.mj_forward(self._model, data)
        self._counted[i] = 0
        return np.concatenate(self._mjdata_fields[i])

    def _assign(self, environments: Sequence[int]) -> None:
        """Split the environments to simulate among as many threads as have enough work."""
        n, k = len(environments), self._threads
        while k > 1 and n * self._seconds < k * _WORTH_A_THREAD:
            k -= 1
        self._chunks = [environments[n * i // k : n * (i + 1) // k] for i in range(k)]

    def retire(self, flags: np.ndarray) -> None:
        self._assign(np.flatnonzero(np.logical_not(flags)).tolist())

    def reset(self) -> np.ndarray:
        self._assign(range(len(self._data)))
        return super().reset()

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ctrl = actions.astype(np.float64).reshape(-1).data
        if self._pool is None or len(self._chunks) == 1:
            self._simulate(ctrl, self._chunks[0])
        else:
            for _ in self._pool.map(partial(self._simulate, ctrl), self._chunks):
                pass  # re-raise exceptions of the threads
        # Joining buffers is several times faster than np.concatenate of this many arrays.
        after = np.frombuffer(bytearray().join(self._all_fields)).reshape(len(actions), -1).T
        reward, terminated = self._outcome(self._fields(physics), self._fields(after), actions)
        return after, reward, terminated

    def _simulate(self, ctrl: memoryview, chunk: Sequence[int]) -> None:
        """Simulate one step of the environments in `chunk`. Each thread has its own chunk."""
        model, frame_skip = self._model, self.FRAME_SKIP
        contact_forces = "cfrc_ext" in self.EXTRA_FIELDS
        size = model.nu
        for i in chunk:
            data = self._data[i]
            self._ctrl[i][:] = ctrl[i * size : (i + 1) * size]
            mujoco.mj_step(model, data, frame_skip)
            if contact_forces:
                mujoco.mj_rnePostConstraint(model, data)  # computes cfrc_ext, which mj_step omits

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        return self._observations(self._fields(physics)).astype(np.float32)

    def _observe_starts(self, physics: np.ndarray) -> np.ndarray:
        # In the memory layout of a step, on which the order depends in which numpy adds.
        return self._observe(np.ascontiguousarray(physics.T).T)

    def _fields(self, physics: np.ndarray) -> Fields:
        """Return views of physics (K, n) as named fields."""
        last, fields = self._split
        if physics is not last:  # one step needs the fields of the same physics three times
            rows = physics.T
            fields = {
                name: rows[:, columns].reshape(-1, *shape) if shape else rows[:, columns]
                for name, columns, shape in self._layout
            }
            self._split = (physics, fields)
        return fields

    def _unstable(self) -> np.ndarray:
        flags = np.zeros(len(self._data), dtype=bool)
        counts = b"".join(self._all_counters)
        if counts != self._counted.tobytes():
            changed = np.frombuffer(counts, np.int32).reshape(self._counted.shape) != self._counted
            flags = changed.any(axis=1)
            for i in flags.nonzero()[0]:
                # When MuJoCo resets a state, it sets the counters to 0 and then counts 1. At 1, the next
                # reset would not show; at 0, MuJoCo would print its warning again. Hence 2.
                self._counters[i][:] = self._counted[i] = 2
        return flags.reshape(self.shape)

    def state(self) -> dict[str, np.ndarray]:
        """Return what `Batch.state` returns, and "simulation" (S, E, N) float64 from mj_getState."""
        state = super().state()
        simulations = np.empty((len(self._data), mujoco.mj_stateSize(self._model, _SAVED)))
        for data, simulation in zip(self._data, simulations, strict=True):
            mujoco.mj_getState(self._model, data, simulation, _SAVED)
        return state | {"simulation": simulations.reshape(*self.shape, -1)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        super().load_state(state)
        self._assign(range(len(self._data)))
        simulations = state["simulation"].reshape(len(self._data), -1)
        for data, simulation, counters in zip(self._data, simulations, self._counters, strict=True):
            mujoco.mj_setState(self._model, data, simulation, _SAVED)
            counters[:] = 0
        self._counted[:] = 0

    # Helpers for tasks.

    def _start_near(
        self, generator: np.random.Generator, scale: float, normal_velocities: bool = False
    ) -> np.ndarray:
        """Draw qpos and qvel, joined, near the model's initial state.

        Args:
            generator: source of the noise.
            scale: bound of the uniform noise on qpos and qvel.
            normal_velocities: draw qvel from a normal distribution with standard deviation `scale` instead.
        """
        qpos = self._model.qpos0 + generator.uniform(-scale, scale, self._model.nq)
        if normal_velocities:
            qvel = scale * generator.standard_normal(self._model.nv)
        else:
            qvel = generator.uniform(-scale, scale, self._model.nv)
        return np.concatenate((qpos, qvel))

    def _speed(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Return the mean speed during a step from positions before and after it."""
        return (after - before) / self._seconds_per_step


def _clip(values: np.ndarray, limit: float) -> np.ndarray:
    """Clip values to [-limit, limit], in half the time of np.clip."""
    return np.minimum(np.maximum(values, -limit), limit)


def _never(fields: Fields) -> np.ndarray:
    """Return terminated (n,) bool for tasks that only the time limit ends."""
    return np.zeros(len(fields["qpos"]), dtype=bool)


def _effort(actions: np.ndarray) -> np.ndarray:
    """Return the sum of squares (n,) float32 of actions (n, A) float32."""
    return np.add.reduce(np.square(actions), axis=1)


def _squares(values: np.ndarray) -> np.ndarray:
    """Return the sum of squares (n,) of all numbers in values (n, ...)."""
    return np.add.reduce(np.square(values.reshape(len(values), -1)), axis=1)


def _length(vectors: np.ndarray) -> np.ndarray:
    """Return the Euclidean length (n,) of vectors (n, 3)."""
    return np.sqrt(np.vecdot(vectors, vectors))


class HalfCheetah(Simulation):
    """Run on two legs in a plane. Falling does not end the episode. Wawrzynski 2009."""

    spec = _spec(
        "HalfCheetah-v5",
        "half_cheetah.xml",
        observations=17,
        actions=6,
        limit=1.0,
        horizon=1000,
        random_score=-288.11,
        reference_score=4800.0,
        reference_source=_THRESHOLD,
    )
    FRAME_SKIP = 5

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.1, normal_velocities=True)

    def _observations(self, fields: Fields) -> np.ndarray:
        return fields["state"][:, 1:]

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(before["qpos"][:, 0], after["qpos"][:, 0])
        return forward - 0.1 * _effort(actions), _never(after)


class Hopper(Simulation):
    """Hop on one leg in a plane without falling. Erez, Tassa and Todorov 2011."""

    spec = _spec(
        "Hopper-v5",
        "hopper.xml",
        observations=11,
        actions=3,
        limit=1.0,
        horizon=1000,
        random_score=17.98,
        reference_score=3800.0,
        reference_source=_THRESHOLD,
    )
    FRAME_SKIP = 4
    # Bounds of a healthy hopper's height, angle, joint angles and velocities.
    LOW = np.array([0.7, -0.2] + 9 * [-100.0])
    HIGH = np.array([np.inf, 0.2] + 9 * [100.0])

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 5e-3)

    def _observations(self, fields: Fields) -> np.ndarray:
        return np.concatenate((fields["qpos"][:, 1:], _clip(fields["qvel"], 10.0)), axis=1)

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(before["qpos"][:, 0], after["qpos"][:, 0])
        checked = after["state"][:, 1 : 1 + len(self.LOW)]
        healthy = np.logical_and.reduce((checked > self.LOW) & (checked < self.HIGH), axis=1)
        return forward + healthy - 1e-3 * _effort(actions), ~healthy


class Walker2d(Hopper):
    """Walk on two legs in a plane without falling: the hopper with a second leg and wider bounds."""

    spec = _spec(
        "Walker2d-v5",
        "walker2d_v5.xml",
        observations=17,
        actions=6,
        limit=1.0,
        horizon=1000,
        random_score=1.87,
        reference_score=4700.0,
        reference_source="this suite's choice, as gymnasium registers none: TD3 within a million steps in "
        "Fujimoto et al. 2018 (4682.8 over 10 seeds of Walker2d-v1), rounded",
    )

    # Bounds of the height and angle only.
    LOW = np.array([0.8, -1.0])
    HIGH = np.array([2.0, 1.0])


class Ant(Simulation):
    """Walk on four legs without jumping too high or falling.

    Schulman, Moritz, Levine, Jordan and Abbeel 2015.
    """

    spec = _spec(
        "Ant-v5",
        "ant.xml",
        observations=105,
        actions=8,
        limit=1.0,
        horizon=1000,
        random_score=-58.70,
        reference_score=6000.0,
        reference_source=_THRESHOLD,
    )
    FRAME_SKIP = 5
    EXTRA_FIELDS = ("cfrc_ext", "xpos")
    TORSO = 1

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.1, normal_velocities=True)

    def _observations(self, fields: Fields) -> np.ndarray:
        forces = _clip(fields["cfrc_ext"][:, 1:], 1.0)  # all bodies except the world
        return np.concatenate(
            (fields["qpos"][:, 2:], fields["qvel"], forces.reshape(len(forces), -1)), axis=1
        )

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(before["xpos"][:, self.TORSO, 0], after["xpos"][:, self.TORSO, 0])
        height = after["qpos"][:, 2]
        finite = np.isfinite(after["state"]).all(axis=1)
        healthy = finite & (height >= 0.2) & (height <= 1.0)
        cost = 0.5 * _effort(actions) + 5e-4 * _squares(_clip(after["cfrc_ext"], 1.0))
        return forward + healthy - cost, ~healthy


class Humanoid(Simulation):
    """Walk on two legs without falling. Tassa, Erez and Todorov 2012."""

    spec = _spec(
        "Humanoid-v5",
        "humanoid.xml",
        observations=348,
        actions=17,
        limit=0.4,
        horizon=1000,
        random_score=113.98,
        reference_score=5500.0,
        reference_source="this suite's choice, as gymnasium registers none: SAC within a million steps in "
        "Tianshou's examples/mujoco/README.md (5488.5 over 10 seeds of Humanoid-v3), rounded",
    )
    FRAME_SKIP = 5
    EXTRA_FIELDS = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "ctrl", "xipos")

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 1e-2)

    def _observations(self, fields: Fields) -> np.ndarray:
        n = len(fields["qpos"])
        return np.concatenate(
            (
                fields["qpos"][:, 2:],
                fields["qvel"],
                fields["cinert"][:, 1:].reshape(n, -1),  # all bodies except the world
                fields["cvel"][:, 1:].reshape(n, -1),
                fields["qfrc_actuator"][:, 6:],  # all joints except the root
                fields["cfrc_ext"][:, 1:].reshape(n, -1),
            ),
            axis=1,
        )

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(self._mass_centre(before), self._mass_centre(after))
        height = after["qpos"][:, 2]
        healthy = (height > 1.0) & (height < 2.0)
        impact = np.minimum(5e-7 * _squares(after["cfrc_ext"]), 10.0)
        cost = 0.1 * _squares(after["ctrl"]) + impact
        return 1.25 * forward + 5.0 * healthy - cost, ~healthy

    def _mass_centre(self, fields: Fields) -> np.ndarray:
        """Return the x coordinate (n,) of the centre of mass."""
        mass = self._model.body_mass
        return np.einsum("b,nbj->nj", mass, fields["xipos"])[:, 0] / mass.sum()


class HumanoidStandup(Humanoid):
    """Stand up from lying on the back. The reward of each step grows with the height of the torso."""

    spec = _spec(
        "HumanoidStandup-v5",
        "humanoidstandup.xml",
        observations=348,
        actions=17,
        limit=0.4,
        horizon=1000,
        random_score=33_506.74,
        reference_score=150_000.0,
        reference_source="this suite's choice, as gymnasium registers none: PPO after four million steps in "
        "SLM Lab's docs/BENCHMARKS.md (150,105 in training over 4 seeds of HumanoidStandup-v5), rounded",
    )

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height = after["qpos"][:, 2] / self._model.opt.timestep
        impact = np.minimum(0.5e-6 * _squares(after["cfrc_ext"]), 10.0)
        return height - 0.1 * _squares(after["ctrl"]) - impact + 1, _never(after)


class Swimmer(Simulation):
    """Swim with three links in a plane of viscous fluid. Coulom 2002."""

    spec = _spec(
        "Swimmer-v5",
        "swimmer.xml",
        observations=8,
        actions=2,
        limit=1.0,
        horizon=1000,
        random_score=0.77,
        reference_score=360.0,
        reference_source=_THRESHOLD,
    )
    FRAME_SKIP = 4
    changes = ("mass",)  # it moves in a plane and has no contacts

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.1)

    def _observations(self, fields: Fields) -> np.ndarray:
        return fields["state"][:, 2:]

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(before["qpos"][:, 0], after["qpos"][:, 0])
        return forward - 1e-4 * _effort(actions), _never(after)


class Reacher(Simulation):
    """Move the fingertip of a two-link arm to a target, which is drawn anew for each episode."""

    spec = _spec(
        "Reacher-v5",
        "reacher.xml",
        observations=10,
        actions=2,
        limit=1.0,
        horizon=50,
        random_score=-42.89,
        reference_score=-3.75,
        reference_source=_THRESHOLD,
    )
    FRAME_SKIP = 2
    changes = ("mass",)  # it moves in a plane and has no contacts
    EXTRA_FIELDS = ("xpos",)
    FINGERTIP, TARGET = 3, 4

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        qpos = generator.uniform(-0.1, 0.1, self._model.nq) + self._model.qpos0
        while np.linalg.norm(target := generator.uniform(-0.2, 0.2, 2)) >= 0.2:
            pass
        qpos[-2:] = target
        qvel = generator.uniform(-0.005, 0.005, self._model.nv)
        qvel[-2:] = 0.0
        return np.concatenate((qpos, qvel))

    def _observations(self, fields: Fields) -> np.ndarray:
        angles = fields["qpos"][:, :2]
        offset = self._offset(fields)[:, :2]
        return np.concatenate(
            (np.cos(angles), np.sin(angles), fields["qpos"][:, 2:], fields["qvel"][:, :2], offset), axis=1
        )

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return -_length(self._offset(after)) - _effort(actions), _never(after)

    def _offset(self, fields: Fields) -> np.ndarray:
        """Return the vector (n, 3) from the target to the fingertip."""
        return fields["xpos"][:, self.FINGERTIP] - fields["xpos"][:, self.TARGET]


class Pusher(Simulation):
    """Push a cylinder on a table to a goal with a seven-joint arm."""

    spec = _spec(
        "Pusher-v5",
        "pusher_v5.xml",
        observations=23,
        actions=7,
        limit=2.0,
        horizon=100,
        random_score=-149.65,
        reference_score=0.0,
        reference_source=_THRESHOLD,
    )
    FRAME_SKIP = 5
    changes = ("mass",)  # there is no gravity, and contacts have no friction
    EXTRA_FIELDS = ("xpos",)
    TIP, OBJECT, GOAL = 10, 11, 12

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        qpos = self._model.qpos0.copy()
        while True:
            place = np.concatenate((generator.uniform(-0.3, 0, 1), generator.uniform(-0.2, 0.2, 1)))
            if np.linalg.norm(place) > 0.17:  # not too close to the goal
                break
        qpos[-4:-2] = place
        qpos[-2:] = 0.0
        qvel = generator.uniform(-0.005, 0.005, self._model.nv)
        qvel[-4:] = 0.0
        return np.concatenate((qpos, qvel))

    def _observations(self, fields: Fields) -> np.ndarray:
        places = fields["xpos"][:, [self.TIP, self.OBJECT, self.GOAL]]
        return np.concatenate(
            (fields["qpos"][:, :7], fields["qvel"][:, :7], places.reshape(len(places), -1)), axis=1
        )

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = after["xpos"]
        near = _length(places[:, self.OBJECT] - places[:, self.TIP])
        distance = _length(places[:, self.OBJECT] - places[:, self.GOAL])
        return -distance - 0.1 * _effort(actions) - 0.5 * near, _never(after)


class InvertedPendulum(Simulation):
    """Balance a pole on a cart with a force in [-3, 3]."""

    spec = _spec(
        "InvertedPendulum-v5",
        "inverted_pendulum.xml",
        observations=4,
        actions=1,
        limit=3.0,
        horizon=1000,
        random_score=4.98,
        reference_score=950.0,
        reference_source=_THRESHOLD,
    )
    FRAME_SKIP = 2
    changes = ("mass", "gravity")  # it has no contacts

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.01)

    def _observations(self, fields: Fields) -> np.ndarray:
        return fields["state"]

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        finite = np.isfinite(after["state"]).all(axis=1)
        healthy = finite & (np.abs(after["qpos"][:, 1]) <= 0.2)
        return healthy.astype(np.float64), ~healthy


class InvertedDoublePendulum(Simulation):
    """Balance two poles, one on top of the other, on a cart."""

    spec = _spec(
        "InvertedDoublePendulum-v5",
        "inverted_double_pendulum.xml",
        observations=9,
        actions=1,
        limit=1.0,
        horizon=1000,
        random_score=47.22,
        reference_score=9100.0,
        reference_source=_THRESHOLD,
    )
    FRAME_SKIP = 5
    changes = ("mass", "gravity")  # it has no contacts
    EXTRA_FIELDS = ("qfrc_constraint", "site_xpos")

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.1, normal_velocities=True)

    def _observations(self, fields: Fields) -> np.ndarray:
        angles = fields["qpos"][:, 1:]
        speeds = _clip(fields["qvel"], 10.0)
        force = _clip(fields["qfrc_constraint"][:, :1], 10.0)
        return np.concatenate((fields["qpos"][:, :1], np.sin(angles), np.cos(angles), speeds, force), axis=1)

    def _outcome(self, before: Fields, after: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, height = after["site_xpos"][:, 0, 0], after["site_xpos"][:, 0, 2]  # tip of the upper pole
        terminated = height <= 1
        spin1, spin2 = np.float_power(after["qvel"][:, 1:], 2.0).T
        distance = 0.01 * np.float_power(x, 2.0) + np.float_power(height - 2, 2.0)
        spin = 1e-3 * spin1 + 5e-3 * spin2
        return 10.0 * ~terminated - distance - spin, terminated


BATCHES: tuple[type[Batch], ...] = (
    HalfCheetah,
    Hopper,
    Walker2d,
    Ant,
    Humanoid,
    HumanoidStandup,
    Swimmer,
    Reacher,
    Pusher,
    InvertedPendulum,
    InvertedDoublePendulum,
)
