"""The particle worlds of mpe2, once OpenAI's and then PettingZoo's: agents push themselves about a plane.

Facts are of mpe2 1.1.1, and of the original (github.com/openai/multiagent-particle-envs). Traps, where a twin
may part from mpe2 by a bit:

- positions move by the velocity before the step; then come damping, forces, and the limit of speed;
- contact forces are added one pair after the other, in the order of entities, agents before landmarks;
- a reward begins as an integer 0, so that it is 0.0 - c and never -0.0;
- the difference of a continuous action's numbers is taken in float32;
- food and forests are drawn twice in simple_world_comm; the first draw is thrown away.

The tasks `NAME-openai` have the conventions of the original, in which MADDPG's numbers were published:

- velocities change before positions do: an action moves its agent within the same step;
- actions are vectors, of which an agent takes x from a[1] - a[2] and y from a[3] - a[4], and what it says as
  it is (MADDPG's are samples of a softmax);
- in simple_spread, simple_reference and simple_speaker_listener every agent gets the sum of all rewards;
- simple_spread counts an agent's contact with itself and gives every agent the landmarks' distances whole;
  simple_reference and simple_adversary's adversary square distances; in simple_world_comm it pays to be far
  from food.

What both have in common is taken from mpe2; the original itself was not at hand to be compared bit for bit.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces

from ascent.suites.batch import Batch
from ascent.suites.spec import Spec, Team

VERSION = 1  # raise it when a trajectory changes

DT, DAMPING, CONTACT_FORCE, CONTACT_MARGIN = 0.1, 0.25, 1e2, 1e-3
# What the five moves push: nothing, left, right, down, up; x and y.
PUSH = np.array([[0.0, -1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, -1.0, 1.0]])
MOVES = PUSH.shape[1]


@dataclass(frozen=True)
class Body:
    """An agent or a landmark."""

    name: str = ""
    side: str = "agent"
    size: float = 0.05
    collides: bool = False
    moves: bool = True
    speaks: bool = False
    strength: float = 5.0  # of its pushes
    max_speed: float = np.inf


class View(NamedTuple):
    """The physics of n environments by what it means: N agents, M entities, the agents and the landmarks."""

    pos: np.ndarray  # (M, 2, n)
    vel: np.ndarray  # (N, 2, n)
    words: np.ndarray  # (N, C, n), what was said in the step before; zeros of who is silent
    drawn: np.ndarray  # (D, n), what was drawn for the episode: a goal, a key


def squared(delta: np.ndarray) -> np.ndarray:
    """Squared Euclidean length: (..., 2, n) -> (..., n)."""
    square = np.square(delta)
    return square[..., 0, :] + square[..., 1, :]


def length(delta: np.ndarray) -> np.ndarray:
    """Euclidean length: (..., 2, n) -> (..., n)."""
    return np.sqrt(squared(delta))


def flat(values: np.ndarray) -> np.ndarray:
    """(..., n) -> (k, n)."""
    return values.reshape(-1, values.shape[-1])


def others(values: np.ndarray, i: int, n: int) -> np.ndarray:
    """All but the i-th of the first n of (M, 2, n): (k, n)."""
    return flat(np.concatenate([values[:i], values[i + 1 : n]]))


def colours(count: int, ground: float, own: float) -> np.ndarray:
    """Red, green, blue of so many landmarks (count, 3), told apart by the one colour of their own."""
    return np.where(np.eye(3)[:count] == 1, own, ground)


def chosen(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Rows of a table (L, k) by numbers (n,) that were drawn: (k, n)."""
    return table[index.astype(np.int64)].T


