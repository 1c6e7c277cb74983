"""The particle worlds of mpe2, formerly OpenAI's and then PettingZoo's: agents that move in a plane.

The facts are those of mpe2 1.1.1 and of the original (github.com/openai/multiagent-particle-envs). A twin may
differ from mpe2 in the last bit unless it follows these rules:

- Positions change by the velocity before the step; then damping, forces and the speed limit change the
  velocity.
- Contact forces are added pair by pair, in the order of the entities, agents before landmarks.
- A reward starts as the integer 0, so it is 0.0 - c and never -0.0.
- The difference between the components of a continuous action is computed in float32.
- In simple_world_comm, food and forests are drawn twice, and the first draw is discarded.

The tasks `NAME-openai` follow the conventions of the original, which MADDPG's published numbers are based on:

- Velocities change before positions do, so an action moves its agent within the same step.
- Actions are vectors: an agent moves along x by a[1] - a[2] and along y by a[3] - a[4], and sends its message
  unchanged (MADDPG's messages are samples of a softmax).
- In simple_spread, simple_reference and simple_speaker_listener, every agent receives the sum of all rewards.
- simple_spread counts an agent's contact with itself, and every agent receives the undivided sum of the
  landmarks' distances. simple_reference, and the adversary in simple_adversary, use squared distances. In
  simple_world_comm, the distance to food is rewarded.

Everything else is taken from mpe2. The original was not available for a bit-for-bit comparison.
"""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces

from ascent.suites.batch import Batch
from ascent.suites.spec import Spec, Team

VERSION = 1  # version of the results; increase it with any change that changes a trajectory

DT, DAMPING, CONTACT_FORCE, CONTACT_MARGIN = 0.1, 0.25, 1e2, 1e-3
# Direction (x, y) of the five moves: none, left, right, down, up.
DIRECTIONS = np.array([[0.0, -1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0, 1.0]])
MOVES = DIRECTIONS.shape[1]


@dataclass(frozen=True)
class Body:
    """An agent or a landmark."""

    name: str = ""
    side: str = "agent"
    size: float = 0.05
    collides: bool = False
    moves: bool = True
    speaks: bool = False
    strength: float = 5.0  # force per unit of action
    max_speed: float = np.inf


class View(NamedTuple):
    """Named views of the physics of n environments with N agents and M entities (agents, then landmarks)."""

    pos: np.ndarray  # (M, 2, n)
    vel: np.ndarray  # (N, 2, n)
    words: np.ndarray  # (N, C, n), messages of the last step; zeros for agents that do not speak
    drawn: np.ndarray  # (D, n), integers drawn for the episode, for example the goal or a key


def squared(delta: np.ndarray) -> np.ndarray:
    """Return the squared Euclidean length of vectors: (..., 2, n) -> (..., n)."""
    square = np.square(delta)
    return square[..., 0, :] + square[..., 1, :]


def length(delta: np.ndarray) -> np.ndarray:
    """Return the Euclidean length of vectors: (..., 2, n) -> (..., n)."""
    return np.sqrt(squared(delta))


def flat(values: np.ndarray) -> np.ndarray:
    """Flatten all axes but the last: (..., n) -> (k, n)."""
    return values.reshape(-1, values.shape[-1])


def others(values: np.ndarray, i: int, n: int) -> np.ndarray:
    """Return all but the i-th of the first n entries of (M, 2, n), flattened: (k, n)."""
    return flat(np.concatenate([values[:i], values[i + 1 : n]]))


def colours(count: int, base: float, highlight: float) -> np.ndarray:
    """Return RGB colours (count, 3): the k-th has channel k at `highlight` and the others at `base`."""
    return np.where(np.eye(3)[:count] == 1, highlight, base)


