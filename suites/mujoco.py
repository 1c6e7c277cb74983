"""MuJoCo's tasks as batches, equal to gymnasium 1.4's environments (`*-v5`) bit for bit.

gymnasium (`gymnasium.envs.mujoco`, Towers et al. 2024) defines these tasks. MuJoCo itself (Todorov, Erez and
Tassa 2012) moves the bodies, from gymnasium's own model files; around it, observations, rewards and flags
are computed for the whole batch at once. They repeat gymnasium's order of operations, because another order
rounds differently in the last bit. And these rules hold:

- actions are float32, and so are the sum of their squares and its product with a Python number. The humanoids
  pay for `ctrl` instead, what the simulator was given, in float64.
- actions are not clipped: the one given is paid for, and MuJoCo limits its force by the model's `ctrlrange`.
- `x ** 2` of one numpy scalar is libm's `pow`, for arrays `np.float_power(x, 2.0)`; `np.square` is `x * x`.
- `np.vecdot` of a vector with itself is the BLAS product inside `np.linalg.norm`.
- positions of bodies (`xpos`, `xipos`, `site_xpos`) lag: after a step they belong to the state before the
  last of its substeps. Nothing computes them anew from a saved state, so they are saved with it.
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

# What a task looks at by the names of MjData, each (n, ...), and qpos and qvel joined as "state".
Fields = dict[str, np.ndarray]

VERSION = 1  # of the results of this module: raise it with any change that changes a trajectory

# What mj_step continues from to the bit. mjSTATE_FULLPHYSICS would leave out the solver's warm start.
_SAVED = int(mujoco.mjtState.mjSTATE_INTEGRATION)

# Seconds of simulation that are worth a thread: with less for each of two, one was faster (on two cores, ten
# HalfCheetahs 0.8 times as fast by two threads, ten Humanoids 1.4 times, eighty 1.8 times).
_WORTH_A_THREAD = 0.7e-3

_ASSETS = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
_THRESHOLD = "reward_threshold registered by gymnasium"


def _spec(task: str, model: str, observations: int, actions: int, limit: float, **facts: object) -> Spec:
    """The facts that MuJoCo's tasks share, and those of one: sizes, and the limit of an action's size."""
    return Spec(
        id=task,
        suite="mujoco",
        observation_space=Box(-np.inf, np.inf, (observations,)),
        action_space=Box(-limit, limit, (actions,)),
        budget=1_000_000,
        return_convention="sum of rewards over the episode, undiscounted",
        packages=("gymnasium", "mujoco"),
        model=_ASSETS / model,
        **facts,
    )


@cache
def _model(task: str, path: Path) -> mujoco.MjModel:
    """The compiled model of a task, once per process: a simulation only reads it."""
    remedy = f"reinstall gymnasium=={gymnasium.__version__}, which it comes with"
    if not path.exists():
        raise FileNotFoundError(f"{task}: there is no model file {path}; {remedy}")
    try:
        with quiet():
            return mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise ValueError(f"{task}: MuJoCo cannot read the model file {path}; {remedy}") from error


@contextmanager
def quiet() -> Iterator[None]:
    """While a model is read: gymnasium's files use an attribute that MuJoCo calls deprecated, on the console
    and in a log file of its own in the working folder. That is no news to whoever runs a task.
    """
    heard = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(heard)


def _step_seconds(model: mujoco.MjModel, frame_skip: int) -> float:
    """How long one step of one environment takes, about."""
    data, seconds = mujoco.MjData(model), []
    for _ in range(4):  # the first is slow
        start = time.perf_counter()
        mujoco.mj_step(model, data, frame_skip)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _counters(data: mujoco.MjData) -> np.ndarray:
    """A view of the counters in `MjData.warning` that speak of bad numbers, and of what lies between them.

    They are neighbours: those of qpos, qvel, qacc and ctrl. Each is followed by the place of the next one's
    number; a view without gaps is faster to read.
    """
    numbers = data.warning.number[int(mujoco.mjtWarning.mjWARN_BADQPOS) :]
    return np.lib.stride_tricks.as_strided(numbers, (7,), (numbers.itemsize,))


class Simulation(Batch):
    """A task in MuJoCo. Physics: qpos, qvel and the fields named in `LOOKED_AT`, flat, one after the other.

    A task is a subclass with a `spec`, the class variables below, and `_start`, `_see` and `_judge`.

    Where a state goes bad (NaN, or numbers beyond 1e10), MuJoCo resets it by itself and goes on from the
    model's own state, in gymnasium as here. It counts such cases in `MjData.warning`: see `_unstable`.
    """

    FRAME_SKIP: ClassVar[int]  # simulator steps in one step of the task
    LOOKED_AT: ClassVar[tuple[str, ...]] = ()  # fields of MjData that the task needs beside qpos and qvel
    changes = ("mass", "friction", "gravity")

    def __init__(self, env_seeds: np.ndarray, threads: int = 1) -> None:
        super().__init__(env_seeds, threads)
        self._model = _model(self.spec.id, self.spec.model)
        self._seconds_per_step = self._model.opt.timestep * self.FRAME_SKIP
        n = self._elapsed.size
        self._data = [mujoco.MjData(self._model) for _ in range(n)]
        names = ("qpos", "qvel", *self.LOOKED_AT)
        # Views of the simulators' own memory: looking up an attribute of MjData takes longer than copying it.
        self._ctrl = [memoryview(data.ctrl) for data in self._data]
        self._looked_at = [[getattr(data, name).reshape(-1) for name in names] for data in self._data]
        self._all_looked_at = [memoryview(field) for fields in self._looked_at for field in fields]
        self._counters = [_counters(data) for data in self._data]
        self._counted = np.zeros((n, self._counters[0].size), dtype=np.int32)  # the counters as last seen
        # Name, columns of the physics, and the shape of a field that is not flat.
        self._layout = [("state", slice(0, self._model.nq + self._model.nv), ())]
        stop = 0
        for name in names:
            shape = getattr(self._data[0], name).shape
            start, stop = stop, stop + math.prod(shape)
            self._layout.append((name, slice(start, stop), shape if len(shape) > 1 else ()))
        self._split = (np.empty(0), {})  # the last argument of `_fields` and its answer
        self._threads = min(threads, n)
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None
        self._seconds = _step_seconds(self._model, self.FRAME_SKIP) if self._threads > 1 else 0.0
        self._deal(range(n))

    @classmethod
    def check(cls) -> None:
        _model(cls.spec.id, cls.spec.model)

    # What a task defines.

    @abstractmethod
    def _start(self, generator: np.random.Generator) -> np.ndarray:
        """Draws qpos and qvel, joined, in which an episode of one environment begins."""

    @abstractmethod
    def _see(self, now: Fields) -> np.ndarray:
        """Observations (n, O) float64."""

    @abstractmethod
    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reward (n,) float64 and terminated (n,) bool of a step under actions (n, A) float32."""

    # What all tasks share.

    def _change(self, kind: str, factor: float) -> None:
        model = copy.copy(self._model)  # other batches have the task's own
        if kind == "mass":  # of all bodies
            model.body_mass *= factor
            model.body_inertia *= factor
        elif kind == "friction":  # of all surfaces: sliding, torsional, rolling
            model.geom_friction *= factor
        else:
            model.opt.gravity *= factor
        mujoco.mj_setConst(model, mujoco.MjData(model))  # what the compiler made of masses
        self._model = model

    def _begin(self, i: int) -> np.ndarray:
        start = self._start(self._generators[i])
        data = self._data[i]
        mujoco.mj_resetData(self._model, data)
        data.qpos[:] = start[: self._model.nq]
        data.qvel[:] = start[self._model.nq :]
        mujoco.mj_forward(self._model, data)
        self._counted[i] = 0
        return np.concatenate(self._looked_at[i])

    def _deal(self, environments: Sequence[int]) -> None:
        """Deals the environments that are to be simulated to as many threads as are worth it."""
        n, k = len(environments), self._threads
        while k > 1 and n * self._seconds < k * _WORTH_A_THREAD:
            k -= 1
        self._chunks = [environments[n * i // k : n * (i + 1) // k] for i in range(k)]

    def retire(self, flags: np.ndarray) -> None:
        self._deal(np.flatnonzero(np.logical_not(flags)).tolist())

    def reset(self) -> np.ndarray:
        self._deal(range(len(self._data)))
        return super().reset()

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ctrl = memoryview(actions.astype(np.float64).reshape(-1))
        if len(self._chunks) == 1:
            self._simulate(ctrl, self._chunks[0])
        else:
            for _ in self._pool.map(partial(self._simulate, ctrl), self._chunks):
                pass  # raises what a thread raised
        # Joining buffers is several times faster than np.concatenate of as many arrays.
        after = np.frombuffer(bytearray().join(self._all_looked_at)).reshape(len(actions), -1).T
        reward, terminated = self._judge(self._fields(physics), self._fields(after), actions)
        return after, reward, terminated

    def _simulate(self, ctrl: memoryview, chunk: Sequence[int]) -> None:
        """Moves some environments one step. Threads work on different ones at the same time."""
        model, frame_skip, contact_forces = self._model, self.FRAME_SKIP, "cfrc_ext" in self.LOOKED_AT
        size = model.nu
        for i in chunk:
            data = self._data[i]
            self._ctrl[i][:] = ctrl[i * size : (i + 1) * size]
            mujoco.mj_step(model, data, frame_skip)
            if contact_forces:
                mujoco.mj_rnePostConstraint(model, data)  # computes cfrc_ext, which mj_step leaves out

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        return self._see(self._fields(physics)).astype(np.float32)

    def _fields(self, physics: np.ndarray) -> Fields:
        """Views of physics (K, n) as what it is made of."""
        known, fields = self._split
        if physics is not known:  # after a step they are asked for thrice
            rows = physics.T
            fields = {
                name: rows[:, columns].reshape(-1, *shape) if shape else rows[:, columns]
                for name, columns, shape in self._layout
            }
            self._split = (physics, fields)
        return fields

    def _unstable(self) -> np.ndarray:
        flags = np.zeros(len(self._data), dtype=bool)
        now = b"".join(self._counters)
        if now != self._counted.tobytes():
            flags = (np.frombuffer(now, np.int32).reshape(self._counted.shape) != self._counted).any(axis=1)
            for i in flags.nonzero()[0]:
                # With a state, MuJoCo resets the counters too, and counts 1: after that, the next reset would
                # not show. But at 0 it would print its warning again. So the counters are set to 2.
                self._counters[i][:] = self._counted[i] = 2
        return flags.reshape(self.shape)

    def state(self) -> dict[str, np.ndarray]:
        """As in `Batch`, and simulation (S, E, N) float64: MuJoCo's own state, as mj_getState gives it."""
        state = super().state()
        simulations = np.empty((len(self._data), mujoco.mj_stateSize(self._model, _SAVED)))
        for data, simulation in zip(self._data, simulations, strict=True):
            mujoco.mj_getState(self._model, data, simulation, _SAVED)
        return state | {"simulation": simulations.reshape(*self.shape, -1)}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        super().load_state(state)
        self._deal(range(len(self._data)))
        simulations = state["simulation"].reshape(len(self._data), -1)
        for data, simulation, counters in zip(self._data, simulations, self._counters, strict=True):
            mujoco.mj_setState(self._model, data, simulation, _SAVED)
            counters[:] = 0
        self._counted[:] = 0

    # What tasks have in common.

    def _start_near(
        self, generator: np.random.Generator, scale: float, normal_velocities: bool = False
    ) -> np.ndarray:
        """qpos and qvel near the model's own: uniform noise within `scale`, or normal noise on velocities."""
        qpos = self._model.qpos0 + generator.uniform(-scale, scale, self._model.nq)
        if normal_velocities:
            qvel = scale * generator.standard_normal(self._model.nv)
        else:
            qvel = generator.uniform(-scale, scale, self._model.nv)
        return np.concatenate((qpos, qvel))

    def _speed(self, before: np.ndarray, now: np.ndarray) -> np.ndarray:
        return (now - before) / self._seconds_per_step


def _clip(values: np.ndarray, limit: float) -> np.ndarray:
    """np.clip to [-limit, limit], in half the time."""
    return np.minimum(np.maximum(values, -limit), limit)


def _never(now: Fields) -> np.ndarray:
    """Terminated, for tasks that only the time limit ends."""
    return np.zeros(len(now["qpos"]), dtype=bool)


def _effort(actions: np.ndarray) -> np.ndarray:
    """Sum of squares (n,) float32 of actions (n, A) float32."""
    return np.add.reduce(np.square(actions), axis=1)


def _squares(fields: np.ndarray) -> np.ndarray:
    """Sum of squares (n,) of everything in fields (n, ...)."""
    return np.add.reduce(np.square(fields.reshape(len(fields), -1)), axis=1)


def _length(vectors: np.ndarray) -> np.ndarray:
    """Euclidean length (n,) of vectors (n, 3)."""
    return np.sqrt(np.vecdot(vectors, vectors))


class HalfCheetah(Simulation):
    """Run: two legs in a plane, which cannot fall out of the task. Wawrzynski 2009."""

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

    def _see(self, now: Fields) -> np.ndarray:
        return now["state"][:, 1:]

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(before["qpos"][:, 0], now["qpos"][:, 0])
        return forward - 0.1 * _effort(actions), _never(now)


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
    # A healthy hopper's height, angle, joints and speeds lie between these.
    LOW = np.array([0.7, -0.2] + 9 * [-100.0])
    HIGH = np.array([np.inf, 0.2] + 9 * [100.0])

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 5e-3)

    def _see(self, now: Fields) -> np.ndarray:
        return np.concatenate((now["qpos"][:, 1:], _clip(now["qvel"], 10.0)), axis=1)

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(before["qpos"][:, 0], now["qpos"][:, 0])
        checked = now["state"][:, 1 : 1 + len(self.LOW)]
        healthy = np.logical_and.reduce((checked > self.LOW) & (checked < self.HIGH), axis=1)
        return forward + healthy - 1e-3 * _effort(actions), ~healthy


class Walker2d(Hopper):
    """Walk on two legs in a plane without falling: the hopper with a second leg and wider limits."""

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

    # Of the height and angle only.
    LOW = np.array([0.8, -1.0])
    HIGH = np.array([2.0, 1.0])


class Ant(Simulation):
    """Walk on four legs without a leap or a fall. Schulman, Moritz, Levine, Jordan and Abbeel 2015."""

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
    LOOKED_AT = ("cfrc_ext", "xpos")
    TORSO = 1

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.1, normal_velocities=True)

    def _see(self, now: Fields) -> np.ndarray:
        forces = _clip(now["cfrc_ext"][:, 1:], 1.0)  # of all bodies but the world
        return np.concatenate((now["qpos"][:, 2:], now["qvel"], forces.reshape(len(forces), -1)), axis=1)

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(before["xpos"][:, self.TORSO, 0], now["xpos"][:, self.TORSO, 0])
        height = now["qpos"][:, 2]
        finite = np.isfinite(now["state"]).all(axis=1)
        healthy = finite & (height >= 0.2) & (height <= 1.0)
        cost = 0.5 * _effort(actions) + 5e-4 * _squares(_clip(now["cfrc_ext"], 1.0))
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
    LOOKED_AT = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext", "ctrl", "xipos")

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 1e-2)

    def _see(self, now: Fields) -> np.ndarray:
        n = len(now["qpos"])
        return np.concatenate(
            (
                now["qpos"][:, 2:],
                now["qvel"],
                now["cinert"][:, 1:].reshape(n, -1),  # of all bodies but the world
                now["cvel"][:, 1:].reshape(n, -1),
                now["qfrc_actuator"][:, 6:],  # of all joints but the root's
                now["cfrc_ext"][:, 1:].reshape(n, -1),
            ),
            axis=1,
        )

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(self._mass_centre(before), self._mass_centre(now))
        height = now["qpos"][:, 2]
        healthy = (height > 1.0) & (height < 2.0)
        impact = np.minimum(5e-7 * _squares(now["cfrc_ext"]), 10.0)
        cost = 0.1 * _squares(now["ctrl"]) + impact
        return 1.25 * forward + 5.0 * healthy - cost, ~healthy

    def _mass_centre(self, now: Fields) -> np.ndarray:
        """x (n,) of the centre of mass."""
        mass = self._model.body_mass
        return np.einsum("b,nbj->nj", mass, now["xipos"])[:, 0] / mass.sum()