class World(Batch):
    """A scenario: its bodies, what is drawn at the start, what agents see and get, what is measured."""

    agents: ClassVar[tuple[Body, ...]]
    landmarks: ClassVar[tuple[Body, ...]]
    sees: ClassVar[tuple[int, ...]]  # how many numbers each agent observes
    vocabulary: ClassVar[int] = 0  # C: numbers in what is said
    draws: ClassVar[tuple[int, ...]] = ()  # of how many each of the D numbers is drawn
    reach: ClassVar[float] = 1.0  # landmarks lie within +-reach
    scored: ClassVar[tuple[str, ...]] = ()  # names of agents; all if empty
    measured: ClassVar[tuple[tuple[str, str], ...]]
    # A scenario is three tasks.
    original: ClassVar[bool] = False  # with the conventions of the original
    discrete: ClassVar[bool] = True

    def __init__(self, env_seeds: np.ndarray, threads: int = 1) -> None:
        super().__init__(env_seeds, threads)
        bodies, n = (*self.agents, *self.landmarks), len(self.agents)
        self._pairs = [
            (i, j)
            for i, j in combinations(range(len(bodies)), 2)
            if i < n and bodies[i].collides and bodies[j].collides
        ]
        self._first, self._second = (np.array([pair[side] for pair in self._pairs], int) for side in (0, 1))
        sizes = np.array([body.size for body in bodies])
        self._touch = sizes[:, None] + sizes  # (M, M): at less distance two bodies touch
        self._pair_touch = self._touch[self._first, self._second][:, None]
        strength = [agent.strength if agent.moves else 0.0 for agent in self.agents]
        self._strength = np.array(strength)[:, None, None]
        self._max_speed = np.array([agent.max_speed for agent in self.agents])[:, None]
        self._limited = bool(np.isfinite(self._max_speed).any())
        self._measured = np.empty(0)

    # What a scenario defines.

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        """What the agents observe, agent after agent: arrays (k, n). rel (N, M, 2, n): where each agent sees
        each entity.
        """
        raise NotImplementedError

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Rewards of the agents, and the measures, each (n,), in the state after a step."""
        raise NotImplementedError

    # What all share.

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        n, drawn = len(self.agents), [int(generator.integers(k)) for k in self.draws]
        places = generator.uniform(-1, 1, 2 * n), self._place(generator)
        return np.concatenate([*places, np.zeros(2 * n + n * self.vocabulary), drawn])

    def _place(self, generator: np.random.Generator) -> np.ndarray:
        """Positions of the landmarks, x and y of one after the other."""
        return generator.uniform(-self.reach, self.reach, 2 * len(self.landmarks))

    def _view(self, physics: np.ndarray) -> View:
        """Views into physics (K, n)."""
        n, m, count = len(self.agents), len(self.agents) + len(self.landmarks), physics.shape[1]
        a, b, c = 2 * m, 2 * (m + n), 2 * (m + n) + n * self.vocabulary
        pos, vel = physics[:a].reshape(m, 2, count), physics[a:b].reshape(n, 2, count)
        return View(pos, vel, physics[b:c].reshape(n, self.vocabulary, count), physics[c:])

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        view = self._view(physics)
        rel = view.pos - view.pos[: len(self.agents), None]
        return np.concatenate(self._see(view, rel)).T.astype(np.float32, order="C")

    def _observe_starts(self, starts: list[np.ndarray]) -> np.ndarray:
        return self._observe(np.stack(starts, axis=1))

    def _measures(self) -> np.ndarray:
        return self._measured

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        physics = physics.copy()
        view, n = self._view(physics), len(self.agents)
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
        rewards, measures = self._judge(view)
        self._measured = np.stack(measures, axis=1).astype(float)
        # mpe2 adds rewards to 0: there is no -0.0.
        return physics, np.stack(rewards, axis=1) + 0.0, np.zeros(physics.shape[1], dtype=bool)

    def _act(self, actions: np.ndarray, words: np.ndarray) -> np.ndarray:
        """The agents' own pushes (N, 2, n); what they say goes into `words`."""
        count = len(actions)
        if self.discrete:
            push = PUSH[:, actions.T % MOVES].swapaxes(0, 1)
            words[:] = 0.0
            for i, agent in enumerate(self.agents):
                if agent.speaks:
                    said = actions[:, i] // MOVES if agent.moves else actions[:, i]
                    words[i, said, np.arange(count)] = 1.0
        else:
            push = np.zeros((len(self.agents), 2, count))
            right, left, up, down = (1, 2, 3, 4) if self.original else (2, 1, 4, 3)
            numbers, at = (actions if self.original else actions.clip(0.0, 1.0)).T, 0
            for i, agent in enumerate(self.agents):
                if agent.moves:
                    push[i, 0] = numbers[at + right] - numbers[at + left]
                    push[i, 1] = numbers[at + up] - numbers[at + down]
                    at += MOVES
                if agent.speaks:
                    words[i] = numbers[at : at + self.vocabulary]
                    at += self.vocabulary
            words += 0.0  # mpe2 adds noise of 0: there is no -0.0
        return push * self._strength

    def _collide(self, pos: np.ndarray, force: np.ndarray) -> None:
        """Adds the forces of contact between bodies to those of the agents, (N, 2, n)."""
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

    def _sight(self, rel: np.ndarray, i: int, goal: np.ndarray) -> np.ndarray:
        """Where agent i sees the landmark whose number (n,) was drawn: (2, n)."""
        return rel[i, len(self.agents) + goal.astype(np.int64), :, np.arange(len(goal))].T

    def _away(self, view: View, i: int, goal: np.ndarray) -> np.ndarray:
        """How agent i lies from the landmark whose number (n,) was drawn: (2, n)."""
        return view.pos[i] - view.pos[len(self.agents) + goal.astype(np.int64), :, np.arange(len(goal))].T

    def _shared(self, rewards: list[np.ndarray]) -> list[np.ndarray]:
        """In the original each of a team that cooperates gets the sum of the rewards."""
        return [sum(rewards[1:], rewards[0])] * len(rewards) if self.original else rewards