def select_rows(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the rows of a table (L, k) that an index (n,) selects, as columns: (k, n)."""
    return table[index.astype(np.int64)].T


class World(Batch):
    """A scenario. Physics: the fields of `View`, flattened and joined.

    A scenario is a subclass that defines the class variables below, `_observations` and `_outcome`.
    """

    agents: ClassVar[tuple[Body, ...]]
    landmarks: ClassVar[tuple[Body, ...]]
    observation_sizes: ClassVar[tuple[int, ...]]  # one per agent
    vocabulary: ClassVar[int] = 0  # C, the size of a message
    draws: ClassVar[tuple[int, ...]] = ()  # for each of the D drawn integers, its number of values
    reach: ClassVar[float] = 1.0  # landmarks are placed in [-reach, reach]
    scored: ClassVar[tuple[str, ...]] = ()  # names of the agents that determine the score; all if empty
    measures: ClassVar[tuple[tuple[str, str], ...]]  # see `Team.measures`
    # Every scenario is three tasks, with these conventions.
    original: ClassVar[bool] = False  # follow the original instead of mpe2
    discrete: ClassVar[bool] = True  # whether actions are discrete

    def __init__(self, env_seeds: np.ndarray, threads: int = 1) -> None:
        super().__init__(env_seeds, threads)
        bodies = (*self.agents, *self.landmarks)
        n = len(self.agents)
        self._pairs = [
            (i, j)
            for i, j in combinations(range(len(bodies)), 2)
            if i < n and bodies[i].collides and bodies[j].collides
        ]
        self._first = np.array([i for i, _ in self._pairs], int)
        self._second = np.array([j for _, j in self._pairs], int)
        sizes = np.array([body.size for body in bodies])
        self._touch = sizes[:, None] + sizes  # (M, M): two bodies touch below this distance
        self._pair_touch = self._touch[self._first, self._second][:, None]
        strength = [agent.strength if agent.moves else 0.0 for agent in self.agents]
        self._strength = np.array(strength)[:, None, None]
        self._max_speed = np.array([agent.max_speed for agent in self.agents])[:, None]
        self._limited = bool(np.isfinite(self._max_speed).any())
        self._last_measures = np.empty(0)  # (n, M) of the last step

    # Methods that a scenario defines.

    @abstractmethod
    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        """Return the parts of the observations, arrays (k, n), agent after agent.

        Args:
            view: the physics.
            rel: (N, M, 2, n), the position of each entity relative to each agent.
        """

    @abstractmethod
    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the rewards of the agents and the measures, each (n,), in the state after a step."""

    # Methods that all scenarios share.

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        n = len(self.agents)
        drawn = [int(generator.integers(k)) for k in self.draws]
        agents = generator.uniform(-1, 1, 2 * n)
        landmarks = self._place(generator)
        return np.concatenate([agents, landmarks, np.zeros(2 * n + n * self.vocabulary), drawn])

    def _place(self, generator: np.random.Generator) -> np.ndarray:
        """Draw the positions of the landmarks: x and y of the first, x and y of the second, and so on."""
        return generator.uniform(-self.reach, self.reach, 2 * len(self.landmarks))

    def _view(self, physics: np.ndarray) -> View:
        """Return named views of physics (K, n)."""
        n, m, count = len(self.agents), len(self.agents) + len(self.landmarks), physics.shape[1]
        vel_start, words_start = 2 * m, 2 * (m + n)
        drawn_start = words_start + n * self.vocabulary
        return View(
            pos=physics[:vel_start].reshape(m, 2, count),
            vel=physics[vel_start:words_start].reshape(n, 2, count),
            words=physics[words_start:drawn_start].reshape(n, self.vocabulary, count),
            drawn=physics[drawn_start:],
        )

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        view = self._view(physics)
        rel = view.pos - view.pos[: len(self.agents), None]
        return np.concatenate(self._observations(view, rel)).T.astype(np.float32, order="C")

    def _measures(self) -> np.ndarray:
        return self._last_measures

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        physics = physics.copy()
        view = self._view(physics)
        n = len(self.agents)
        force = self._act(actions, view.words)
        self._collide(view.pos, force)
        pos, vel = view.pos[:n], view.vel
        if not self.original:
            pos += vel * DT
        vel *= 1 - DAMPING
        vel += force * DT
        if self._limited:
            speed = length(vel)
            fast = (speed > self._max_speed)[:, None]
            np.divide(vel, speed[:, None], out=vel, where=fast)
            np.multiply(vel, self._max_speed[:, None], out=vel, where=fast)
        if self.original:
            pos += vel * DT
        rewards, measures = self._outcome(view)
        self._last_measures = np.stack(measures, axis=1).astype(float)
        # mpe2 adds rewards to 0, so there is no -0.0.
        return physics, np.stack(rewards, axis=1) + 0.0, np.zeros(physics.shape[1], dtype=bool)

    def _act(self, actions: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Return the forces (N, 2, n) of the agents' actions, and write their messages into `words`."""
        count = len(actions)
        if self.discrete:
            direction = DIRECTIONS[:, actions.T % MOVES].swapaxes(0, 1)
            words[:] = 0.0
            for i, agent in enumerate(self.agents):
                if agent.speaks:
                    word = actions[:, i] // MOVES if agent.moves else actions[:, i]
                    words[i, word, np.arange(count)] = 1.0
        else:
            direction = np.zeros((len(self.agents), 2, count))
            right, left, up, down = (1, 2, 3, 4) if self.original else (2, 1, 4, 3)
            numbers = (actions if self.original else actions.clip(0.0, 1.0)).T
            at = 0
            for i, agent in enumerate(self.agents):
                if agent.moves:
                    direction[i, 0] = numbers[at + right] - numbers[at + left]
                    direction[i, 1] = numbers[at + up] - numbers[at + down]
                    at += MOVES
                if agent.speaks:
                    words[i] = numbers[at : at + self.vocabulary]
                    at += self.vocabulary
            words += 0.0  # mpe2 adds noise of 0, so there is no -0.0
        return direction * self._strength

    def _collide(self, pos: np.ndarray, force: np.ndarray) -> None:
        """Add the contact forces between bodies to the forces of the agents (N, 2, n)."""
        if not self._pairs:
            return
        delta = pos[self._first] - pos[self._second]  # (P, 2, n)
        distance = length(delta)
        depth = np.logaddexp(0, -(distance - self._pair_touch) / CONTACT_MARGIN) * CONTACT_MARGIN
        contact = CONTACT_FORCE * delta / distance[:, None] * depth[:, None]
        for k, (i, j) in enumerate(self._pairs):
            force[i] += contact[k]
            if j < len(force):
                force[j] -= contact[k]

    def _relative_goal(self, rel: np.ndarray, i: int, goal: np.ndarray) -> np.ndarray:
        """Return the position (2, n), relative to agent i, of the landmarks with indices `goal` (n,)."""
        return rel[i, len(self.agents) + goal.astype(np.int64), :, np.arange(len(goal))].T

    def _offset(self, view: View, i: int, goal: np.ndarray) -> np.ndarray:
        """Return the vector (2, n) to agent i from the landmarks with indices `goal` (n,)."""
        return view.pos[i] - view.pos[len(self.agents) + goal.astype(np.int64), :, np.arange(len(goal))].T

    def _shared(self, rewards: list[np.ndarray]) -> list[np.ndarray]:
        """Return the rewards of cooperating agents: in the original, each receives the sum of all."""
        return [sum(rewards[1:], rewards[0])] * len(rewards) if self.original else rewards


class Simple(World):
    """One agent moves to a landmark."""

    agents = (Body("agent_0"),)
    landmarks = (Body(),)
    observation_sizes = (4,)
    measures = (("distance", "mean"), ("reached", "last"))

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        return [view.vel[0], rel[0, 1]]

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        delta = view.pos[0] - view.pos[1]
        distance = length(delta)
        return [-squared(delta)], [distance, distance < self._touch[0, 1]]


class Adversary(World):
    """Physical deception: two agents know which landmark is the goal; the adversary must infer it."""

    agents = (Body("adversary_0", "adversary", 0.15), Body("agent_0", size=0.15), Body("agent_1", size=0.15))
    landmarks = (Body(size=0.08), Body(size=0.08))
    draws = (2,)
    scored = ("agent_0", "agent_1")
    observation_sizes = (8, 10, 10)
    measures = (("agent_reached", "last"), ("adversary_reached", "last"))

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        parts: list[np.ndarray] = []
        for i in range(3):
            goal = [self._relative_goal(rel, i, view.drawn[0])] if i else []
            parts += [*goal, flat(rel[i, 3:]), others(rel[i], i, 3)]
        return parts

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        offsets = [self._offset(view, i, view.drawn[0]) for i in range(3)]
        adversary, agent_0, agent_1 = map(length, offsets)
        best = np.minimum(agent_0, agent_1)
        rewards = [-squared(offsets[0]) if self.original else -adversary, *[adversary - best] * 2]
        return rewards, [best < self._touch[1, 3], adversary < self._touch[0, 3]]


class Crypto(World):
    """Covert communication: Alice sends Bob a message, encrypted with a key that both share; Eve listens."""

    agents = (
        Body("eve_0", "adversary", moves=False, speaks=True),
        Body("bob_0", moves=False, speaks=True),
        Body("alice_0", moves=False, speaks=True),
    )
    landmarks = (Body(), Body())
    vocabulary = 4
    draws = (2, 2)  # the message, the key
    scored = ("bob_0", "alice_0")
    observation_sizes = (4, 8, 8)
    measures = (("bob_right", "mean"), ("eve_right", "mean"))
    code = np.eye(2, 4)

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        message, key = (select_rows(self.code, drawn) for drawn in view.drawn)
        return [view.words[2], key, view.words[2], message, key]

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        message = select_rows(self.code, view.drawn[0])
        errors = []
        for word in view.words[:2]:
            square = np.square(word - message)
            error = square[0] + square[1] + square[2] + square[3]
            errors.append(np.where((word == 0).all(0), 0.0, error))  # a silent agent makes no error
        eve, bob = errors
        eve_right, bob_right = (word.argmax(0) == view.drawn[0] for word in view.words[:2])
        return [0.0 - eve, *[eve + (0.0 - bob)] * 2], [bob_right, eve_right]


class Push(World):
    """Keep-away: only the agent knows the goal and moves to it; the adversary pushes the agent away."""

    agents = (Body("adversary_0", "adversary", collides=True), Body("agent_0", collides=True))
    landmarks = (Body(), Body())
    draws = (2,)
    scored = ("agent_0",)
    observation_sizes = (8, 19)
    measures = (("agent_distance", "mean"), ("adversary_distance", "mean"), ("agent_reached", "last"))
    landmark_colours = np.array([[0.1, 0.1 + 0.8, 0.1], [0.1, 0.1, 0.1 + 0.8]])
    # The colour of the agent, by its goal.
    goal_colours = np.array([[0.25, 0.25 + 0.5, 0.25], [0.25, 0.25, 0.25 + 0.5]])

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        goal = view.drawn[0]
        landmark_colours = np.broadcast_to(self.landmark_colours.reshape(6, 1), (6, rel.shape[-1]))
        adversary = [view.vel[0], flat(rel[0, 2:]), rel[0, 1]]
        agent = [
            view.vel[1],
            self._relative_goal(rel, 1, goal),
            select_rows(self.goal_colours, goal),
            flat(rel[1, 2:]),
            landmark_colours,
            rel[1, 0],
        ]
        return [*adversary, *agent]

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        adversary, agent = (length(self._offset(view, i, view.drawn[0])) for i in range(2))
        return [agent - adversary, -agent], [agent, adversary, agent < self._touch[1, 2]]


class Reference(World):
    """Two agents that move and speak; each knows only the goal of the other."""

    agents = (Body("agent_0", speaks=True), Body("agent_1", speaks=True))
    landmarks = (Body(), Body(), Body())
    vocabulary = 10
    draws = (3, 3)  # the goal of agent 1, known to agent 0; the goal of agent 0
    observation_sizes = (21, 21)
    measures = (("distance", "mean"), ("reached", "last"))
    landmark_colours = colours(3, 0.25, 0.75)

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        goals = [select_rows(self.landmark_colours, drawn) for drawn in view.drawn]
        return [
            part for i in range(2) for part in (view.vel[i], flat(rel[i, 2:]), goals[i], view.words[1 - i])
        ]

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        offsets = [self._offset(view, 1 - i, view.drawn[i]) for i in range(2)]
        first, second = map(length, offsets)
        if self.original:
            rewards = self._shared([-squared(offset) for offset in offsets])
        else:  # half the agent's distance, half the mean
            mean = (0.0 - first - second) / 2
            rewards = [mean * 0.5 + -distance * 0.5 for distance in (first, second)]
        reached = [distance < self._touch[0, 2] for distance in (first, second)]
        return rewards, [(first + second) / 2, np.mean(reached, 0)]


class SpeakerListener(World):
    """Cooperative communication: the speaker sees the goal but cannot move; the listener must move to it."""

    agents = (Body("speaker_0", size=0.075, moves=False, speaks=True), Body("listener_0", size=0.075))
    landmarks = (Body(size=0.04), Body(size=0.04), Body(size=0.04))
    vocabulary = 3
    draws = (3,)
    observation_sizes = (3, 11)
    measures = (("distance", "mean"), ("reached", "last"))
    landmark_colours = colours(3, 0.15, 0.65)

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        goal_colour = select_rows(self.landmark_colours, view.drawn[0])
        return [goal_colour, view.vel[1], flat(rel[1, 2:]), view.words[0]]

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        delta = self._offset(view, 1, view.drawn[0])
        distance = length(delta)
        return self._shared([-squared(delta)] * 2), [distance, distance < self._touch[1, 2]]


class Spread(World):
    """Cooperative navigation: three agents cover three landmarks and avoid contact."""

    agents = tuple(Body(f"agent_{i}", size=0.15, collides=True) for i in range(3))
    landmarks = (Body(), Body(), Body())
    observation_sizes = (18, 18, 18)
    measures = (("collisions", "sum"), ("distance", "mean"), ("covered", "last"))
    near = 0.1  # a landmark is covered if an agent is closer than this, as in mpe2's benchmark data

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        silence = np.zeros((4, rel.shape[-1]))  # words of the others, who cannot speak
        return [
            part
            for i in range(3)
            for part in (view.vel[i], view.pos[i], flat(rel[i, 3:]), others(rel[i], i, 3), silence)
        ]

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        nearest = length(view.pos[:3, None] - view.pos[3:]).min(0)  # (3, n), per landmark
        total = 0.0 - nearest[0] - nearest[1] - nearest[2]
        touch = length(view.pos[self._first] - view.pos[self._second]) < self._pair_touch
        a, b, c = touch * 1.0  # agents 0 and 1, 0 and 2, 1 and 2
        contacts = [a + b, a + c, b + c]
        if self.original:  # every agent also touches itself
            rewards = self._shared([total - (count + 1.0) for count in contacts])
        else:
            rewards = [total * 0.5 + (0.0 - count) * 0.5 for count in contacts]
        return rewards, [a + b + c, nearest.mean(0), (nearest < self.near).sum(0)]


def bound(x: np.ndarray) -> np.ndarray:
    """Return the penalty for |x| or |y| (n,) near or beyond the edge of the screen."""
    return np.where(x < 0.9, 0.0, np.where(x < 1.0, (x - 0.9) * 10, np.minimum(np.exp(2 * x - 2), 10)))


def predators(count: int) -> tuple[Body, ...]:
    """Return the slow adversaries of a pursuit."""
    names = (f"adversary_{i}" for i in range(count))
    return tuple(Body(name, "adversary", 0.075, True, strength=3.0, max_speed=1.0) for name in names)


class Tag(World):
    """Predator and prey: three slow predators chase one fast agent around two obstacles."""

    agents = (*predators(3), Body("agent_0", collides=True, strength=4.0, max_speed=1.3))
    landmarks = (Body(size=0.2, collides=True), Body(size=0.2, collides=True))
    reach = 0.9
    scored = ("agent_0",)
    observation_sizes = (16, 16, 16, 14)
    measures = (("contacts", "sum"), ("distance", "mean"))

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        parts: list[np.ndarray] = []
        for i in range(4):
            parts += [view.vel[i], view.pos[i], flat(rel[i, 4:]), others(rel[i], i, 4)]
            parts += [view.vel[3]] if i < 3 else []
        return parts

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        distances = length(view.pos[:3] - view.pos[3])  # (3, n)
        contacts = (distances < self._touch[0, 3]).sum(0)
        x, y = bound(np.abs(view.pos[3]))
        prey = 0.0 - 10.0 * contacts - x - y
        return [*[10.0 * contacts] * 3, prey], [contacts, distances.min(0)]


class WorldComm(World):
    """Predator and prey with food, forests that hide agents, and a lead predator that sees all and speaks."""

    agents = (
        Body("leadadversary_0", "adversary", 0.075, True, speaks=True, strength=3.0, max_speed=1.0),
        *predators(3),
        *(Body(f"agent_{i}", size=0.045, collides=True, strength=4.0, max_speed=1.3) for i in range(2)),
    )
    # An obstacle, two pieces of food, two forests.
    landmarks = (Body(size=0.2, collides=True), *[Body(size=0.03)] * 2, *[Body(size=0.3)] * 2)
    vocabulary = 4
    reach = 0.9
    scored = ("agent_0", "agent_1")
    observation_sizes = (34, 34, 34, 34, 28, 28)
    measures = (("contacts", "sum"), ("food", "sum"))

    def _place(self, generator: np.random.Generator) -> np.ndarray:
        obstacle = super()._place(generator)[:2]
        return np.concatenate([obstacle, generator.uniform(-self.reach, self.reach, 8)])

    def _observations(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        inside = length(view.pos[:6, None] - view.pos[9:]) < self._touch[:6, 9:, None]  # (6, 2, n)
        hidden = inside.any(1)
        signs = np.where(inside, 1.0, -1.0)
        parts: list[np.ndarray] = []
        for i in range(6):
            positions: list[np.ndarray] = []
            velocities: list[np.ndarray] = []
            for j in (j for j in range(6) if j != i):
                visible = (inside[i] & inside[j]).any(0) | ~(hidden[i] | hidden[j]) | (i == 0)
                positions.append(np.where(visible, rel[i, j], 0.0))
                if j > 3:
                    velocities.append(np.where(visible, view.vel[j], 0.0))
            parts += [view.vel[i], view.pos[i], flat(rel[i, 6:]), *positions]
            parts += [signs[i], *velocities] if i > 3 else [*velocities, signs[i], view.words[0]]
        return parts

    def _outcome(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        distances = length(view.pos[:4, None] - view.pos[4:6])  # (4, 2, n): predators and prey
        contacts = distances < self._touch[:4, 4:6, None]
        food_distances = length(view.pos[7:9, None] - view.pos[4:6])  # (2, 2, n): food and prey
        eaten = food_distances < self._touch[7:9, 4:6, None]
        predators = [0.0 - 0.1 * distances[i].min(0) for i in range(4)]
        for contact in flat(contacts):  # added one by one, as in mpe2
            predators = [reward + 5.0 * contact for reward in predators]
        prey = []
        for k in range(2):
            x, y = bound(np.abs(view.pos[4 + k]))
            reward = 0.0 - 5.0 * contacts[:, k].sum(0) - 2 * x - 2 * y
            for bite in eaten[:, k]:
                reward = reward + 2.0 * bite
            far = 0.05 * food_distances[:, k].min(0)
            prey.append(reward + far if self.original else reward - far)
        return [*predators, *prey], [contacts.sum((0, 1)), eaten.sum((0, 1))]


SCENARIOS: dict[str, type[World]] = {
    "simple_v3": Simple,
    "simple_adversary_v3": Adversary,
    "simple_crypto_v3": Crypto,
    "simple_push_v3": Push,
    "simple_reference_v3": Reference,
    "simple_speaker_listener_v4": SpeakerListener,
    "simple_spread_v3": Spread,
    "simple_tag_v3": Tag,
    "simple_world_comm_v3": WorldComm,
}
# Per task: the score of the random policy (`python -m ascent.suites.anchors`), and the score of a script that
# steers towards its goal or flees, against random adversaries (`python -m tests.suites.particle_play`).
SCORES = {
    "simple_v3": (-39.38, -7.3),
    "simple_v3-continuous": (-35.43, -7.3),
    "simple-openai": (-35.52, -6.1),
    "simple_adversary_v3": (7.50, 21.5),
    "simple_adversary_v3-continuous": (7.03, 20.3),
    "simple_adversary-openai": (7.00, 20.6),
    "simple_crypto_v3": (0.15, 36.5),
    "simple_crypto_v3-continuous": (-0.04, 32.3),
    "simple_crypto-openai": (-0.04, 32.3),
    "simple_push_v3": (-28.36, -8.2),
    "simple_push_v3-continuous": (-27.05, -8.2),
    "simple_push-openai": (-27.16, -7.8),
    "simple_reference_v3": (-28.46, -8.6),
    "simple_reference_v3-continuous": (-27.10, -8.6),
    "simple_reference-openai": (-73.03, -13.6),
    "simple_speaker_listener_v4": (-40.26, -7.9),
    "simple_speaker_listener_v4-continuous": (-36.15, -7.9),
    "simple_speaker_listener-openai": (-73.12, -13.6),
    "simple_spread_v3": (-26.68, -11.6),
    "simple_spread_v3-continuous": (-25.39, -11.6),
    "simple_spread-openai": (-224.79, -140.4),
    "simple_tag_v3": (-15.81, -3.0),
    "simple_tag_v3-continuous": (-11.10, -2.7),
    "simple_tag-openai": (-9.81, -0.9),
    "simple_world_comm_v3": (-24.90, -2.9),
    "simple_world_comm_v3-continuous": (-16.24, -2.8),
    "simple_world_comm-openai": (-13.48, 0.8),
}
SCRIPT = (
    "this suite's mark: the mean score, of 10,000 episodes, of a script that steers at its goal or flees, "
    "against adversaries that act at random"
)


def _box(count: int, low: float = 0.0, high: float = 1.0) -> spaces.Box:
    """Return a float32 box (count,) with the same bounds in every component."""
    return spaces.Box(low, high, (count,), np.float32)


def _action_space(world: type[World], agent: Body) -> spaces.Space:
    """Return the action space of an agent, whose moves come before its message."""
    parts = [MOVES] * agent.moves + [world.vocabulary] * agent.speaks
    if world.discrete:
        return spaces.Discrete(int(np.prod(parts)))
    if world.original and len(parts) > 1:
        return spaces.Tuple([_box(part) for part in parts])
    return _box(sum(parts))


def _task(name: str, world: type[World], **conventions: bool) -> type[World]:
    """Return a subclass of the scenario that is the task `name`, with the given conventions of `World`."""
    task: type[World] = type(world.__name__, (world,), {"__doc__": world.__doc__, **conventions})
    names = tuple(agent.name for agent in world.agents)
    sides = tuple(agent.side for agent in world.agents)
    scored = world.scored or names
    random, reference = SCORES[name]
    whose = "all agents" if scored == names else ", ".join(scored)
    convention = f"an agent's is the undiscounted sum of its rewards; the episode's is the mean of {whose}"
    if "adversary" in sides:
        convention += "; with both sides learning it says who wins, not how well both play"
    task.spec = Spec(
        id=name,
        suite="particle",
        observation_space=spaces.Tuple([_box(k, -np.inf, np.inf) for k in world.observation_sizes]),
        action_space=spaces.Tuple([_action_space(task, agent) for agent in world.agents]),
        horizon=25,
        budget=1_500_000,  # 60,000 episodes, as the authors of MADDPG trained
        random_score=random,
        reference_score=reference,
        reference_source=SCRIPT,
        return_convention=convention,
        packages=("numpy",),
        team=Team(names, sides, scored, world.measures),
    )
    return task


BATCHES: tuple[type[Batch], ...] = tuple(
    _task(name, world, **conventions)
    for scenario, world in SCENARIOS.items()
    for name, conventions in (
        (scenario, {}),
        (f"{scenario}-continuous", {"discrete": False}),
        (f"{scenario.rpartition('_')[0]}-openai", {"discrete": False, "original": True}),
    )
)
