"""Synthetic records in the form that the runners write, for the report tests.

As a script, `python -m tests.reports.conftest FOLDER` writes a plausible sweep and its report, to look at.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ascent.records import ledger, provenance
from ascent.records.cell import Cell
from ascent.records.expected import Expected
from ascent.records.plan import Plan, Planned
from ascent.reports.report import build

SPECS = {
    "CartPole-v1": {
        "horizon": 500, "random_score": 22.2, "reference_score": 475.0,
        "reference_source": "a reward threshold", "return_convention": "sum of an episode's rewards",
    },
    "MountainCar-v0": {
        "horizon": 200, "random_score": -200.0, "reference_score": -110.0,
        "reference_source": "a reward threshold", "return_convention": "sum of an episode's rewards",
    },
    "Pendulum-v1": {
        "horizon": 200, "random_score": -1229.0, "reference_score": -150.0,
        "reference_source": "a fixed controller", "return_convention": "sum of an episode's rewards",
    },
}  # fmt: skip
TASKS = ("CartPole-v1", "Pendulum-v1")  # of the sweep

ABILITY = {
    "ppo": (0.97, 6.0),
    "sac": (0.93, 9.0),
    "td3": (0.90, 7.0),
    "reinforce": (0.55, 2.5),
}  # level, speed


class Records:
    """A folder of records (`runs`) and the folder of its report (`out`)."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.out = folder / "runs", folder / "out"

    def cell(
        self, task: str = "CartPole-v1", system: str = "ppo", preset: str = "classic",
        steps: int = 100_000, points: int = 50, **changes: Any,
    ) -> Path:  # fmt: skip
        """cell.json; `changes` override its entries."""
        facts = {
            "system": system, "algorithm": system.partition("-")[0], "preset": preset, "task": task,
            "suite": "classic", "config": {"learning_rate": 3e-4, "gamma": 0.99}, "steps": steps,
            "evaluation": {"points": points, "episodes": 10}, "spec": SPECS[task],
            "versions": {"algorithm": 1, "seedwise": 1, "suite": 1, "runner": 1},
        } | changes  # fmt: skip
        facts["digest"] = Cell.from_json(facts).digest
        cell = self.runs / "classic" / task / f"{system}-{preset}-{facts['digest']}"
        write_json(cell / "cell.json", facts)
        return cell

    def run(
        self, cell: Path, seed: int, means: Sequence[float], status: str | None = "done", spread: float = 0.0,
        metrics: str = "step,loss\n2000,0.5\n", **about: Any,
    ) -> Path:  # fmt: skip
        """One run whose greedy evaluations have these means, from step 0 on; status None: not finished.

        `spread` is the standard deviation of the ten episodes; `about` overrides entries of run.json.
        """
        run = cell / f"seed-{seed}"
        run.mkdir(parents=True)
        facts = json.loads((cell / "cell.json").read_text())
        grid = [facts["steps"] * k // facts["evaluation"]["points"] for k in range(len(means))]
        rng = np.random.default_rng([seed, len(means)])
        rows = ["step,policy,episode,return,length,unstable"]
        policies = ["greedy"] * len(means) + ["sampled"]
        for policy, step, mean in zip(policies, [*grid, grid[-1]], [*means, means[-1] - 1.0], strict=True):
            noise = rng.normal(size=10) * spread
            values = mean + noise - noise.mean()
            rows += [
                f"{step},{policy},{episode},{float(value)!r},200,0" for episode, value in enumerate(values)
            ]
        tables = {
            "eval.csv": "\n".join(rows) + "\n",
            "train.csv": "step,env,return,length,unstable\n200,0,21.0,21,0\n",
            "metrics.csv": metrics,
            "ladder.csv": f"step,event,digest\n0,start,{seed:016x}\n",
        }
        for name, text in tables.items():
            (run / name).write_text(text, encoding="utf-8")
        attempt = {
            "host": "node-1", "pid": 4711, "started": "2026-01-05T10:00:00+00:00",
            "ended": "2026-01-05T10:20:00+00:00", "device": "cpu", "pack": [seed], "from_step": 0,
            "to_step": grid[-1], "wall_s": 1200.0, "cpu_s": 1190.0,
        }  # fmt: skip
        platform = {
            "cpu": "AMD EPYC 9654", "key": "torch-2.13.0+cpu/x86_64/AuthenticAMD-25-17/AVX512", "threads": 1,
            "flags": {"MKL_CBWR": "AUTO"},
        }  # fmt: skip
        record = {
            "seed": seed, "attempts": [attempt], "platform": platform,
            "source_digest": "5c" * 6, "lock_digest": "10" * 32,
            "packages": {"python": "3.11.2", "torch": "2.13.0+cpu", "numpy": "2.4.6", "gymnasium": "1.3.0"},
            "commit": "0123456789abcdef0123456789abcdef01234567", "dirty": False,
        }  # fmt: skip
        write_json(run / "run.json", record | about)
        if status is None:
            progress = {"step": grid[-1], "steps_per_second": 900.0, "score": means[-1], "time": 1.7e9}
            write_json(run / "progress.json", progress)
        else:
            digests = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in tables.items()}
            digest = hashlib.sha256(json.dumps(digests).encode()).hexdigest()
            result = {"status": status, "steps": grid[-1], "digests": digests, "digest": digest}
            result["unstable_steps"] = {"train": 0, "eval": 0}
            write_json(run / "result.json", result)
        return run

    def flat_runs(self, cell: Path, scores: Sequence[float], points: int = 50) -> None:
        """Runs 0, 1, ... with the given return at every evaluation after step 0, so it is their score."""
        for seed, score in enumerate(scores):
            self.run(cell, seed, [0.0] + [score] * points)

    def sweep(self, order: int = 1) -> None:
        """2 tasks x 4 systems x 10 seeds; `order` -1 makes the same content in the opposite order."""
        plan = [(task, system, seed) for task in TASKS for system in ABILITY for seed in range(10)]
        cells = {(task, system): self.cell(task, system) for task, system, _ in plan}
        described = [Cell.from_json(json.loads((cell / "cell.json").read_text())) for cell in cells.values()]
        declared = ledger.declare(Plan(tuple(Planned(cell, range(10)) for cell in described)), self.runs)
        for task, system, seed in plan[::order]:
            spec, (level, speed) = SPECS[task], ABILITY[system]
            rng = np.random.default_rng([len(task), len(system), ord(system[0]), seed])
            span = spec["reference_score"] - spec["random_score"]
            means = learning(
                rng, spec["random_score"], spec["random_score"] + level * span, speed, 0.04 * span
            )
            self.run(cells[task, system], seed, means, spread=0.03 * span, plan=declared)

    def spoil(self) -> None:
        """Give a sweep's Pendulum one run of each state but done, one of them from a dirty tree."""
        td3, reinforce = self.cell("Pendulum-v1", "td3"), self.cell("Pendulum-v1", "reinforce")
        for folder in (td3 / "seed-3", reinforce / "seed-8", reinforce / "seed-9"):
            shutil.rmtree(folder)
        rng = np.random.default_rng(1)
        self.run(td3, 3, learning(rng, -1229, -200, 6, 30)[:31], status="diverged", dirty=True)
        self.run(reinforce, 8, learning(rng, -1229, -700, 2, 50)[:21], status=None)
        damage(reinforce / "seed-0" / "eval.csv")

    def expected(self, seeds: Sequence[int] = range(10)) -> list[Expected]:
        """Every cell that has a cell.json, with these seeds."""
        facts = [json.loads(path.read_text()) for path in self.runs.glob("*/*/*/cell.json")]
        keys = ("suite", "task", "system", "preset", "digest")
        return [Expected(*(fact[key] for key in keys), seeds=tuple(seeds)) for fact in facts]

    def build(self, expected: Sequence[Expected] | None = None, figures: bool = False) -> str:
        """Build the report and return the text of its page; without `figures`, their files are empty."""
        with pytest.MonkeyPatch.context() as patch:
            if not figures:  # they take most of the time
                patch.setattr("ascent.reports.page.figures.encode", lambda figure, form: b"")
            page = build(self.runs, self.out, expected, title="Four systems")
        return page.read_text(encoding="utf-8")

    def scores(self) -> pd.DataFrame:
        """scores.csv of the report, index system."""
        return pd.read_csv(self.out / "tables" / "scores.csv", dtype={"digest": str}).set_index("system")

    def bytes(self) -> dict[str, bytes]:
        """Every file of the report with its content."""
        files = sorted(path for path in self.out.rglob("*") if path.is_file())
        return {str(path.relative_to(self.out)): path.read_bytes() for path in files}