class Simple(World):
    """One agent goes to a landmark."""

    agents = (Body("agent_0"),)
    landmarks = (Body(),)
    sees = (4,)
    measured = (("distance", "mean"), ("reached", "last"))

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        return [view.vel[0], rel[0, 1]]

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        delta = view.pos[0] - view.pos[1]
        distance = length(delta)
        return [-squared(delta)], [distance, distance < self._touch[0, 1]]


class Adversary(World):
    """Physical deception: two agents know which landmark is the goal, the adversary has to guess it."""

    agents = (Body("adversary_0", "adversary", 0.15), Body("agent_0", size=0.15), Body("agent_1", size=0.15))
    landmarks = (Body(size=0.08), Body(size=0.08))
    draws = (2,)
    scored = ("agent_0", "agent_1")
    sees = (8, 10, 10)
    measured = (("agent_reached", "last"), ("adversary_reached", "last"))

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        found = []
        for i in range(3):
            goal = [self._sight(rel, i, view.drawn[0])] if i else []
            found += [*goal, flat(rel[i, 3:]), others(rel[i], i, 3)]
        return found

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        away = [self._away(view, i, view.drawn[0]) for i in range(3)]
        adversary, *good = map(length, away)
        best = np.minimum(*good)
        rewards = [-squared(away[0]) if self.original else -adversary, *[adversary - best] * 2]
        return rewards, [best < self._touch[1, 3], adversary < self._touch[0, 3]]


class Crypto(World):
    """Covert communication: Alice sends Bob a message, enciphered by a key that both have; Eve listens."""

    agents = (
        Body("eve_0", "adversary", moves=False, speaks=True),
        Body("bob_0", moves=False, speaks=True),
        Body("alice_0", moves=False, speaks=True),
    )
    landmarks = (Body(), Body())
    vocabulary = 4
    draws = (2, 2)  # the message, the key
    scored = ("bob_0", "alice_0")
    sees = (4, 8, 8)
    measured = (("bob_right", "mean"), ("eve_right", "mean"))
    code = np.eye(2, 4)

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        message, key = (chosen(self.code, drawn) for drawn in view.drawn)
        return [view.words[2], key, view.words[2], message, key]

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        message, errors = chosen(self.code, view.drawn[0]), []
        for said in view.words[:2]:
            square = np.square(said - message)
            error = square[0] + square[1] + square[2] + square[3]
            errors.append(np.where((said == 0).all(0), 0.0, error))  # who says nothing is not counted
        eve, bob = errors
        eve_right, bob_right = (said.argmax(0) == view.drawn[0] for said in view.words[:2])
        return [0.0 - eve, *[eve + (0.0 - bob)] * 2], [bob_right, eve_right]


class Push(World):
    """Keep-away: the agent goes to the goal, which it alone knows; the adversary pushes it away."""

    agents = (Body("adversary_0", "adversary", collides=True), Body("agent_0", collides=True))
    landmarks = (Body(), Body())
    draws = (2,)
    scored = ("agent_0",)
    sees = (8, 19)
    measured = (("agent_distance", "mean"), ("adversary_distance", "mean"), ("agent_reached", "last"))
    marks = np.array([[0.1, 0.1 + 0.8, 0.1], [0.1, 0.1, 0.1 + 0.8]])  # colours of the landmarks
    own = np.array([[0.25, 0.25 + 0.5, 0.25], [0.25, 0.25, 0.25 + 0.5]])  # of the agent, by its goal

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        goal, marks = view.drawn[0], np.broadcast_to(self.marks.reshape(6, 1), (6, rel.shape[-1]))
        knows = [self._sight(rel, 1, goal), chosen(self.own, goal)]
        adversary = [view.vel[0], flat(rel[0, 2:]), rel[0, 1]]
        return [*adversary, view.vel[1], *knows, flat(rel[1, 2:]), marks, rel[1, 0]]

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        adversary, agent = (length(self._away(view, i, view.drawn[0])) for i in range(2))
        return [agent - adversary, -agent], [agent, adversary, agent < self._touch[1, 2]]


