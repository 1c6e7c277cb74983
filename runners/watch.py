"""Watch: one episode of a run's policy as a film, GIF or MP4, perturbed if asked."""

from collections.abc import Callable
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import torch

from ascent import suites
from ascent.algorithms.seedwise import Streams
from ascent.records.cell import read_cell
from ascent.records.errors import InputError
from ascent.runners import policies
from ascent.runners.play import env_seeds, play
from ascent.runners.robustness import under
from ascent.suites.perturb import NOMINAL, Perturbation, Perturbed
from ascent.suites.render import Camera
from ascent.suites.spec import Step

PICTURES_PER_SECOND = 25  # at most; of faster tasks some steps are left out
FORMATS = (".gif", ".mp4")


class Filmed:
    """A batch, of which a camera takes a picture of the first environment before some of the steps."""

    def __init__(self, batch: suites.Batch | Perturbed, camera: Camera, every: int, keep: Callable):
        self.batch, self.camera, self.every, self.keep = batch, camera, every, keep
        self.spec, self.shape, self.reset, self.retire = batch.spec, batch.shape, batch.reset, batch.retire
        self.steps = 0

    def step(self, actions: np.ndarray) -> Step:
        if self.steps % self.every == 0:
            self.keep(self.camera.picture())
        self.steps += 1
        return self.batch.step(actions)


def film(
    run: Path,
    target: Path,
    perturbation: Perturbation | None = None,
    episode: int = 0,
    step: int | None = None,
) -> tuple[float, int]:
    """Film an episode of the run in this folder and write it to `target`; returns its return and length.

    `episode` says in which of the environments of `ascent robustness`; `step` which kept policy acts, the
    final one if None. Raises InputError, and writes nothing then.
    """
    if target.suffix not in FORMATS:
        raise InputError(f"{target}: the name must end in one of {', '.join(FORMATS)}")
    if episode < 0:
        raise InputError(f"episode: {episode} must be at least 0")
    torch.set_num_threads(1)
    seed, cell = policies.seed_of(run), read_cell(run.parent)
    spec, one = suites.TASKS[cell.task], perturbation or Perturbation(NOMINAL, 0.0)
    agent = policies.load(cell, run.parent, [seed], step)
    seeds = [env_seeds([seed], episode + 1, name)[:, episode:] for name in ("robustness", "perturbation")]
    if spec.team:
        env = batch = suites.make(cell.task, seeds[0])
    else:
        env = Perturbed(cell.task, one, *seeds)
        batch, agent = env.batch, under(agent, one, spec, [seed])
    try:
        camera = Camera(batch)
    except RuntimeError as error:
        raise InputError(str(error)) from error
    every = max(1, round(1 / (PICTURES_PER_SECOND * camera.seconds)))
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.stem}-unfinished{target.suffix}")
    options = {"loop": 0, "duration": 1000 * every * camera.seconds}
    if target.suffix == ".mp4":
        options = {"fps": 1 / (every * camera.seconds), "macro_block_size": 2}
    try:
        with imageio.get_writer(unfinished, **options) as writer:
            filmed = Filmed(env, camera, every, writer.append_data)
            ((score, length, *_),) = play(agent, filmed, Streams([seed], "robustness"))[0]
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
        camera.close()
    return score, length
