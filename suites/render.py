"""Pictures of environments: classic control and MuJoCo as gymnasium draws them, particle worlds as circles.

gymnasium draws an environment of its own, put into the state of ours: its pole is as long as ever where
`length` was changed. It needs pygame (classic control), or EGL or OSMesa (MuJoCo): `ascent[watch]`.
"""

import os

# Read when these libraries are imported or first used: no screen is needed.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")

import gymnasium
import mujoco
import numpy as np
from gymnasium.error import DependencyNotInstalled
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from ascent.suites.batch import Batch
from ascent.suites.mujoco import Simulation, quiet
from ascent.suites.particle import World

HINT = "pip install 'ascent[watch]'; MuJoCo also needs EGL, Debian's libegl1 and libgl1-mesa-dri"
FOLLOWS = "track"  # the camera of gymnasium's models that goes with the body


class Camera:
    """Draws environments of a task, one at a time.

    Raises RuntimeError, one line, where what draws is not installed.
    """

    def __init__(self, batch: Batch):
        self.batch, self.original = batch, None
        if isinstance(batch, World):
            self.draw = self._circles
            return
        self.draw, options = self._classic, {}
        if isinstance(batch, Simulation):
            self.draw = self._mujoco
            if mujoco.mj_name2id(batch._model, mujoco.mjtObj.mjOBJ_CAMERA, FOLLOWS) >= 0:
                options = {"camera_name": FOLLOWS}
        try:
            with quiet():
                self.original = gymnasium.make(
                    batch.spec.id, render_mode="rgb_array", disable_env_checker=True, **options
                )
            self.original.reset(seed=0)
            self.original.render()
        except (ImportError, AttributeError, RuntimeError, DependencyNotInstalled) as error:
            raise RuntimeError(f"{batch.spec.id} cannot be drawn here ({error}): {HINT}") from error

    @property
    def seconds(self) -> float:
        """Of one step, in the task's own time."""
        if self.original is None:
            return 0.1
        return 1 / self.original.metadata["render_fps"]

    def picture(self, i: int = 0) -> np.ndarray:
        """(height, width, 3) uint8: environment i of S x E as it is now."""
        return self.draw(self.batch._current()[:, i])

    def _classic(self, physics: np.ndarray) -> np.ndarray:
        env = self.original.unwrapped
        env.state = physics.copy()
        env.last_u = None  # the pendulum's torque
        return self.original.render()

    def _mujoco(self, physics: np.ndarray) -> np.ndarray:
        env = self.original.unwrapped
        nq = env.model.nq
        env.set_state(physics[:nq], physics[nq : nq + env.model.nv])
        return self.original.render()

    def _circles(self, physics: np.ndarray) -> np.ndarray:
        view, figure = self.batch._view(physics[:, None]), Figure(figsize=(4, 4), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1))
        reach = max(1.5, float(np.abs(view.pos).max()) + 0.2)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), xticks=[], yticks=[])
        sides = self.batch.spec.team.sides
        bodies = [*self.batch.agents, *self.batch.landmarks]
        for k, (body, place) in enumerate(zip(bodies, view.pos[..., 0], strict=True)):
            colour = "#b0b0b0" if k >= len(sides) else {"adversary": "#d55e00"}.get(sides[k], "#0173b2")
            axes.add_patch(Circle(tuple(place), body.size, color=colour, alpha=0.8))
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        """Let go of windows and contexts."""
        if self.original is not None:
            self.original.close()