class Reference(World):
    """Two agents; each knows the landmark that the other has to go to, and can only tell it."""

    agents = (Body("agent_0", speaks=True), Body("agent_1", speaks=True))
    landmarks = (Body(), Body(), Body())
    vocabulary = 10
    draws = (3, 3)  # the goal of agent 1, which agent 0 knows; the goal of agent 0
    sees = (21, 21)
    measured = (("distance", "mean"), ("reached", "last"))
    marks = colours(3, 0.25, 0.75)

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        goals = [chosen(self.marks, drawn) for drawn in view.drawn]
        return [
            part for i in range(2) for part in (view.vel[i], flat(rel[i, 2:]), goals[i], view.words[1 - i])
        ]

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        away = [self._away(view, 1 - i, view.drawn[i]) for i in range(2)]
        first, second = map(length, away)
        rewards = self._shared([-squared(delta) for delta in away])
        if not self.original:  # half its own, half the mean
            mean = (0.0 - first - second) / 2
            rewards = [mean * 0.5 + -own * 0.5 for own in (first, second)]
        reached = [own < self._touch[0, 2] for own in (first, second)]
        return rewards, [(first + second) / 2, np.mean(reached, 0)]


class SpeakerListener(World):
    """Cooperative communication: the speaker sees the goal and cannot move, the listener has to go there."""

    agents = (Body("speaker_0", size=0.075, moves=False, speaks=True), Body("listener_0", size=0.075))
    landmarks = (Body(size=0.04), Body(size=0.04), Body(size=0.04))
    vocabulary = 3
    draws = (3,)
    sees = (3, 11)
    measured = (("distance", "mean"), ("reached", "last"))
    marks = colours(3, 0.15, 0.65)

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        return [chosen(self.marks, view.drawn[0]), view.vel[1], flat(rel[1, 2:]), view.words[0]]

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        delta = self._away(view, 1, view.drawn[0])
        distance = length(delta)
        return self._shared([-squared(delta)] * 2), [distance, distance < self._touch[1, 2]]


class Spread(World):
    """Cooperative navigation: three agents cover three landmarks and do not touch."""

    agents = tuple(Body(f"agent_{i}", size=0.15, collides=True) for i in range(3))
    landmarks = (Body(), Body(), Body())
    sees = (18, 18, 18)
    measured = (("collisions", "sum"), ("distance", "mean"), ("covered", "last"))
    near = 0.1  # a landmark with an agent nearer than that is covered, as in mpe2's benchmark data

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        silence = np.zeros((4, rel.shape[-1]))  # of the others, who cannot speak
        return [
            part
            for i in range(3)
            for part in (view.vel[i], view.pos[i], flat(rel[i, 3:]), others(rel[i], i, 3), silence)
        ]

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        away = length(view.pos[:3, None] - view.pos[3:]).min(0)  # (3, n), of each landmark to an agent
        total = 0.0 - away[0] - away[1] - away[2]
        touch = length(view.pos[self._first] - view.pos[self._second]) < self._pair_touch
        a, b, c = touch * 1.0  # agents 0 and 1, 0 and 2, 1 and 2
        contacts = [a + b, a + c, b + c]
        if self.original:  # and each touches itself
            rewards = self._shared([total - (count + 1.0) for count in contacts])
        else:
            rewards = [total * 0.5 + (0.0 - count) * 0.5 for count in contacts]
        return rewards, [a + b + c, away.mean(0), (away < self.near).sum(0)]


def bound(x: np.ndarray) -> np.ndarray:
    """What an agent pays for |x| or |y| outside the screen."""
    return np.where(x < 0.9, 0.0, np.where(x < 1.0, (x - 0.9) * 10, np.minimum(np.exp(2 * x - 2), 10)))


def hunters(count: int) -> tuple[Body, ...]:
    names = (f"adversary_{i}" for i in range(count))
    return tuple(Body(name, "adversary", 0.075, True, strength=3.0, max_speed=1.0) for name in names)


class Tag(World):
    """Predator and prey: three slow predators hunt one fast agent between two obstacles."""

    agents = (*hunters(3), Body("agent_0", collides=True, strength=4.0, max_speed=1.3))
    landmarks = (Body(size=0.2, collides=True), Body(size=0.2, collides=True))
    reach = 0.9
    scored = ("agent_0",)
    sees = (16, 16, 16, 14)
    measured = (("contacts", "sum"), ("distance", "mean"))

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        found = []
        for i in range(4):
            found += [view.vel[i], view.pos[i], flat(rel[i, 4:]), others(rel[i], i, 4)]
            found += [view.vel[3]] if i < 3 else []
        return found

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        apart = length(view.pos[:3] - view.pos[3])  # (3, n)
        contacts = (apart < self._touch[0, 3]).sum(0)
        x, y = bound(np.abs(view.pos[3]))
        prey = 0.0 - 10.0 * contacts - x - y
        return [*[10.0 * contacts] * 3, prey], [contacts, apart.min(0)]


