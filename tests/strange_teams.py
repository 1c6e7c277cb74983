"""A parallel environment from outside the project, good or bad in one way, as a user's own module has it."""

from typing import Any

import numpy as np
from gymnasium import spaces

PLACE = spaces.Box(-np.inf, np.inf, (1,), np.float64)
PUSH = spaces.Box(-1.0, 1.0, (1,), np.float32)


class Meeting:
    """Two agents on a line that shall meet; one sees its place, the other one of three landmarks."""

    def __init__(self, kind: str = "", max_cycles: int | None = 20) -> None:
        self.kind = kind
        self.possible_agents = ["seer", "return" if kind == "named" else "walker"]
        self.agents: list[str] = []
        self.spaces: dict[str, tuple[spaces.Space, spaces.Space]] = {
            "seer": (spaces.Box(0, 255, (4, 4), np.uint8) if kind == "pixels" else PLACE, PUSH),
            self.possible_agents[1]: (spaces.Discrete(3), spaces.Discrete(3) if kind == "mixed" else PUSH),
        }
        if kind != "endless":
            self.max_cycles = max_cycles
        self.places = np.zeros(2)
        self.steps = 0

    @property
    def unwrapped(self) -> "Meeting":
        return self

    def observation_space(self, agent: str) -> spaces.Space:
        return self.spaces[agent][0]

    def action_space(self, agent: str) -> spaces.Space:
        return self.spaces[agent][1]

    def _seen(self) -> dict[str, Any]:
        return {"seer": self.places[:1].copy(), "walker": int(abs(self.places[1]) * 10) % 3}

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict, dict]:
        self.agents = list(self.possible_agents)
        rng = np.random if self.kind == "careless" else np.random.default_rng(seed)
        self.places, self.steps = rng.normal(size=2), 0
        return self._seen(), {}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        self.steps += 1
        self.places += 0.1 * np.array([actions["seer"][0], actions["walker"][0]])
        apart = abs(self.places[0] - self.places[1])
        met = {agent: bool(apart < 0.05) for agent in self.agents}
        if self.kind == "leaving":
            met = {"seer": False, "walker": self.steps == 3}
        late = dict.fromkeys(self.agents, self.max_cycles == self.steps)
        rewards = {"seer": -apart, "walker": -2 * apart}
        return self._seen(), rewards, met, late, {}

    def close(self) -> None:
        pass


parallel_env = Meeting
