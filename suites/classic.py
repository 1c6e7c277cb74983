"""Classic control as batched numpy twins of gymnasium 1.4's environments, equal to them bit for bit.

gymnasium (`gymnasium.envs.classic_control`, Towers et al. 2024) defines these tasks. This module computes its
equations on arrays. A sum or product in another order, a reciprocal, or `x * x` instead of a power rounds
differently in the last bit, and a few hundred steps turn that into another trajectory. The order of
operations is therefore gymnasium's, and these rules apply:

- `x ** 2` of a numpy scalar is libm's `pow`, which does not always equal the correctly rounded `x * x` that
  arrays compute. `np.float_power(x, 2.0)` calls the same `pow` for every element; `np.power` uses another
  kernel.
- A Python number combined with a float32 is rounded to float32 (NEP 50), for arrays and scalars alike.
- Values are clipped with `np.minimum(np.maximum(...))`, which equals `np.clip` and takes half the time.
"""

import math
from functools import partial

import numpy as np
from gymnasium.spaces import Box, Discrete

from ascent.suites.batch import Batch
from ascent.suites.spec import Spec

VERSION = 1  # version of the results; increase it with any change that changes a trajectory

_spec = partial(
    Spec,
    suite="classic",
    return_convention="sum of rewards over the episode, undiscounted",
    packages=("gymnasium",),
)
_THRESHOLD = "reward_threshold registered by gymnasium"


def _box(*high: float) -> Box:
    """Return the float32 box from -high to high."""
    limit = np.array(high, dtype=np.float32)
    return Box(-limit, limit)


class CartPole(Batch):
    """Balance a pole on a cart by pushing the cart left or right with 10 N.

    Physics: position and velocity of the cart, angle and angular velocity of the pole.
    Barto, Sutton and Anderson 1983, with the equations of Florian 2007.
    """

    spec = _spec(
        id="CartPole-v1",
        observation_space=_box(2 * 2.4, np.inf, 2 * (12 * 2 * math.pi / 360), np.inf),
        action_space=Discrete(2),
        horizon=500,
        budget=100_000,
        random_score=22.30,
        reference_score=475.0,
        reference_source=_THRESHOLD,
    )

    GRAVITY = 9.8
    POLE_MASS = 0.1
    TOTAL_MASS = 0.1 + 1.0
    HALF_LENGTH = 0.5
    POLE_MOMENT = 0.1 * 0.5
    FORCES = np.array([-10.0, 10.0])
    SECONDS_PER_STEP = 0.02
    X_LIMIT = 2.4
    ANGLE_LIMIT = 12 * 2 * math.pi / 360
    changes = ("mass", "length", "gravity")  # mass and length are the pole's

    def _change(self, kind: str, factor: float) -> None:
        if kind == "gravity":
            self.GRAVITY *= factor
        elif kind == "mass":
            self.POLE_MASS *= factor
            self.TOTAL_MASS = self.POLE_MASS + 1.0
        else:
            self.HALF_LENGTH *= factor
        self.POLE_MOMENT = self.POLE_MASS * self.HALF_LENGTH

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-0.05, 0.05, 4)

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        _, velocity, angle, spin = physics
        cos, sin = np.cos(angle), np.sin(angle)
        push = (self.FORCES[actions] + self.POLE_MOMENT * np.square(spin) * sin) / self.TOTAL_MASS
        spin_change = (self.GRAVITY * sin - cos * push) / (
            self.HALF_LENGTH * (4.0 / 3.0 - self.POLE_MASS * np.square(cos) / self.TOTAL_MASS)
        )
        rate = np.empty_like(physics)
        rate[0] = velocity
        rate[1] = push - self.POLE_MOMENT * spin_change * cos / self.TOTAL_MASS
        rate[2] = spin
        rate[3] = spin_change
        moved = physics + self.SECONDS_PER_STEP * rate
        terminated = (np.abs(moved[0]) > self.X_LIMIT) | (np.abs(moved[2]) > self.ANGLE_LIMIT)
        return moved, np.ones(len(actions)), terminated


