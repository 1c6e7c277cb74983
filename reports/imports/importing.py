"""Import the curves of another library as records that reports show beside those of Ascent.

The algorithm of the cell is "imported", and its config lists the source files and what the user says of the
curves. Reports show all imported curves. They test those of which everything is known against other cells,
and those of a known algorithm against published scores. Imported curves cannot be trained again.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascent.records import files, layout
from ascent.records.cell import FIRST_TUNING_SEED, Cell, Evaluation
from ascent.records.checkpoints import FORMAT
from ascent.records.errors import InputError, unknown
from ascent.records.read import DIVERGED, IMPORTED, MAX_TITLE, UNFINISHED
from ascent.records.run import result_digest
from ascent.records.store import Store
from ascent.reports.imports.curve import COLUMNS, Asked, Curve, File
from ascent.reports.imports.grid import Interpolation, Run, runs_of
from ascent.reports.imports.recognise import Tell, read
from ascent.reports.statistics.imported import CONVENTIONS, POLICIES, UNKNOWN
from ascent.reports.statistics.published import references, split_version

if TYPE_CHECKING:
    from ascent.suites import Spec

ORDER = "order"  # seeds are numbered in the order of the files
MOST_EPISODES = 1_000_000


@dataclass(frozen=True)
class Stated:
    """What the user says of the curves; "unknown": not known.

    Attributes:
        algorithm: an algorithm with published scores, such as td3; None: none of them.
        environment: the environment with its version, such as Hopper-v3, of the family of the task.
        policy: what the returns are of: a key of `POLICIES`.
        episodes: per point. Files that hold episodes say it themselves.
        convention: what the return of a team is: a key of `CONVENTIONS`; needed for teams.
    """

    algorithm: str | None = None
    environment: str = UNKNOWN
    policy: str = UNKNOWN
    episodes: int | str = UNKNOWN
    convention: str | None = None


@dataclass(frozen=True)
class Imported:
    """The cell that was written, and what is worth a note: what was left out, and what is not known."""

    folder: Path
    notes: tuple[str, ...]


def import_curves(
    paths: Sequence[Path],
    name: str,
    task: str,
    out: Path,
    steps: int | None = None,
    asked: Asked | None = None,
    stated: Stated | None = None,
    format: str | None = None,
    seed_from: str = ORDER,
    interpolation: Interpolation | None = None,
    tell: Tell = lambda done, total: None,
) -> Imported:
    """Write curves as a cell below `out`.

    Importing the same curves again has no effect.

    Args:
        paths: files and folders of one format.
        name: name of the system.
        task: task of the suites, such as Hopper-v5.
        out: folder of run records.
        steps: step budget per seed (default: the step of the last evaluation).
        asked: where the curves stand in the files (default: as the format has them).
        stated: what is known of the curves (default: nothing).
        format: a key of `recognise.FORMATS` (default: recognised).
        seed_from: ORDER, or a regular expression whose group finds the seed in the name of a run.
        interpolation: how the curves get a common grid (default: they have one).
        tell: is told how many runs are read, of how many.

    Raises:
        InputError: the arguments or the curves are invalid; nothing is written.
    """
    system = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if not system:
        raise InputError(f"--system {name!r}: a name needs at least one letter or digit (a-z, 0-9)")
    if len(name) > MAX_TITLE or not name.isprintable():
        raise InputError(f"--system: must be at most {MAX_TITLE} printable characters")
    spec = _spec(task)
    asked, stated = asked or Asked(), stated or Stated()
    _check_stated(stated, spec)
    found, curves, sources, notes = read(paths, asked, format, tell)
    stated = _with_environment(stated, curves, task)
    numbered = _numbered(curves, seed_from)
    budget, grid, runs, more = runs_of(numbered, steps, interpolation)
    episodes = _episodes(runs, curves, stated)
    source: dict[str, object] = {
        "name": name,
        "format": found,
        "files": [{"name": short, "sha256": file.digest} for short, file in _short(sources)],
        "runs": _run_names(numbered),
        "asked": {key: value for key, value in asdict(asked).items() if value is not None},
        **{key: value for key, value in asdict(stated).items() if value is not None},
        "episodes": episodes if isinstance(episodes, int | str) else dict(sorted(episodes.items())),
    }
    if interpolation:
        source["interpolation"] = asdict(interpolation)
    points = sum(step > 0 for step in grid)
    cell = Cell(
        system, IMPORTED, IMPORTED, source, spec.suite, task, budget, Evaluation(points, _usual(episodes)), {}
    )
    facts = {**cell.to_json(), "digest": cell.digest, "spec": spec.facts()}
    _write(cell.folder(out), out, _records(facts, runs))
    return Imported(cell.folder(out), (*notes, *more, *_unknown(source)))


def _spec(task: str) -> "Spec":
    from ascent import suites

    if task in suites.TASKS:
        return suites.TASKS[task]
    family, version = split_version(task)
    for known in suites.TASKS:
        there, newest = split_version(known)
        if there == family and version is not None and newest is not None and version < newest:
            raise InputError(
                f"--task: {task} is an older version of {known}: --task {known} --environment-version {task} "
                "shows its curves there, described and never tested against others"
            )
    raise unknown("task", task, suites.TASKS)


def _check_stated(stated: Stated, spec: "Spec") -> None:
    """Raise InputError unless what is said of the curves fits the task."""
    systems = sorted({reference.system for reference in references()})
    if stated.algorithm is not None and stated.algorithm not in systems:
        raise unknown("algorithm with published scores", stated.algorithm, systems)
    if stated.environment != UNKNOWN:
        family, version = split_version(stated.environment)
        if family != split_version(spec.id)[0] or version is None:
            raise InputError(
                f"--environment-version: {stated.environment!r} is no version of the task; "
                f"name one such as {spec.id}"
            )
    if stated.policy not in (*POLICIES, UNKNOWN):
        raise unknown("policy", stated.policy, (*POLICIES, UNKNOWN))
    if isinstance(stated.episodes, int) and not 1 <= stated.episodes <= MOST_EPISODES:
        raise InputError(f"--episodes: must be from 1 to {MOST_EPISODES:,}, or {UNKNOWN}")
    if spec.team is None and stated.convention is not None:
        said = f"; did you mean --policy {stated.convention}?" if stated.convention in POLICIES else ""
        raise InputError(f"--convention says what the return of a team is; {spec.id} has one agent{said}")
    if spec.team is not None:
        choices = "; ".join(f"{name}: {what}" for name, what in CONVENTIONS.items())
        if stated.convention is None:
            raise InputError(
                "--convention is needed, since libraries add up the rewards of a team in different ways: "
                f"{choices}; {UNKNOWN}: described, never tested"
            )
        if stated.convention not in (*CONVENTIONS, UNKNOWN):
            raise unknown("convention", stated.convention, (*CONVENTIONS, UNKNOWN))


def _with_environment(stated: Stated, curves: Sequence[Curve], task: str) -> Stated:
    """Return what is stated, with the environment that the files name, if the name has a version.

    Raises:
        InputError: the files are of another environment than the user says, or of several.
    """
    named = {
        curve.environment: curve.name for curve in curves if split_version(curve.environment)[1] is not None
    }
    for environment, name in named.items():
        if split_version(environment)[0] != split_version(task)[0] or stated.environment not in (
            UNKNOWN,
            environment,
        ):
            of = task if stated.environment == UNKNOWN else stated.environment
            raise InputError(f"{name} says that it is of {environment}, not of {of}")
    if len(named) > 1:
        raise InputError(f"the files are of several environments: {', '.join(sorted(named))}")
    return Stated(**asdict(stated) | {"environment": next(iter(named), stated.environment)})


def _numbered(curves: Sequence[Curve], seed_from: str) -> dict[int, Curve]:
    """Return the curves by seed. Raises InputError if two have the same, or one is for tuning."""
    numbered: dict[int, Curve] = {}
    for number, curve in enumerate(curves):
        seed = curve.seed
        if seed is None:
            seed = number if seed_from == ORDER else _seed_in(curve.name, seed_from)
        elif seed_from != ORDER:
            raise InputError(f"--seed-from: {curve.name}: the file says its seeds itself")
        if seed in numbered:
            raise InputError(f"{numbered[seed].name} and {curve.name} have the same seed {seed}")
        if seed >= FIRST_TUNING_SEED:
            raise InputError(
                f"{curve.name}: seed {seed}: seeds from {FIRST_TUNING_SEED} are for tuning and excluded from "
                "reports; number the runs from 0"
            )
        numbered[seed] = curve
    return numbered


def _seed_in(name: str, pattern: str) -> int:
    try:
        found = re.search(pattern, name)
        digits = found[1] if found else None
    except (re.error, IndexError) as error:
        raise InputError(
            f"--seed-from: {pattern!r} must be {ORDER}, or a regular expression with a group, "
            "such as 'seed_(\\d+)'"
        ) from error
    if digits is None or not re.fullmatch(r"[0-9]{1,9}", digits):
        raise InputError(f"--seed-from: {pattern!r} finds no number in {name}")
    return int(digits)


def _episodes(runs: Sequence[Run], curves: Sequence[Curve], stated: Stated) -> int | str | dict[str, int]:
    """Return the episodes per evaluation: a number, or how many evaluations have which number."""
    if not any(curve.episodes for curve in curves):
        return stated.episodes
    counts = Counter(str(n) for run in runs for n in run.points.groupby("step").size().tolist())
    if len(counts) > 1:
        if stated.episodes != UNKNOWN:
            raise InputError(
                f"--episodes: the points have different numbers of them, from {min(counts, key=int)}"
            )
        return dict(counts)
    (number,) = map(int, counts)
    if stated.episodes not in (UNKNOWN, number):
        raise InputError(f"--episodes: {stated.episodes}, but each point has {number}")
    return number


def _usual(episodes: int | str | Mapping[str, int]) -> int:
    """Return how many episodes most evaluations have; 1 where it is not known."""
    if isinstance(episodes, Mapping):
        return int(max(episodes, key=lambda number: (episodes[number], int(number))))
    return episodes if isinstance(episodes, int) else 1


def _unknown(source: Mapping[str, object]) -> list[str]:
    """Return a note on what is not known of the curves."""
    options = {"environment": "environment-version", "policy": "policy", "episodes": "episodes"}
    options |= {"convention": "convention"}
    lacking = [f"--{option}" for key, option in options.items() if source.get(key) == UNKNOWN]
    return (
        [f"not known: {', '.join(lacking)}; described and never tested against other cells"]
        if lacking
        else []
    )


def _short(sources: Sequence[File]) -> list[tuple[str, File]]:
    """Return the files with the parts of their paths in which they differ: records name no user's folder."""
    common = os.path.commonpath([file.path.parent for file in sources])
    return [(file.path.relative_to(common).as_posix(), file) for file in sources]


