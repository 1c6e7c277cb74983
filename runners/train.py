"""The training loop: all seeds of a pack at once, recorded so that it can stop and go on at any step.

One loop serves both kinds of experience: step every environment, store, learn when there is something to
learn from, evaluate on a fixed grid. Everything that the next step depends on is in `Trainer.state_dict`,
seed axis first, so a checkpoint of one seed is a slice, and a pack is a concatenation of slices.
"""

import time
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from ascent import suites
from ascent.algorithms.seedwise import Replay, Streams, derive_seed
from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile, InputError, unknown
from ascent.records.ownership import beating
from ascent.records.run import Checkpoint, Run, State, open_all
from ascent.runners.experience import ReplayStorage, RolloutStorage
from ascent.runners.memory import check_memory
from ascent.runners.resolve import check_versions, make_agent

STREAMS = ("act", "learn", "replay")


def env_seeds(seeds: Sequence[int], envs: int, purpose: str, *index: int) -> np.ndarray:
    """(S, E) seeds of environments that depend on (seed, purpose, index) alone."""
    return np.array([[derive_seed(seed, purpose, *index, e) for e in range(envs)] for seed in seeds])


def to_env(action: torch.Tensor, spec: suites.Spec) -> tuple[np.ndarray, np.ndarray]:
    """The action as it is stored, and as it is executed: numbers are clipped to their bounds."""
    stored = action.cpu().numpy()
    return stored, stored if spec.bounds is None else stored.clip(*spec.bounds)


