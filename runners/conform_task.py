"""`ascent conform gym:...`: finds the class of an environment from outside this project.

    python -P -m ascent.runners.conform_task < declaration.json

prints the digests of one episode, for the comparison with another process.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ascent import suites
from ascent.records.errors import InputError
from ascent.runners import environments
from ascent.suites import Foreign, anchors, foreign
from ascent.suites.foreign import LOOSE, REPLAYABLE, TRIALS, ForeignTask

SEEDS = (7, 8, 9)  # of the episodes that are played again
STEPS = 1_000  # the most of an episode
PASS, FAIL, NOTE = "pass", "FAIL", "note"


@dataclass(frozen=True)
class Check:
    """What one test found."""

    name: str
    grade: str  # PASS, FAIL or NOTE
    reason: str = ""


def conform(declared: Foreign) -> Iterator[Check]:
    """Test an environment. It is replayable if no test fails, unless it is declared loose.

    Raises:
        InputError: it is unknown or not supported, raises, or cannot be seeded.
    """
    task = suites.foreign_task(environments.add(declared))
    assert task is not None
    steps = min(STEPS, task.spec.horizon)
    try:
        found = [foreign.tried(task, steps, seed) for seed in SEEDS]
        for (name, why), same in zip(TRIALS.items(), zip(*found, strict=True), strict=True):
            yield _check(f"the same episode {name}", all(same), f"differs; perhaps {why}")
        yield _check("the same episode in another process", *_elsewhere(task, steps))
        yield _check("restored in the midst of an episode", *_restored(task, steps))
        yield from _facts(task, steps)
    except suites.EnvironmentFailed as error:
        raise InputError(str(error)) from error


def found(declared: Foreign, checks: list[Check]) -> str:
    """Return the class of an environment by the checks."""
    failed = any(check.grade == FAIL for check in checks)
    return LOOSE if failed or declared.loose else REPLAYABLE


def _check(name: str, same: bool, why: str) -> Check:
    return Check(name, PASS if same else FAIL, "" if same else why)


def _marks(task: ForeignTask, steps: int) -> list[int]:
    env = task.make()
    try:
        return foreign.play(env, foreign.random_actions(task.spec, steps, 0), SEEDS[0])
    finally:
        env.close()


def _elsewhere(task: ForeignTask, steps: int) -> tuple[bool, str]:
    """Compare an episode with the one that another process plays."""
    job = json.dumps({"environment": task.foreign.to_json(), "steps": steps})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ascent.runners.conform_task"], input=job, capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return False, f"it failed there: {last}"
    why = "differs; perhaps hashes of text, addresses of objects, or the clock"
    return json.loads(done.stdout.splitlines()[-1]) == _marks(task, steps), why


def _restored(task: ForeignTask, steps: int) -> tuple[bool, str]:
    """Save environments in the midst of episodes, restore them elsewhere, and compare what follows."""
    seeds = np.arange(4).reshape(2, 2)
    batch, other = (suites.make(task.spec.id, seeds) for _ in range(2))
    batch.reset()
    shape = (steps + steps // 2, 2, 2, *task.spec.action_shape)
    actions = foreign.random_actions(task.spec, 4 * len(np.empty(shape)), 1).reshape(shape)
    for action in actions[: steps // 2]:
        batch.step(action)
    try:
        other.load_state(batch.state())
    except suites.EnvironmentFailed as error:
        return False, str(error)
    for action in actions[steps // 2 :]:
        pairs = zip(batch.step(action), other.step(action), strict=True)
        if any(one.tobytes() != two.tobytes() for one, two in pairs):
            return False, "what follows differs; perhaps something that neither seed nor actions determine"
    return True, ""


def _facts(task: ForeignTask, steps: int) -> Iterator[Check]:
    """Note what decides nothing, but may surprise."""
    envs = [task.make() for _ in range(2)]
    actions = foreign.random_actions(task.spec, steps, 0)
    begun = time.perf_counter()
    one, two = (foreign.play(env, actions, seed) for env, seed in zip(envs, (1, 2), strict=True))
    rate = (len(one) + len(two)) / (time.perf_counter() - begun)
    foreign.close(list(envs))
    same = " although the seeds differ: it draws no random numbers" if one == two else ""
    yield Check("two seeds", NOTE, f"play {'the same episode' if same else 'different episodes'}{same}")
    yield Check("speed", NOTE, f"{rate:,.0f} steps per second, one environment")


def random_score(declared: Foreign, episodes: int) -> tuple[float, float]:
    """Return the mean score of the uniform random policy, and its standard error.

    Raises:
        InputError: as `conform`; or fewer than two episodes.
    """
    if episodes < 2:
        raise InputError(f"episodes must be at least 2, not {episodes}")
    try:
        scores = anchors.random_returns(environments.add(declared), episodes)
    except suites.EnvironmentFailed as error:
        raise InputError(str(error)) from error
    return float(scores.mean()), float(scores.std(ddof=1) / np.sqrt(episodes))


def main() -> int:
    """Play the episode on standard input and return the exit code."""
    job = json.load(sys.stdin)
    try:
        task = suites.foreign_task(suites.add(Foreign(**job["environment"])))
        assert task is not None
        print(json.dumps(_marks(task, job["steps"])))
    except Exception as error:
        print(f"error: {foreign.said(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
