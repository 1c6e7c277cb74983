"""Draw environments: classic control and MuJoCo through gymnasium, particle worlds as circles.

For classic control and MuJoCo, the state of the batch is copied into an environment of gymnasium, which draws
it. That environment has default physics, so the pole is drawn at its default length even if `length` was
changed. Drawing needs pygame (classic control), or EGL or OSMesa (MuJoCo): install `ascent[watch]`.
"""

import os
from typing import Any

# These variables are read when the libraries are imported or first used. They make drawing work without a
# screen.
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
TRACKING_CAMERA = "track"  # the camera that follows the body, in gymnasium's models


class Camera:
    """Draws environments of a batch, one at a time.

    Raises:
        RuntimeError: a library that drawing needs is not installed; the message is one line.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        # Any, because the attributes of these environments belong to their classes, not to gymnasium.Env.
        self.original: Any = None if isinstance(batch, World) else _original(batch)

    @property
    def seconds(self) -> float:
        """The duration of one step in the time of the task, in seconds."""
        if self.original is None:
            return 0.1
        return 1 / self.original.metadata["render_fps"]

    def picture(self, i: int = 0) -> np.ndarray:
        """Return a picture (height, width, 3) uint8 of environment i of the S x E environments."""
        physics = self.batch._current()[:, i]
        if isinstance(self.batch, World):
            return _circles(self.batch, physics)
        env = self.original.unwrapped
        if isinstance(self.batch, Simulation):
            qpos_size = env.model.nq
            env.set_state(physics[:qpos_size], physics[qpos_size : qpos_size + env.model.nv])
        else:
            env.state = physics.copy()
            env.last_u = None  # torque of the pendulum, drawn as an arrow unless it is None
        return self.original.render()

    def close(self) -> None:
        """Release windows and graphics contexts."""
        if self.original is not None:
            self.original.close()


def _original(batch: Batch) -> Any:
    """Return gymnasium's environment of a batch's task, ready to render, or raise RuntimeError."""
    options: dict[str, Any] = {}
    if isinstance(batch, Simulation):
        camera = mujoco.mj_name2id(batch._model, mujoco.mjtObj.mjOBJ_CAMERA, TRACKING_CAMERA)
        if camera >= 0:
            options["camera_name"] = TRACKING_CAMERA
    try:
        with quiet():
            env = gymnasium.make(batch.spec.id, render_mode="rgb_array", disable_env_checker=True, **options)
        env.reset(seed=0)
        env.render()
    except (ImportError, AttributeError, RuntimeError, DependencyNotInstalled) as error:
        raise RuntimeError(f"{batch.spec.id} cannot be drawn here ({error}): {HINT}") from error
    return env


def _circles(world: World, physics: np.ndarray) -> np.ndarray:
    """Return a picture (height, width, 3) uint8 of a particle world with physics (K,)."""
    view = world._view(physics[:, None])
    figure = Figure(figsize=(4, 4), dpi=100)
    axes = figure.add_axes((0, 0, 1, 1))
    limit = max(1.5, float(np.abs(view.pos).max()) + 0.2)
    axes.set(xlim=(-limit, limit), ylim=(-limit, limit), xticks=[], yticks=[])
    bodies = [*world.agents, *world.landmarks]
    colours = ["#d55e00" if agent.side == "adversary" else "#0173b2" for agent in world.agents]
    colours += ["#b0b0b0"] * len(world.landmarks)
    for body, colour, (x, y) in zip(bodies, colours, view.pos[..., 0], strict=True):
        axes.add_patch(Circle((x, y), body.size, color=colour, alpha=0.8))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
