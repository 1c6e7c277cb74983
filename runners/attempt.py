"""Train some runs of a cell from a common step on, and keep their records."""

import time
from collections.abc import Callable

import numpy as np

from ascent import suites
from ascent.records import layout
from ascent.records.errors import InputError
from ascent.records.run import Run
from ascent.records.tables import MEASURED
from ascent.runners.measures import measure
from ascent.runners.play import evaluate
from ascent.runners.trainer import Trainer

STATUS_SECONDS = 1.0  # between updates of what the heartbeats say


class Attempt:
    """One attempt to finish runs of a cell that are all at the same step."""

    def __init__(
        self,
        trainer: Trainer,
        runs: list[Run],
        checkpoint_seconds: float,
        keep_policies: int = 0,
        keep_checkpoint: bool = False,
    ):
        self.trainer = trainer
        self.runs = runs
        self.checkpoint_seconds = checkpoint_seconds
        self.keep_policies = keep_policies
        self.keep_checkpoint = keep_checkpoint  # at the end of the budget
        self.grid = trainer.cell.evaluation.grid(trainer.cell.steps)
        self.active = list(range(len(runs)))  # rows that have not diverged
        self.score: list[float | None] = [None] * len(runs)
        self.usage = {"wall_s": 0.0, "cpu_s": 0.0}  # of earlier attempts, up to the step of this one's start

    def run(self, step: int | None, stop: Callable[[], bool]) -> bool:
        """Train from the checkpoints of `step`, or from the start if None.

        Returns:
            Whether all runs came to their end: False if `stop` asked to stop before.

        Raises:
            InputError: a foreign environment failed. The runs stay where their checkpoints are.
        """
        try:
            return self._run(step, stop)
        except suites.EnvironmentFailed as error:
            raise self._failure(error) from error

    def _failure(self, error: suites.EnvironmentFailed) -> InputError:
        """Record which run failed and why, and return the error of its process."""
        trainer = self.trainer
        for row in self.active:
            note: dict[str, str] = {"failure": str(error)} if row == error.row else {}
            self.runs[row].end_attempt(trainer.step, {**self._used(), **note})
        seed = "" if error.row is None else f" seed {trainer.seeds[error.row]}"
        return InputError(f"{trainer.cell.label()}{seed}, step {trainer.step:,}: {error}")

    def _run(self, step: int | None, stop: Callable[[], bool]) -> bool:
        trainer = self.trainer
        for run in self.runs:  # before anything is cut off: it refuses the records of other versions
            run.begin(step or 0, trainer.seeds, trainer.threads)
        self.wall = time.monotonic()
        self.cpu = time.process_time()
        if step is None:
            for run in self.runs:
                run.restart()
        else:
            checkpoints = [run.rewind(step) for run in self.runs]
            trainer.load(checkpoints)
            self.usage = checkpoints[0].notes["usage"]
        self.start_step = trainer.step
        self.wall = time.monotonic()
        self.cpu = time.process_time()
        if step is None:
            self._ladder("start")
            self._evaluate()
        return self._train(stop)

    def _train(self, stop: Callable[[], bool]) -> bool:
        trainer = self.trainer
        last_saved = last_status = self.wall
        grid = [point for point in self.grid if point > trainer.step]
        while self.active and grid:
            updates = trainer.updates
            for row, env, episode in trainer.advance():
                if row in self.active:
                    self.runs[row].tables[layout.TRAIN].add(trainer.step, env, *episode)
            if updates == 0 < trainer.updates:
                self._ladder("first update")
            if trainer.step >= grid[0]:
                grid = [point for point in grid if point > trainer.step]
                self._evaluate()
            now = time.monotonic()
            if now - last_status >= STATUS_SECONDS:
                self._report_status()
                last_status = now
            stopping = stop()
            if grid and (stopping or now - last_saved >= self.checkpoint_seconds):
                self._save()
                last_saved = time.monotonic()
            if stopping and grid and self.active:
                self._end_early()
                return False
        if self.keep_checkpoint:
            self._save()
        for row in self.active:
            self._finish(row, "done")
        return True

    def _end_early(self) -> None:
        self._report_status()
        for row in self.active:
            self.runs[row].owner.tell()  # the last heartbeat until another attempt continues
            self.runs[row].end_attempt(self.trainer.step, self._used())

    def _evaluate(self) -> None:
        """Record the ladder, the evaluation and the metrics of this step; end the runs that have diverged."""
        trainer = self.trainer
        means = trainer.take_metrics()
        if means is not None:
            for row in self.active:
                table = self.runs[row].tables[layout.METRICS]
                table.head("step", *trainer.metric_names)
                table.add(trainer.step, *means[row].tolist())
        self._ladder("evaluation")
        finite = trainer.finite()
        for row in [row for row in self.active if not finite[row]]:
            self._finish(row, "diverged")
            self.active.remove(row)
        if not self.active:
            return
        passed = sum(point <= trainer.step for point in self.grid) - 1  # evaluations after the one at step 0
        if self.keep_policies and passed % self.keep_policies == 0:
            for row in self.active:
                self.runs[row].keep_policy(trainer.step, trainer.policy(row))
        self._play("greedy", explore=False)
        if trainer.step >= self.grid[-1]:
            self._play("sampled", explore=True)
        self._measure()
        for row in self.active:
            self.runs[row].flush()

    def _measure(self) -> None:
        """Record the measures of this step."""
        trainer = self.trainer
        tables = {row: self.runs[row].tables.get(layout.MEASURES) for row in self.active}
        if any(tables.values()):
            rows = measure(
                trainer.agent, trainer.cell, trainer.seeds, trainer.step, trainer.device, trainer.threads
            )
            for row, table in tables.items():
                for name, value in zip(MEASURED, rows[row], strict=True):
                    if table is not None and value != "":
                        table.add(trainer.step, name, value)

    def _play(self, policy: str, explore: bool) -> None:
        """Evaluate a policy of all seeds and record the episodes."""
        trainer = self.trainer
        episodes = evaluate(
            trainer.agent, trainer.cell, trainer.seeds, trainer.step, explore, trainer.device, trainer.threads
        )
        for row in self.active:
            table = self.runs[row].tables[layout.EVAL]
            for number, episode in enumerate(episodes[row]):
                table.add(trainer.step, policy, number, *episode)
        if not explore:
            scores = [[score for score, *_ in of_seed] for of_seed in episodes]
            self.score = np.array(scores).mean(1).tolist()

    def _ladder(self, event: str) -> None:
        """Record the digest of every seed's learner."""
        digests = self.trainer.digests()
        for row in self.active:
            self.runs[row].tables[layout.LADDER].add(self.trainer.step, event, digests[row])

    def _finish(self, row: int, status: str) -> None:
        trainer = self.trainer
        score = self.score[row] if status == "done" else None
        unstable = int(trainer.episodes.unstable[row].sum())
        self.runs[row].finish(status, trainer.step, score, trainer.policy(row), self._used(), unstable)

    def _used(self) -> dict[str, float]:
        """Return the compute of this attempt, shared evenly by the runs of the pack."""
        n = len(self.runs)
        wall = time.monotonic() - self.wall
        cpu = time.process_time() - self.cpu
        return {"wall_s": round(wall / n, 3), "cpu_s": round(cpu / n, 3)}

    def _report_status(self) -> None:
        trainer = self.trainer
        rate = (trainer.step - self.start_step) / max(time.monotonic() - self.wall, 1e-9)
        for row in self.active:
            self.runs[row].progress(trainer.step, rate, self.score[row])
            if self.runs[row].owner.superseded:  # stop now: the next write would be refused anyway
                self.runs[row].owner.check()

    def _save(self) -> None:
        used = self._used()
        usage = {name: round(self.usage[name] + used[name], 3) for name in used}
        checkpoints = self.trainer.checkpoints({"usage": usage})
        for row in self.active:
            self.runs[row].save(checkpoints[row])