def write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def damage(path: Path) -> None:
    """Change one digit, as a bad disk would: the file still parses."""
    text = path.read_text()
    path.write_text(text.replace(",200,0\n", ",201,0\n", 1))


def learning(rng: np.random.Generator, start: float, end: float, speed: float, noise: float) -> list[float]:
    """A plausible curve of 51 means: saturating growth with correlated noise."""
    t = np.arange(51) / 50
    wobble = np.convolve(rng.normal(size=55), np.ones(5) / 5, "valid")
    level = end + noise * rng.normal()
    growth = 1 - np.exp(-speed * rng.uniform(0.6, 1.4) * t)
    return list(start + (level - start) * growth + noise * wobble * np.sqrt(t))


@pytest.fixture
def store(tmp_path: Path) -> Records:
    """An empty folder for records."""
    return Records(tmp_path)


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """A complete sweep with its report; not to be changed."""
    records = Records(tmp_path_factory.mktemp("sweep"))
    records.sweep()
    records.build(figures=True)
    return records


@pytest.fixture(scope="session")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """The sweep with a run of every state, reported against its ten expected seeds; not to be changed."""
    records = Records(tmp_path_factory.mktemp("spoilt"))
    records.sweep()
    records.spoil()
    records.build(records.expected())
    return records


@pytest.fixture(scope="session", autouse=True)
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A git repository with a commit of the sources as they are, in the place of the project's own."""
    from tests.reports import trained

    folder = tmp_path_factory.mktemp("repository") / "git"
    trained.make_repository(folder)
    checkout = [f"--git-dir={folder}", f"--work-tree={provenance.HOME}"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "git_command", lambda *words: ["git", *checkout, *words])
        yield folder


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells that were really trained, three seeds each; not to be changed."""
    from tests.reports import trained

    return trained.make(tmp_path_factory.mktemp("whole") / "runs")


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    """A copy of the trained cells, to be changed."""
    return shutil.copytree(whole, tmp_path / "runs")


if __name__ == "__main__":
    demo = Records(Path(sys.argv[1]))
    demo.sweep()
    demo.spoil()
    demo.build(demo.expected())
