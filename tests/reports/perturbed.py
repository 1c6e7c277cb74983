"""Hand-made tables of `ascent robustness`, in the folder where the command puts them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ascent.records.declared import Declared
from ascent.records.read import load
from ascent.reports.page.render import LIBRARY
from ascent.reports.statistics import robustness
from ascent.reports.statistics.aggregate import aggregate
from ascent.runners import robustness as recorder
from ascent.suites import perturb

if TYPE_CHECKING:
    from tests.reports.conftest import Records

RANDOM = 22.2  # CartPole's, in the records made here
# Mean returns of seeds 0 and 1, 100 and 200 above random; at 0.1 they keep 0.5 and 1, at 0.2 nothing and 0.5,
# at 0.4 less than nothing and 0.25.
NOMINAL = (122.2, 222.2)
NOISE = {0.1: (72.2, 222.2), 0.2: (22.2, 122.2), 0.4: (-27.8, 72.2)}
T_1 = float(np.tan(0.475 * np.pi))  # 97.5% quantile of Student's t with one degree of freedom


def policy(seed: int) -> str:
    return f"{seed:02d}ab" * 16


def cell_of(
    store: "Records", seeds: int = 2, system: str = "ppo", task: str = "CartPole-v1", **how: object
) -> Path:
    """A complete cell whose runs have a final policy."""
    cell = store.cell(task, system, **how)
    store.flat_runs(cell, [100.0 + seed for seed in range(seeds)])
    for seed in range(seeds):
        name_policy(cell, seed)
    return cell


def name_policy(cell: Path, seed: int) -> None:
    path = cell / f"seed-{seed}" / "result.json"
    result = json.loads(path.read_text())
    result["digests"]["policy.npz"] = policy(seed)
    path.write_text(json.dumps(result))


def table(
    cell: Path, kind: str, level: float, means: Sequence[float], name: str = "", seeds: Sequence[int] = ()
) -> Path:
    """Two episodes of each seed, whose mean is given."""
    lines = [",".join(recorder.KEYS)]
    for seed, mean in zip(seeds or range(len(means)), means, strict=True):
        for episode, value in enumerate((mean - 10.0, mean + 10.0)):
            words = (1, kind, level, seed, policy(seed)[:16], episode, repr(float(value)), 200, 0)
            lines.append(",".join(map(str, words)))
    path = cell / "robustness" / f"{name or f'{kind}-{level:g}'}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    (path.parent / "grid.json").write_text(json.dumps(perturb.about(cell.parent.name)))
    return path


def play(cell: Path, kind: str, curve: dict[float, Sequence[float]], nominal: Sequence[float]) -> None:
    table(cell, "nominal", 0.0, nominal)
    for level, means in curve.items():
        table(cell, kind, level, means)


def usual(store: "Records", **how: object) -> Path:
    """The cell whose numbers stand above."""
    cell = cell_of(store, **how)
    play(cell, "action_noise", NOISE, NOMINAL)
    return cell


def found(store: "Records") -> robustness.Robustness:
    return robustness.measure(store.runs, aggregate(load(store.runs), Declared()), Declared())


def read(store: "Records", name: str) -> pd.DataFrame:
    return pd.read_csv(store.out / "tables" / f"{name}.csv", dtype={"digest": str})


def text_of(page: str) -> str:
    """The page without the plotting library, which may spell anything."""
    return page.replace(LIBRARY.read_text(encoding="utf-8"), "")