class Acrobot(Batch):
    """Swing the tip of two hanging links above a bar with a torque at the joint between them.

    Physics: angle of the first link (0 hangs down), angle of the second relative to the first, and the
    angular velocities of both. Sutton 1996, with the equations of Sutton and Barto's book, integrated with
    the fourth-order Runge-Kutta method over 0.2 s.

    Masses, lengths and inertias are 1, and the centres of the links are at 0.5. These factors are folded into
    the constants below; multiplication by 1 or by a power of 2 does not round.
    """

    spec = _spec(
        id="Acrobot-v1",
        observation_space=_box(1.0, 1.0, 1.0, 1.0, 4 * math.pi, 9 * math.pi),
        action_space=Discrete(3),
        horizon=500,
        budget=200_000,
        random_score=-498.98,
        reference_score=-100.0,
        reference_source=_THRESHOLD,
    )

    GRAVITY = 9.8
    TORQUES = np.array([-1.0, 0.0, 1.0])
    SECONDS_PER_STEP = 0.2
    SPIN_LIMITS = np.array([[4 * math.pi], [9 * math.pi]])
    changes = ("gravity",)

    def _change(self, kind: str, factor: float) -> None:
        self.GRAVITY *= factor

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        # The original stores the initial state in float32 and steps from it in float64.
        return generator.uniform(-0.1, 0.1, 4).astype(np.float32).astype(np.float64)

    def _observe_starts(self, physics: np.ndarray) -> np.ndarray:
        return self._observe(physics.astype(np.float32))  # only the first observation uses float32 sines

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        obs = np.empty((physics.shape[1], 6), dtype=np.float32)
        angles = physics[:2]
        obs[:, 0:4:2] = np.cos(angles).T
        obs[:, 1:4:2] = np.sin(angles).T
        obs[:, 4:] = physics[2:].T
        return obs

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        torque = self.TORQUES[actions]
        dt = self.SECONDS_PER_STEP
        k1 = self._rate(physics, torque)
        k2 = self._rate(physics + dt / 2.0 * k1, torque)
        k3 = self._rate(physics + dt / 2.0 * k2, torque)
        k4 = self._rate(physics + dt * k3, torque)
        physics = physics + dt / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
        angles, spins = physics[:2], physics[2:]  # views
        # The original wraps angles by repeated subtraction and addition; a remainder would round differently.
        while (above := angles > math.pi).any():
            np.subtract(angles, 2 * math.pi, out=angles, where=above)
        while (below := angles < -math.pi).any():
            np.add(angles, 2 * math.pi, out=angles, where=below)
        np.minimum(np.maximum(spins, -self.SPIN_LIMITS), self.SPIN_LIMITS, out=spins)
        terminated = -np.cos(angles[0]) - np.cos(angles[1] + angles[0]) > 1.0
        return physics, np.where(terminated, 0.0, -1.0), terminated

    def _rate(self, physics: np.ndarray, torque: np.ndarray) -> np.ndarray:
        """Return the time derivative (4, n) of physics (4, n) under torque (n,). Names follow the book."""
        theta1, theta2, spin1, spin2 = physics
        spin1_squared, spin2_squared = np.float_power(physics[2:], 2.0)
        cos2, sin2 = np.cos(theta2), np.sin(theta2)
        d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0
        d2 = 0.25 + 0.5 * cos2 + 1.0
        phi2 = 0.5 * self.GRAVITY * np.cos(theta1 + theta2 - math.pi / 2.0)
        phi1 = (
            -0.5 * spin2_squared * sin2
            - spin2 * spin1 * sin2
            + 1.5 * self.GRAVITY * np.cos(theta1 - math.pi / 2.0)
            + phi2
        )
        rate = np.empty_like(physics)
        rate[:2] = physics[2:]
        rate[3] = (torque + d2 / d1 * phi1 - 0.5 * spin1_squared * sin2 - phi2) / (
            1.25 - np.float_power(d2, 2.0) / d1
        )
        rate[2] = -(d2 * rate[3] + phi1) / d1
        return rate


class MountainCar(Batch):
    """Drive an underpowered car out of a valley by pushing it left, right, or not at all.

    Physics: position, velocity. Moore 1990. All arithmetic is float64.
    """

    spec = _spec(
        id="MountainCar-v0",
        observation_space=Box(np.array([-1.2, -0.07], np.float32), np.array([0.6, 0.07], np.float32)),
        action_space=Discrete(3),
        horizon=200,
        budget=500_000,
        random_score=-200.0,
        reference_score=-110.0,
        reference_source=_THRESHOLD,
    )

    PUSHES = np.array([-0.001, 0.0, 0.001])
    GRAVITY = 0.0025
    LEFT, RIGHT, GOAL = -1.2, 0.6, 0.5
    TOP_SPEED = 0.07
    changes = ("gravity",)

    def _change(self, kind: str, factor: float) -> None:
        self.GRAVITY *= factor

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return np.array([generator.uniform(-0.6, -0.4), 0.0])

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        position, velocity = physics
        velocity = velocity + (self.PUSHES[actions] + np.cos(3 * position) * -self.GRAVITY)
        velocity = np.minimum(np.maximum(velocity, -self.TOP_SPEED), self.TOP_SPEED)
        position = np.minimum(np.maximum(position + velocity, self.LEFT), self.RIGHT)
        velocity[(position == self.LEFT) & (velocity < 0)] = 0.0  # the left wall stops the car
        terminated = (position >= self.GOAL) & (velocity >= 0)
        return np.stack((position, velocity)), np.full(len(actions), -1.0), terminated