def _run_names(curves: Mapping[int, Curve]) -> dict[str, str]:
    """Return the names of the runs by seed, without the folders that all have in common."""
    names = [curve.name.split("/") for curve in curves.values()]
    while all(len(name) > 1 for name in names) and len({name[0] for name in names}) == 1:
        names = [name[1:] for name in names]
    return {str(seed): "/".join(name) for seed, name in zip(curves, names, strict=True)}


def _records(facts: dict[str, Any], runs: Sequence[Run]) -> dict[str, bytes]:
    """Return the files of the cell's folder by name."""
    contents = {layout.CELL: files.json_bytes(facts)}
    for run in runs:
        rows = zip(*(run.points[name].tolist() for name in COLUMNS), strict=True)
        lines = [f"{step},greedy,{episode},{value!r},{length},0" for step, episode, value, length in rows]
        table = "\n".join(["step,policy,episode,return,length,unstable", *lines, ""]).encode()
        about = {"format": FORMAT, "seed": run.seed, "cell": facts["digest"], "attempts": []}
        folder = layout.seed_folder(run.seed)
        contents |= {f"{folder}/{layout.EVAL}": table, f"{folder}/{layout.RUN}": files.json_bytes(about)}
        if run.status == UNFINISHED:
            contents[f"{folder}/{layout.PROGRESS}"] = files.json_bytes({"step": run.steps})
            continue
        last = run.points["step"] == run.points["step"].max()
        result: dict[str, Any] = {
            "format": FORMAT, "status": run.status, "steps": run.steps,
            "score": None if run.status == DIVERGED else float(run.points.loc[last, "return"].mean()),
            "digests": {layout.EVAL: sha256(table).hexdigest()}, "unstable_steps": {"train": 0, "eval": 0},
        }  # fmt: skip
        result["digest"] = result_digest(result)
        contents[f"{folder}/{layout.RESULT}"] = files.json_bytes(result)
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