class HumanoidStandup(Humanoid):
    """The humanoid lies on its back and is to get up, paid by the height of its torso at each step."""

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

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        height = now["qpos"][:, 2] / self._model.opt.timestep
        impact = np.minimum(0.5e-6 * _squares(now["cfrc_ext"]), 10.0)
        return height - 0.1 * _squares(now["ctrl"]) - impact + 1, _never(now)


class Swimmer(Simulation):
    """Swim: three links in a plane of viscous fluid. Coulom 2002."""

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
    changes = ("mass",)  # it swims in a plane, and touches nothing

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.1)

    def _see(self, now: Fields) -> np.ndarray:
        return now["state"][:, 2:]

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        forward = self._speed(before["qpos"][:, 0], now["qpos"][:, 0])
        return forward - 1e-4 * _effort(actions), _never(now)


class Reacher(Simulation):
    """Bring the fingertip of an arm of two links to a target that moves at each new episode."""

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
    changes = ("mass",)  # it moves in a plane, and touches nothing
    LOOKED_AT = ("xpos",)
    FINGERTIP, TARGET = 3, 4

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        qpos = generator.uniform(-0.1, 0.1, self._model.nq) + self._model.qpos0
        while np.linalg.norm(target := generator.uniform(-0.2, 0.2, 2)) >= 0.2:
            pass
        qpos[-2:] = target
        qvel = generator.uniform(-0.005, 0.005, self._model.nv)
        qvel[-2:] = 0.0
        return np.concatenate((qpos, qvel))

    def _see(self, now: Fields) -> np.ndarray:
        angles = now["qpos"][:, :2]
        way = self._way(now)[:, :2]
        return np.concatenate(
            (np.cos(angles), np.sin(angles), now["qpos"][:, 2:], now["qvel"][:, :2], way), axis=1
        )

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return -_length(self._way(now)) - _effort(actions), _never(now)

    def _way(self, now: Fields) -> np.ndarray:
        """From the target to the fingertip, (n, 3)."""
        return now["xpos"][:, self.FINGERTIP] - now["xpos"][:, self.TARGET]