class MountainCarContinuous(Batch):
    """Mountain car with a continuous force in [-1, 1], which costs reward. Physics: position, velocity.

    The original computes the first step of an episode in float64 and all others in float32.
    """

    spec = _spec(
        id="MountainCarContinuous-v0",
        observation_space=Box(np.array([-1.2, -0.07], np.float32), np.array([0.6, 0.07], np.float32)),
        action_space=Box(-1.0, 1.0, (1,)),
        horizon=999,
        budget=300_000,
        random_score=-33.07,
        reference_score=90.0,
        reference_source=_THRESHOLD,
    )

    POWER = 0.0015
    GRAVITY = 0.0025
    LEFT, RIGHT, GOAL = -1.2, 0.6, 0.45
    TOP_SPEED = 0.07
    changes = ("gravity",)

    def _change(self, kind: str, factor: float) -> None:
        self.GRAVITY *= factor

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return np.array([generator.uniform(-0.6, -0.4), 0.0])

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        action = actions[:, 0]
        moved = self._move(physics.astype(np.float32), action)
        first = self._elapsed == 0
        if first.any():
            moved[:, first] = self._move(physics[:, first], action[first])  # the assignment rounds to float32
        position, velocity = moved
        terminated = (position >= self.GOAL) & (velocity >= 0)
        # The cost uses the action before clipping. In float64 the square of a float32 is exact.
        reward = np.where(terminated, 100.0, 0.0) - np.square(action, dtype=np.float64) * 0.1
        return moved.astype(np.float64), reward, terminated

    def _move(self, physics: np.ndarray, action: np.ndarray) -> np.ndarray:
        """Return the next physics (2, n) under action (n,) float32, in the type of `physics`."""
        position, velocity = physics
        pull = self.GRAVITY * np.cos((3 * position).astype(np.float64))
        # In the original a force in range stays a float32; one out of range becomes the Python number 1.0
        # or -1.0.
        in_range = action * self.POWER - pull.astype(np.float32)
        out_of_range = np.sign(action, dtype=np.float64) * self.POWER - pull
        change = np.where(np.abs(action) <= 1.0, in_range, out_of_range)  # NaN stays NaN
        velocity = velocity + change.astype(physics.dtype)
        velocity = np.minimum(np.maximum(velocity, -self.TOP_SPEED), self.TOP_SPEED)
        position = np.minimum(np.maximum(position + velocity, self.LEFT), self.RIGHT)
        velocity[(position == self.LEFT) & (velocity < 0)] = 0.0  # the left wall stops the car
        return np.stack((position, velocity))


class Pendulum(Batch):
    """Swing a pendulum up and balance it with a torque in [-2, 2].

    Physics: angle (0 is upright), angular velocity.
    """

    spec = _spec(
        id="Pendulum-v1",
        observation_space=_box(1.0, 1.0, 8.0),
        action_space=Box(-2.0, 2.0, (1,)),
        horizon=200,
        budget=300_000,
        random_score=-1225.75,
        reference_score=-150.0,
        reference_source="this suite's choice, as gymnasium registers none: the best of RL Baselines3 Zoo's "
        "benchmark.md (TD3, -151.9 over 750 episodes), rounded",
    )

    GRAVITY_TERM = 15.0  # 3 g / (2 l) for g = 10, l = 1
    TORQUE_TERM = 3.0  # 3 / (m l^2) for m = 1
    TOP_TORQUE = 2.0
    TOP_SPIN = 8.0
    SECONDS_PER_STEP = 0.05
    START_LIMITS = np.array([math.pi, 1.0])
    changes = ("mass", "length", "gravity")

    def _change(self, kind: str, factor: float) -> None:
        values = {"gravity": 10.0, "mass": 1.0, "length": 1.0}
        values[kind] *= factor
        self.GRAVITY_TERM = 3 * values["gravity"] / (2 * values["length"])
        self.TORQUE_TERM = 3.0 / (values["mass"] * values["length"] ** 2)

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-self.START_LIMITS, self.START_LIMITS)

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        angle, spin = physics
        obs = np.empty((len(angle), 3), dtype=np.float32)
        obs[:, 0] = np.cos(angle)
        obs[:, 1] = np.sin(angle)
        obs[:, 2] = spin
        return obs

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        angle, spin = physics
        torque = np.minimum(np.maximum(actions[:, 0], -self.TOP_TORQUE), self.TOP_TORQUE)  # (n,) float32
        # Only numpy scalars use libm's `powf`, so the squares are computed one by one.
        torque_squared = np.array([u**2 for u in torque], dtype=np.float32)
        upright = (angle + math.pi) % (2 * math.pi) - math.pi
        cost = np.float_power(upright, 2.0) + 0.1 * np.float_power(spin, 2.0) + 0.001 * torque_squared
        acceleration = self.GRAVITY_TERM * np.sin(angle) + self.TORQUE_TERM * torque
        spin = spin + acceleration * self.SECONDS_PER_STEP
        spin = np.minimum(np.maximum(spin, -self.TOP_SPIN), self.TOP_SPIN)
        angle = angle + spin * self.SECONDS_PER_STEP
        return np.stack((angle, spin)), -cost, np.zeros(len(angle), dtype=bool)


BATCHES: tuple[type[Batch], ...] = (CartPole, Acrobot, MountainCar, MountainCarContinuous, Pendulum)
