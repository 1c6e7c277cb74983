"""Import the evaluation curves of another library as records that reports show beside those of Ascent.

The algorithm of the cell is "imported", and its config lists the source files and what the user says of the
curves. Reports show all imported curves. They test those of a known environment and convention against other
cells, and those of a known algorithm against published scores. Imported curves cannot be trained again.
"""

import io
import re
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ascent.records import files, layout
from ascent.records.cell import FIRST_TUNING_SEED, Cell, Evaluation
from ascent.records.checkpoints import FORMAT, unpack_arrays
from ascent.records.errors import InputError, unknown
from ascent.records.read import IMPORTED, MAX_TITLE
from ascent.records.run import result_digest
from ascent.records.store import Store
from ascent.reports.statistics.imported import CONVENTIONS
from ascent.reports.statistics.published import references, split_version

if TYPE_CHECKING:
    from ascent.suites import Spec

MAX_BYTES = 1 << 28  # of a file of curves
MAX_ARRAYS = 1 << 25  # of an evaluations.npz: four million numbers
NEAR_BUDGET = 0.98  # earliest last evaluation, as a share of the step budget
COLUMNS = ["seed", "step", "episode", "return", "length"]  # of curves; length 0 where it is unknown


@dataclass(frozen=True)
class Stated:
    """What is known of curves that are imported; None: unknown.

    Attributes:
        algorithm: an algorithm with published scores, such as td3.
        environment: the environment with its version, such as Hopper-v3, of the family of the task.
        convention: what the returns are of: a key of `CONVENTIONS`.
    """

    algorithm: str | None = None
    environment: str | None = None
    convention: str | None = None


def import_curves(
    paths: Sequence[Path],
    name: str,
    task: str,
    out: Path,
    steps: int | None = None,
    step_column: str = "step",
    seed_column: str = "seed",
    return_column: str = "return",
    stated: Stated | None = None,
) -> Path:
    """Write curves as a cell below `out`, and return its folder.

    Importing the same curves again has no effect.

    Args:
        paths: one CSV file, or one evaluations.npz of Stable-Baselines3 for each of the seeds 0, 1, ...
        name: name of the system.
        task: task of the suites, such as Hopper-v5.
        out: folder of run records.
        steps: step budget per seed (default: the step of the last evaluation).
        step_column: column of the CSV file with the environment steps.
        seed_column: column of the CSV file with the seeds.
        return_column: column of the CSV file with the returns.
        stated: what is known of the curves (default: nothing).

    Raises:
        InputError: the arguments or the curves are invalid; nothing is written.
    """
    system = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not system:
        raise InputError(f"--name {name!r}: a name needs at least one letter or digit (a-z, 0-9)")
    if len(name) > MAX_TITLE or not name.isprintable():
        raise InputError(f"--name: must be at most {MAX_TITLE} printable characters")
    spec = _spec(task)
    stated = stated or Stated()
    _check_stated(stated, task)
    npz = [path.suffix == ".npz" for path in paths]
    if len(paths) > 1 and not all(npz):
        raise InputError("give one CSV file, or one evaluations.npz per seed")
    contents = [files.read(path.resolve(), MAX_BYTES) for path in paths]
    columns = {"step": step_column, "seed": seed_column, "return": return_column}
    if npz[0]:
        tables = [
            _read_npz(path, content, k) for k, (path, content) in enumerate(zip(paths, contents, strict=True))
        ]
        curves = pd.concat(tables, ignore_index=True)
        columns = {"step": "timesteps", "return": "results"}
    else:
        curves = _read_csv(paths[0], contents[0], columns)
    _check(curves, paths[0])
    grid = sorted(curves["step"].unique().tolist())
    source: dict[str, object] = {
        "name": name,
        "files": [
            {"name": path.name, "sha256": sha256(content).hexdigest()}
            for path, content in zip(paths, contents, strict=True)
        ],
        "columns": columns,
        **{name: value for name, value in asdict(stated).items() if value is not None},
    }
    evaluation = Evaluation(sum(step > 0 for step in grid), int(curves["episode"].nunique()))
    budget = _budget(grid[-1], steps)
    cell = Cell(system, IMPORTED, IMPORTED, source, spec.suite, task, budget, evaluation, {})
    facts = {**cell.to_json(), "digest": cell.digest, "spec": spec.facts()}
    _write(cell.folder(out), out, _records(facts, curves))
    return cell.folder(out)