class Pusher(Simulation):
    """Push a cylinder to a goal on a table with an arm of seven joints."""

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
    changes = ("mass",)  # there is no gravity, and what touches has no friction
    LOOKED_AT = ("xpos",)
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

    def _see(self, now: Fields) -> np.ndarray:
        places = now["xpos"][:, [self.TIP, self.OBJECT, self.GOAL]]
        return np.concatenate(
            (now["qpos"][:, :7], now["qvel"][:, :7], places.reshape(len(places), -1)), axis=1
        )

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        places = now["xpos"]
        near = _length(places[:, self.OBJECT] - places[:, self.TIP])
        distance = _length(places[:, self.OBJECT] - places[:, self.GOAL])
        return -distance - 0.1 * _effort(actions) - 0.5 * near, _never(now)


class InvertedPendulum(Simulation):
    """Balance a pole on a cart by a force within [-3, 3]."""

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
    changes = ("mass", "gravity")  # nothing touches

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.01)

    def _see(self, now: Fields) -> np.ndarray:
        return now["state"]

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        finite = np.isfinite(now["state"]).all(axis=1)
        healthy = finite & (np.abs(now["qpos"][:, 1]) <= 0.2)
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
    changes = ("mass", "gravity")  # nothing touches
    LOOKED_AT = ("qfrc_constraint", "site_xpos")

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return self._start_near(generator, 0.1, normal_velocities=True)

    def _see(self, now: Fields) -> np.ndarray:
        angles = now["qpos"][:, 1:]
        speeds = _clip(now["qvel"], 10.0)
        force = _clip(now["qfrc_constraint"][:, :1], 10.0)
        return np.concatenate((now["qpos"][:, :1], np.sin(angles), np.cos(angles), speeds, force), axis=1)

    def _judge(self, before: Fields, now: Fields, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, height = now["site_xpos"][:, 0, 0], now["site_xpos"][:, 0, 2]  # of the upper pole's tip
        terminated = height <= 1
        spin1, spin2 = np.float_power(now["qvel"][:, 1:], 2.0).T
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
