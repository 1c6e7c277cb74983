"""Watch: film one episode of a run's policy as GIF or MP4, with or without a perturbation."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
import torch

from ascent import suites
from ascent.algorithms.seedwise import Streams
from ascent.records.cell import read_cell
from ascent.records.errors import InputError
from ascent.runners import environments, policies
from ascent.runners.play import Policy, env_seeds, play
from ascent.runners.robustness import perturbed_policy
from ascent.suites.perturb import NOMINAL, Perturbation, Perturbed
from ascent.suites.render import Camera
from ascent.suites.spec import Step

FRAMES_PER_SECOND = 25  # at most; of faster tasks some steps are skipped
FORMATS = (".gif", ".mp4")


class Filmed:
    """Environments with a camera that takes a picture of the first one before every n-th step."""

    def __init__(
        self, env: suites.Environments, camera: Camera, every: int, keep: Callable[[np.ndarray], None]
    ):
        self.env = env
        self.camera = camera
        self.every = every
        self.keep = keep
        self.steps = 0

    @property
    def spec(self) -> suites.Spec:
        return self.env.spec

    @property
    def shape(self) -> tuple[int, int]:
        return self.env.shape

    def reset(self) -> np.ndarray:
        return self.env.reset()

    def step(self, actions: np.ndarray, /) -> Step:
        if self.steps % self.every == 0:
            self.keep(self.camera.picture())
        self.steps += 1
        return self.env.step(actions)

    def retire(self, flags: np.ndarray, /) -> None:
        self.env.retire(flags)


def film(
    run: Path,
    target: Path,
    perturbation: Perturbation | None = None,
    episode: int = 0,
    step: int | None = None,
) -> tuple[float, int]:
    """Film an episode of a run and write it to `target`.

    Args:
        run: the run's folder.
        target: a .gif or .mp4.
        perturbation: default: the nominal task.
        episode: the number of the environment, as in `ascent robustness`.
        step: the step of a kept policy; default: the final policy.

    Returns:
        The episode's return and its length in steps.

    Raises:
        InputError: nothing is written then.
    """
    if target.suffix not in FORMATS:
        raise InputError(f"{target}: the name must end in {' or '.join(FORMATS)}")
    if episode < 0:
        raise InputError(f"episode must be at least 0, not {episode}")
    torch.set_num_threads(1)
    seed = policies.seed_of(run)
    cell = read_cell(run.parent)
    environments.refuse(cell, "cannot be filmed")
    spec = suites.TASKS[cell.task]
    level = perturbation or Perturbation(NOMINAL, 0.0)
    policy: Policy = policies.load(cell, run.parent, [seed], step)
    seeds = {
        name: env_seeds([seed], episode + 1, name)[:, episode:] for name in ("robustness", "perturbation")
    }
    env: suites.Environments
    if spec.team:
        env = batch = suites.make_batch(cell.task, seeds["robustness"])
    else:
        env = Perturbed(cell.task, level, seeds["robustness"], seeds["perturbation"])
        batch = env.batch
        policy = perturbed_policy(policy, level, spec, [seed])
    try:
        camera = Camera(batch)
    except RuntimeError as error:
        raise InputError(str(error)) from error
    every = max(1, round(1 / (FRAMES_PER_SECOND * camera.seconds)))
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.stem}-unfinished{target.suffix}")
    options: dict[str, Any] = {"loop": 0, "duration": 1000 * every * camera.seconds}
    if target.suffix == ".mp4":
        options = {"fps": 1 / (every * camera.seconds), "macro_block_size": 2}
    try:
        with imageio.get_writer(unfinished, **options) as writer:
            filmed = Filmed(env, camera, every, writer.append_data)  # type: ignore[attr-defined]  # of writers
            ((score, length, *_),) = play(policy, filmed, Streams([seed], "robustness"), level.explore)[0]
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
        camera.close()
    return float(score), int(length)