def _spec(task: str) -> "Spec":
    from ascent import suites

    if task not in suites.TASKS:
        raise unknown("task", task, suites.TASKS)
    return suites.TASKS[task]


def _check_stated(stated: Stated, task: str) -> None:
    """Raise InputError unless what is said of the curves fits the task."""
    systems = sorted({reference.system for reference in references()})
    if stated.algorithm is not None and stated.algorithm not in systems:
        raise unknown("algorithm with published scores", stated.algorithm, systems)
    if stated.environment is not None:
        family, version = split_version(stated.environment)
        if family != split_version(task)[0] or version is None:
            raise InputError(
                f"--environment: {stated.environment!r} is no version of the task; name one such as {task}"
            )
    if stated.convention is not None and stated.convention not in CONVENTIONS:
        raise unknown("convention", stated.convention, CONVENTIONS)


def _read_csv(path: Path, content: bytes, names: dict[str, str]) -> pd.DataFrame:
    """Read COLUMNS from a CSV file in long form: a row per seed and evaluation, or per episode."""
    if content.lstrip()[:1] in (b"[", b"{"):
        raise InputError(f"{path} is no CSV file: it holds JSON")
    try:
        table = pd.read_csv(io.BytesIO(content))
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a CSV file: {str(error).splitlines()[0]}") from error
    for name in names.values():
        if name not in table.columns:
            raise unknown(f"column of {path}", name, map(str, table.columns))
    if table.empty:
        raise InputError(f"{path} has no rows")
    curves = pd.DataFrame(index=table.index)
    for column, name in names.items():
        curves[column] = _numbers(table[name], path, whole=column != "return")
    if "episode" in table.columns:
        curves["episode"] = _numbers(table["episode"], path, whole=True)
    else:
        curves["episode"] = 0
    return curves.assign(length=0)[COLUMNS]


def _numbers(column: pd.Series, path: Path, whole: bool) -> pd.Series:
    """Return the column as numbers. Raises InputError with the first row that is not a number."""
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    bad = ~np.isfinite(numbers)
    if whole:
        bad |= (numbers < 0) | (numbers % 1 != 0)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        kind = "a whole number of at least 0" if whole else "a finite number"
        raise InputError(f"{path}, data row {row + 1}: {column.name} is {column.iloc[row]}, not {kind}")
    return numbers.astype(np.int64) if whole else numbers


def _read_npz(path: Path, content: bytes, seed: int) -> pd.DataFrame:
    """Read COLUMNS from evaluations.npz of Stable-Baselines3's EvalCallback.

    It holds timesteps (T,), results and ep_lengths (T, episodes).
    """
    try:
        arrays = unpack_arrays(content, MAX_ARRAYS)
        steps, returns = arrays["timesteps"], np.asarray(arrays["results"], dtype=float)
        lengths = arrays["ep_lengths"] if "ep_lengths" in arrays else np.zeros(returns.shape, np.int64)
    except (ValueError, KeyError) as error:
        raise InputError(f"{path} is not an evaluations.npz of Stable-Baselines3: {error}") from error
    if returns.ndim != 2 or steps.shape != returns.shape[:1] or lengths.shape != returns.shape:
        raise InputError(
            f"{path}: the shapes of timesteps {steps.shape} and results {returns.shape} do not match"
        )
    if not returns.size:
        raise InputError(f"{path} has no evaluations")
    curves = pd.DataFrame({"return": returns.ravel(), "length": lengths.ravel().astype(np.int64)})
    curves["step"] = np.repeat(steps.astype(np.int64), returns.shape[1])
    curves["episode"] = np.tile(np.arange(returns.shape[1]), len(returns))
    _numbers(curves["return"], path, whole=False)
    return curves.assign(seed=seed)[COLUMNS]