class WorldComm(World):
    """Predator and prey with food, forests to hide in, and a leading predator that sees all and can speak."""

    agents = (
        Body("leadadversary_0", "adversary", 0.075, True, speaks=True, strength=3.0, max_speed=1.0),
        *hunters(3),
        *(Body(f"agent_{i}", size=0.045, collides=True, strength=4.0, max_speed=1.3) for i in range(2)),
    )
    # The obstacle, food and food, forest and forest.
    landmarks = (Body(size=0.2, collides=True), *[Body(size=0.03)] * 2, *[Body(size=0.3)] * 2)
    vocabulary = 4
    reach = 0.9
    scored = ("agent_0", "agent_1")
    sees = (34, 34, 34, 34, 28, 28)
    measured = (("contacts", "sum"), ("food", "sum"))

    def _place(self, generator: np.random.Generator) -> np.ndarray:
        obstacle = super()._place(generator)[:2]
        return np.concatenate([obstacle, generator.uniform(-self.reach, self.reach, 8)])

    def _see(self, view: View, rel: np.ndarray) -> list[np.ndarray]:
        inside = length(view.pos[:6, None] - view.pos[9:]) < self._touch[:6, 9:, None]  # (6, 2, n)
        hidden, signs = inside.any(1), np.where(inside, 1.0, -1.0)
        found = []
        for i in range(6):
            places, speeds = [], []
            for j in (j for j in range(6) if j != i):
                sees = (inside[i] & inside[j]).any(0) | ~(hidden[i] | hidden[j]) | (i == 0)
                places.append(np.where(sees, rel[i, j], 0.0))
                if j > 3:
                    speeds.append(np.where(sees, view.vel[j], 0.0))
            found += [view.vel[i], view.pos[i], flat(rel[i, 6:]), *places]
            found += [signs[i], *speeds] if i > 3 else [*speeds, signs[i], view.words[0]]
        return found

    def _judge(self, view: View) -> tuple[list[np.ndarray], list[np.ndarray]]:
        apart = length(view.pos[:4, None] - view.pos[4:6])  # (4, 2, n): predators and prey
        contacts = apart < self._touch[:4, 4:6, None]
        away = length(view.pos[7:9, None] - view.pos[4:6])  # (2, 2, n): food and prey
        eaten = away < self._touch[7:9, 4:6, None]
        predators = [0.0 - 0.1 * apart[i].min(0) for i in range(4)]
        for contact in flat(contacts):  # one after the other, as mpe2 adds them
            predators = [reward + 5.0 * contact for reward in predators]
        prey = []
        for k in range(2):
            x, y = bound(np.abs(view.pos[4 + k]))
            reward = 0.0 - 5.0 * contacts[:, k].sum(0) - 2 * x - 2 * y
            for bite in eaten[:, k]:
                reward = reward + 2.0 * bite
            far = 0.05 * away[:, k].min(0)
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
# Of a task: the score of the random policy, `python -m ascent.suites.anchors`, and of a script that steers at its
# goal or flees, against adversaries that act at random, `python -m tests.suites.particle_play`.
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
    return spaces.Box(low, high, (count,), np.float32)


def _action_space(world: type[World], agent: Body) -> spaces.Space:
    parts = [MOVES] * agent.moves + [world.vocabulary] * agent.speaks
    if world.discrete:
        return spaces.Discrete(int(np.prod(parts)))
    if world.original and len(parts) > 1:
        return spaces.Tuple([_box(part) for part in parts])
    return _box(sum(parts))


def _task(name: str, world: type[World], **conventions: bool) -> type[World]:
    """The scenario as a task of this name."""
    task = type(world.__name__, (world,), {"__doc__": world.__doc__, **conventions})
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
        observation_space=spaces.Tuple([_box(k, -np.inf, np.inf) for k in world.sees]),
        action_space=spaces.Tuple([_action_space(task, agent) for agent in world.agents]),
        horizon=25,
        budget=1_500_000,  # 60,000 episodes, as MADDPG's authors trained
        random_score=random,
        reference_score=reference,
        reference_source=SCRIPT,
        return_convention=convention,
        packages=("numpy",),
        team=Team(names, sides, scored, world.measured),
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