def flat(prefix: str, state: dict[str, np.ndarray | torch.Tensor]) -> State:
    """The state as numpy arrays under `prefix`/."""
    arrays = {k: v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def part(prefix: str, state: State) -> State:
    """What `flat` put under `prefix`/."""
    start = prefix + "/"
    return {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}


class Episodes:
    """What the running episodes of S x E environments come to, as far as they are."""

    def __init__(self, spec: suites.Spec, shape: tuple[int, int]):
        self.spec, self.lengths = spec, np.zeros(shape, np.int64)
        self.unstable = np.zeros_like(self.lengths)  # steps
        self.returns = np.zeros(shape)  # of a team (S, E, N)
        self.measures: np.ndarray | None = None  # (S, E, M) of a team, sums or the last
        if spec.team:
            self.returns = np.zeros((*shape, len(spec.team.agents)))
            self.measures = np.zeros((*shape, len(spec.team.measures)))
            kinds = np.array([kind for _, kind in spec.team.measures])
            self.lasts, self.means = kinds == "last", kinds == "mean"

    def add(self, now: suites.Step) -> None:
        """One more step of all."""
        self.returns += now.reward
        self.lengths += 1
        self.unstable += now.unstable
        if self.measures is not None:
            self.measures = np.where(self.lasts, now.measures, self.measures + now.measures)

    def take(self, ended: np.ndarray) -> list[tuple[int, int, tuple]]:
        """Row of the seed, environment, and what is recorded (`records.EPISODE`, and the team's own columns),
        of the episodes that have `ended`, (S, E) bool. New ones begin there.
        """
        found = []
        for where in map(tuple, np.argwhere(ended).tolist()):
            length, own = int(self.lengths[where]), ()
            if self.measures is not None:
                measures = np.where(self.means, self.measures[where] / length, self.measures[where])
                own = (*self.returns[where].tolist(), *measures.tolist())
            score = float(self.spec.score(self.returns[where]))
            found.append((*where, (score, length, int(self.unstable[where]), *own)))
        for sums in self.state().values():
            sums[ended] = 0
        return found

    def state(self) -> dict[str, np.ndarray]:
        """All of it, seed axis first."""
        sums = {"returns": self.returns, "lengths": self.lengths, "unstable": self.unstable}
        return sums if self.measures is None else sums | {"measures": self.measures}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        for name in self.state():
            setattr(self, name, state[name])


def play(
    agent: object,
    env: suites.Batch,
    rng: Streams,
    explore: bool = False,
    progress: float = 1.0,
    device: str = "cpu",
) -> list[list[tuple]]:
    """One episode in every environment: of each seed what is recorded of its episodes (`Episodes.take`)."""
    obs, carry = env.reset(), None
    running, episodes = np.ones(env.shape, bool), Episodes(env.spec, env.shape)
    found: list[list[tuple]] = [[()] * env.shape[1] for _ in range(env.shape[0])]
    while running.any():
        action, carry = agent.act(torch.from_numpy(obs).to(device), rng, explore, progress, carry)
        now = env.step(to_env(action, env.spec)[1])
        episodes.add(now)
        ended = running & (now.terminated | now.truncated)
        if ended.any():
            for row, e, episode in episodes.take(ended):
                found[row][e] = episode
            running &= ~ended
            env.retire(~running)
        obs = now.obs
    return found


def evaluate(
    agent: object,
    cell: Cell,
    seeds: Sequence[int],
    step: int,
    explore: bool,
    device: str = "cpu",
    threads: int = 1,
) -> list[list[tuple]]:
    """`play` in as many fresh environments per seed as the protocol has episodes.

    Environments and action noise depend on (seed, step) alone: when and how often one evaluates changes no
    other evaluation and no training.
    """
    env = suites.make(cell.task, env_seeds(seeds, cell.evaluation.episodes, "eval", step), threads)
    rng = Streams(seeds, "eval", step, device=device)
    return play(agent, env, rng, explore, step / cell.steps, device)


class Trainer:
    """The training of some seeds of a cell, from `start` or a loaded state to the end of the budget."""

    def __init__(self, cell: Cell, seeds: Sequence[int], device: str = "cpu", threads: int = 1):
        self.cell, self.seeds, self.device, self.threads = cell, list(seeds), device, threads
        self.spec = suites.TASKS[cell.task]
        self.agent = make_agent(cell, Streams(seeds, "init", device=device), device)
        experience = self.agent.experience
        self.envs = experience.envs
        if isinstance(experience, Replay):
            self.storage = ReplayStorage(experience, len(seeds), self.spec, device, cell.steps)
        else:
            self.storage = RolloutStorage(experience, len(seeds), self.spec, device)
        self.capacity = experience.capacity if isinstance(experience, Replay) else 0
        self.env = suites.make(cell.task, env_seeds(seeds, self.envs, "env"), threads)
        self.act_rng = Streams(seeds, "act", device=device)
        self.learn_rng = Streams(seeds, "learn", device=device)
        self.replay_rng = Streams(seeds, "replay")
        self.step = 0  # environment steps per seed, over its environments
        self.updates = 0
        self.obs: np.ndarray = self.env.reset()  # (S, E, O)
        self.carry: torch.Tensor | None = None
        self.episodes = Episodes(self.spec, (len(seeds), self.envs))
        self.metric_names: list[str] = []
        self.metric_sums: torch.Tensor | None = None  # (S, M) float64 since the last evaluation
        self.metric_count = 0

    # ---- one step

    def advance(self) -> list[tuple[int, int, tuple]]:
        """One step of every environment and what there is to learn from it.

        Returns the episodes that ended, see `Episodes.take`.
        """
        progress = self.step / self.cell.steps
        obs = torch.from_numpy(self.obs).to(self.device)
        action, self.carry = self.agent.act(obs, self.act_rng, True, progress, self.carry)
        stored, executed = to_env(action, self.spec)
        now = self.env.step(executed)
        self.storage.add(self.obs, stored, now)
        self.obs = now.obs
        self.step += self.envs
        self.episodes.add(now)
        ended = now.terminated | now.truncated
        episodes = []
        if ended.any():
            episodes = self.episodes.take(ended)
            if self.carry is not None:
                over = torch.from_numpy(ended).to(self.device)
                over = over.view(*over.shape, *[1] * (self.carry.dim() - 2))
                self.carry = self.carry.masked_fill(over, 0.0)  # a new tensor: acting may make read-only ones
        for batch in self.storage.batches(self.replay_rng):
            self._learn(batch)
        return episodes

    def _learn(self, batch: object) -> None:
        metrics = self.agent.update(batch, self.learn_rng, self.step / self.cell.steps)
        self.updates += 1
        row = torch.stack(list(metrics.values()), 1)  # stays where it is: nothing here waits for a GPU
        self.metric_names = list(metrics)
        self.metric_sums = row.double() if self.metric_sums is None else self.metric_sums.add_(row)
        self.metric_count += 1

    def take_metrics(self) -> np.ndarray | None:
        """Means (S, M) of the updates' metrics since the last call; None without updates."""
        if not self.metric_count:
            return None
        means = (self.metric_sums / self.metric_count).cpu().numpy()
        self.metric_sums, self.metric_count = None, 0
        return means

    # ---- the state

    def learner(self) -> State:
        """The agent's whole state."""
        return flat("agent", self.agent.state_dict())

    def digests(self) -> list[str]:
        """A digest of each seed's learner."""
        learner = sorted(self.learner().items())
        hashes = [sha256() for _ in self.seeds]
        for name, array in learner:
            for row, digest in enumerate(hashes):
                digest.update(name.encode() + np.ascontiguousarray(array[row]).tobytes())
        return [digest.hexdigest()[:16] for digest in hashes]

    def finite(self) -> np.ndarray:
        """(S,) bool: whether all of a seed's parameters are finite numbers."""
        params = [array for name, array in self.learner().items() if name.startswith("agent/params/")]
        return np.logical_and.reduce([np.isfinite(array).reshape(len(array), -1).all(1) for array in params])

    def state_dict(self) -> State:
        """Everything the next step depends on, but for replay's transitions."""
        n = len(self.seeds)
        state = self.learner() | flat("env", self.env.state())
        for name in STREAMS:
            state |= flat(name, getattr(self, f"{name}_rng").state_dict())
        state |= {"obs": self.obs} | self.episodes.state()
        state |= {"updates": np.full(n, self.updates), "metric_count": np.full(n, self.metric_count)}
        if self.metric_count:
            state["metric_sums"] = self.metric_sums.cpu().numpy()
        if self.carry is not None:
            state["carry"] = self.carry.cpu().numpy()
        if isinstance(self.storage, RolloutStorage):
            state |= flat("storage", self.storage.state_dict())
        return state

    def load_state_dict(self, step: int, state: State) -> None:
        """Go on from `step`."""
        tensors = {
            name: torch.from_numpy(array).to(self.device) for name, array in part("agent", state).items()
        }
        self.agent.load_state_dict(tensors)
        self.env.load_state(part("env", state))
        for name in STREAMS:
            getattr(self, f"{name}_rng").load_state_dict(part(name, state))
        self.step, self.updates = step, int(state["updates"][0])
        self.obs = state["obs"]
        self.episodes.load_state(state)
        self.metric_count = int(state["metric_count"][0])
        self.metric_sums = None
        if self.metric_count:
            self.metric_sums = torch.from_numpy(state["metric_sums"]).to(self.device)
        self.carry = torch.from_numpy(state["carry"]).to(self.device) if "carry" in state else None
        if isinstance(self.storage, RolloutStorage):
            self.storage.load_state_dict(part("storage", state))

    def checkpoints(self, notes: dict[str, object]) -> list[Checkpoint]:
        """One checkpoint per seed."""
        state, replay = self.state_dict(), [None] * len(self.seeds)
        if isinstance(self.storage, ReplayStorage):
            replay = self.storage.unsaved()
        notes = {**notes, "metric_names": self.metric_names}
        return [
            Checkpoint(
                self.step,
                {name: array[row : row + 1] for name, array in state.items()},
                replay[row],
                notes,
            )
            for row in range(len(self.seeds))
        ]

    def load(self, checkpoints: list[Checkpoint]) -> None:
        """Go on from one checkpoint per seed, all of the same step. Replay is read piece by piece: there may
        be gigabytes of it.
        """
        first = checkpoints[0]
        names = first.state.keys()
        state = {name: np.concatenate([c.state[name] for c in checkpoints]) for name in names}
        self.load_state_dict(first.step, state)
        self.metric_names = first.notes["metric_names"]
        if isinstance(self.storage, ReplayStorage):
            for row, checkpoint in enumerate(checkpoints):
                self.storage.restore(row, first.step, checkpoint.replay)


class PackTraining:
    """One attempt at some runs of a cell that stand at the same step: trains them and keeps their records."""

    def __init__(self, trainer: Trainer, runs: list[Run], checkpoint_seconds: float, keep_policies: int = 0):
        self.trainer, self.runs, self.checkpoint_seconds = trainer, runs, checkpoint_seconds
        self.keep_policies = keep_policies
        self.grid = trainer.cell.evaluation.grid(trainer.cell.steps)
        self.active = list(range(len(runs)))  # rows that have not diverged
        self.score: list[float | None] = [None] * len(runs)
        self.usage = {"wall_s": 0.0, "cpu_s": 0.0}  # of earlier attempts, up to the step this one starts from

    def run(self, step: int | None, stop: Callable[[], bool]) -> bool:
        """Train from the checkpoints of `step` (None: from the start). False if `stop` asked to stop before
        the end.
        """
        trainer, runs = self.trainer, self.runs
        for run in runs:  # before anything is cut off: it refuses the records of other versions
            run.begin(step or 0, trainer.seeds, trainer.threads)
        checkpoints = [run.rewind(step) for run in runs]
        if step is not None:
            trainer.load(checkpoints)
            self.usage = checkpoints[0].notes["usage"]
        self.start_step, self.wall, self.cpu = trainer.step, time.monotonic(), time.process_time()
        last_saved = last_told = self.wall
        if step is None:
            self._ladder("start")
            self._evaluate()
        grid = [g for g in self.grid if g > trainer.step]
        while self.active and grid:
            updates = trainer.updates
            episodes = trainer.advance()
            for row, e, episode in episodes:
                if row in self.active:
                    runs[row].tables["train.csv"].add(trainer.step, e, *episode)
            if updates == 0 < trainer.updates:
                self._ladder("first update")
            if trainer.step >= grid[0]:
                grid = [g for g in grid if g > trainer.step]
                self._evaluate()
            now = time.monotonic()
            if now - last_told >= 1.0:
                self._tell()
                last_told = now
            stopping = stop()
            if grid and (stopping or now - last_saved >= self.checkpoint_seconds):
                self._save()
                last_saved = time.monotonic()
            if stopping and grid and self.active:
                self._tell()
                for row in self.active:
                    runs[row].owner.tell()  # the last word until somebody goes on
                    runs[row].end_attempt(trainer.step, self._used())
                return False
        for row in self.active:
            self._finish(row, "done")
        return True

    def _evaluate(self) -> None:
        """Record the ladder, the evaluation and the metrics of this step; end the runs that have diverged."""
        trainer, step = self.trainer, self.trainer.step
        means = trainer.take_metrics()
        if means is not None:
            for row in self.active:
                table = self.runs[row].tables["metrics.csv"]
                table.head("step", *trainer.metric_names)
                table.add(step, *means[row].tolist())
        self._ladder("evaluation")
        finite = trainer.finite()
        for row in [row for row in self.active if not finite[row]]:
            self._finish(row, "diverged")
            self.active.remove(row)
        if not self.active:
            return
        passed = sum(g <= step for g in self.grid) - 1  # evaluations after the one at the start
        if self.keep_policies and passed % self.keep_policies == 0:
            for row in self.active:
                self.runs[row].keep_policy(step, self._policy(row))
        policies = {"greedy": False} | ({"sampled": True} if step >= self.grid[-1] else {})
        for name, explore in policies.items():
            episodes = evaluate(
                trainer.agent, trainer.cell, trainer.seeds, step, explore, trainer.device, trainer.threads
            )
            for row in self.active:
                table = self.runs[row].tables["eval.csv"]
                for number, episode in enumerate(episodes[row]):
                    table.add(step, name, number, *episode)
            if not explore:
                self.score = np.array([[score for score, *_ in own] for own in episodes]).mean(1).tolist()
        for row in self.active:
            self.runs[row].flush()

    def _ladder(self, event: str) -> None:
        digests = self.trainer.digests()
        for row in self.active:
            self.runs[row].tables["ladder.csv"].add(self.trainer.step, event, digests[row])

    def _finish(self, row: int, status: str) -> None:
        trainer, score = self.trainer, self.score[row] if status == "done" else None
        unstable = int(trainer.episodes.unstable[row].sum())
        self.runs[row].finish(status, trainer.step, score, self._policy(row), self._used(), unstable)

    def _policy(self, row: int) -> State:
        """What acting needs: the parameters, and the normaliser where there is one."""
        learner = part("agent", self.trainer.learner())
        return {k: v[row : row + 1] for k, v in learner.items() if k.startswith(("params/", "normaliser/"))}

    def _used(self) -> dict[str, float]:
        """Compute of this attempt, shared evenly by the runs of the pack."""
        n = len(self.runs)
        wall, cpu = time.monotonic() - self.wall, time.process_time() - self.cpu
        return {"wall_s": round(wall / n, 3), "cpu_s": round(cpu / n, 3)}

    def _tell(self) -> None:
        trainer = self.trainer
        rate = (trainer.step - self.start_step) / max(time.monotonic() - self.wall, 1e-9)
        for row in self.active:
            self.runs[row].progress(trainer.step, rate, self.score[row])
            if self.runs[row].owner.superseded:  # the next write would say so: no need to work until then
                self.runs[row].owner.check()

    def _save(self) -> None:
        used = self._used()
        usage = {name: round(self.usage[name] + used[name], 3) for name in used}
        checkpoints = self.trainer.checkpoints({"usage": usage})
        for row in self.active:
            self.runs[row].save(checkpoints[row])


def check_device(device: str) -> None:
    """Raises InputError unless torch can use the device here."""
    if device not in ("cpu", "cuda"):
        raise unknown("device", device, ("cpu", "cuda"))
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': there is no GPU here that torch can use")


def train(
    cell: Cell,
    seeds: Sequence[int],
    out: Path,
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    stop: Callable[[], bool] = lambda: False,
    threads: int = 1,
    tell_seconds: float = 1.0,
    keep_policies: int = 0,
) -> bool:
    """Train the seeds of a cell that are not finished, from where they stand. True when all are finished.

    `threads` may step the environments at once; results do not depend on it. Every `tell_seconds` each run's
    progress.json is rewritten; a run that is silent four times as long may be taken over. With
    `keep_policies` the policies at every so many evaluations stay, too, not the final one alone.

    Raises:
        InputError: a run is held by another process (RunHeld) or was taken over by one (Superseded), its
            checkpoints are all damaged (DamagedFile), or they were written by other versions.
        OSError: nothing can be written; what was recorded before stays, and the same call goes on from there.
    """
    check_device(device)
    check_versions(cell)
    check_memory([(cell, len(seeds))], device)
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")  # no TF32 on a GPU
    trainer = Trainer(cell, seeds, device, threads)
    runs = [Run(cell, seed, out, device, trainer.capacity, tell_seconds) for seed in seeds]
    open_all(runs)
    try:
        with beating([run.owner for run in runs]):
            for step, group in groups([run for run in runs if not run.is_finished()]):
                pack = [run.seed for run in group]
                if trainer is None or pack != trainer.seeds:
                    trainer = None  # first: its replay is as large
                    trainer = Trainer(cell, pack, device, threads)
                if not PackTraining(trainer, group, checkpoint_seconds, keep_policies).run(step, stop):
                    return False
                trainer = None  # it has been used
            return True
    except (OSError, DamagedFile):
        for run in runs:
            run.owner.check()  # was it the next owner, who replaced what was missed here?
        raise
    finally:
        for run in runs:
            run.close()


def groups(runs: list[Run]) -> list[tuple[int | None, list[Run]]]:
    """Runs that can go on together, each group with the newest step at which all of its runs have a whole
    checkpoint.

    Runs without a checkpoint (step None) start from the beginning. Runs that were last in different packs may
    have no step in common: they make groups of their own, so that nothing that was saved is trained again.
    """
    usable = {run.seed: run.usable_steps() for run in runs}
    result, left = [], list(runs)
    while left:
        fresh = [run for run in left if not usable[run.seed]]
        if fresh:
            result.append((None, fresh))
            left = [run for run in left if usable[run.seed]]
            continue
        step = min(usable[run.seed][0] for run in left)
        group = [run for run in left if step in usable[run.seed]]
        result.append((step, group))
        left = [run for run in left if run not in group]
    return result