def _check(curves: pd.DataFrame, path: Path) -> None:
    """Raise InputError unless all seeds were evaluated at the same steps, with the same episodes."""
    tuning = curves[curves["seed"] >= FIRST_TUNING_SEED]
    if len(tuning):
        raise InputError(
            f"{path}: seed {tuning['seed'].iloc[0]}: seeds from {FIRST_TUNING_SEED} are for tuning "
            "and excluded from reports; number the runs from 0"
        )
    repeated = curves.duplicated(["seed", "step", "episode"])
    if repeated.any():
        row = curves[repeated].iloc[0]
        raise InputError(f"{path}: seed {row['seed']:.0f} has {_described(row, curves)} twice")
    points = curves.groupby("seed")["step"].unique()
    grid = set(points.iloc[0].tolist())
    for seed, steps in points.items():
        for step in sorted(grid ^ set(steps.tolist()))[:1]:
            without = seed if step in grid else points.index[0]
            raise InputError(f"{path}: seed {without} lacks step {step}, which other seeds have")
    if max(grid) == 0:
        raise InputError(f"{path} has no evaluation after step 0")
    episodes = curves.groupby(["seed", "step"])["episode"].agg(tuple)
    for (seed, step), numbers in episodes.items():
        if set(numbers) != set(episodes.iloc[0]):
            raise InputError(
                f"{path}: seed {seed}, step {step} has different episodes from the first evaluation"
            )


def _described(row: pd.Series, curves: pd.DataFrame) -> str:
    """Name what a repeated row repeats: its whole step, or only its episode of that step."""
    evaluation = curves[(curves["seed"] == row["seed"]) & (curves["step"] == row["step"])]
    step = f"step {row['step']:.0f}"
    if evaluation.duplicated("episode", keep=False).all():
        return step
    return f"episode {row['episode']:.0f} of {step}"


def _budget(last: int, steps: int | None) -> int:
    """Return the step budget. Raises InputError if the last evaluation is not near it."""
    if steps is not None and not NEAR_BUDGET * steps <= last <= steps / NEAR_BUDGET:
        within = f"within {1 - NEAR_BUDGET:.0%} of the last evaluation (step {last})"
        raise InputError(f"--steps: {steps} must be {within}")
    return last if steps is None else steps


def _records(facts: dict[str, Any], curves: pd.DataFrame) -> dict[str, bytes]:
    """Return the files of the cell's folder by name."""
    contents = {layout.CELL: files.json_bytes(facts)}
    for seed, curve in curves.sort_values(["seed", "step", "episode"]).groupby("seed"):
        rows = zip(*(curve[name].tolist() for name in COLUMNS[1:]), strict=True)
        lines = [f"{step},greedy,{episode},{value!r},{length},0" for step, episode, value, length in rows]
        table = "\n".join(["step,policy,episode,return,length,unstable", *lines, ""]).encode()
        last = int(curve["step"].iloc[-1])
        result: dict[str, Any] = {
            "format": FORMAT, "status": "done", "steps": last,
            "score": float(curve.loc[curve["step"] == last, "return"].mean()),
            "digests": {layout.EVAL: sha256(table).hexdigest()}, "unstable_steps": {"train": 0, "eval": 0},
        }  # fmt: skip
        result["digest"] = result_digest(result)
        about = {"format": FORMAT, "seed": seed, "cell": facts["digest"], "attempts": []}
        folder = layout.seed_folder(seed)
        contents |= {
            f"{folder}/{layout.EVAL}": table,
            f"{folder}/{layout.RESULT}": files.json_bytes(result),
            f"{folder}/{layout.RUN}": files.json_bytes(about),
        }
    return contents


def _write(folder: Path, out: Path, contents: dict[str, bytes]) -> None:
    """Put the complete folder into place, unless it already holds the same files."""
    if folder.exists():
        store = Store(folder)
        present = {
            f"{layout.seed_folder(seed)}/{name}": store.read(seed, name)
            for seed in store.seeds()
            for name in store.names(seed)
        }
        if present | {layout.CELL: files.read(folder / layout.CELL)} != contents:
            raise InputError(f"{folder} contains files that this import does not write: move it away")
        return
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out, prefix=".import-") as work:
        for name, content in contents.items():
            path = Path(work) / "cell" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (Path(work) / "cell").rename(folder)
