"""Train recorded runs again, as they were trained, in processes that write into a temporary folder."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ascent.records import files, layout
from ascent.records.cell import refuse_large
from ascent.records.errors import InputError
from ascent.records.plan import Job
from ascent.records.provenance import own_source
from ascent.reports.checking.folder import CellFiles, RunFiles
from ascent.reports.checking.setting import Allowed, CannotVerify, Setting, device, find

ALIKE = ("source_digest", "packages", "lock_digest", "platform", "measures")  # entries of run.json
PACK = 10  # seeds in one process: on the CPU results do not depend on it


@dataclass(frozen=True)
class Pack:
    """Runs of one cell that one process trains again."""

    cell: CellFiles
    runs: tuple[RunFiles, ...]
    setting: Setting
    out: Path
    until: int  # training may stop once an evaluation at or after this step is recorded

    def folder(self, run: RunFiles) -> Path:
        """Return the folder of a retrained run."""
        return self.cell.described().run_folder(run.seed, self.out)


def packs(
    cell: CellFiles, runs: Sequence[RunFiles], until: Callable[[CellFiles], int], work: Path, allowed: Allowed
) -> Iterator[Pack]:
    """Yield packs of runs, ready to be trained to the step that `until` returns. Raises CannotVerify."""
    if cell.imported:
        raise CannotVerify("imported curves cannot be retrained")
    if cell.cell is None:
        raise CannotVerify(f"{layout.CELL} is missing, unreadable or does not describe a cell")
    sizes = (sum(x.size for x in (run.parameters or {}).values()) for run in runs)
    try:
        refuse_large(cell.cell, max(sizes, default=0))
    except InputError as error:
        raise CannotVerify(str(error)) from error
    out = work / "runs" / cell.name.replace("/", "-")  # two folders may hold one cell
    alike: dict[str, list[RunFiles]] = {}
    for run in runs:
        key = [run.about.get(name) for name in ALIKE]
        alike.setdefault(json.dumps([key, device(run)], sort_keys=True), []).append(run)
    for group in alike.values():
        setting = find(cell, group[0], work, allowed)
        size = PACK if device(group[0]) == "cpu" else len(group)
        for start in range(0, len(group), size):
            yield Pack(cell, tuple(group[start : start + size]), setting, out, until(cell))


def train(packs: Sequence[Pack], tell: Callable[[int], None]) -> dict[int, str]:
    """Train the packs again, one process per core.

    `tell` receives the sum of the steps of all runs so far. Returns why packs failed, by their index.
    """
    waiting = list(enumerate(packs))
    running: dict[int, subprocess.Popen[bytes]] = {}
    failed: dict[int, str] = {}
    workers = len(os.sched_getaffinity(0)) if all(device(p.runs[0]) == "cpu" for p in packs) else 1
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index, pack = waiting.pop(0)
                running[index] = _start(pack)
            time.sleep(0.1)
            for index, process in list(running.items()):
                over = process.poll() is not None
                if not over and _enough(packs[index]):
                    process.send_signal(signal.SIGTERM)
                    process.wait()
                    over = True
                if over:
                    del running[index]
                    if process.returncode and not _enough(packs[index]):
                        failed[index] = _last_words(packs[index], process.returncode)
            tell(sum(_step(pack, run) for pack in packs for run in pack.runs))
    finally:
        for process in running.values():
            process.terminate()
        for process in running.values():
            process.wait()
    return failed


def _start(pack: Pack) -> subprocess.Popen[bytes]:
    first = pack.runs[0]
    kind = "cpu" if device(first) == "cpu" else "cuda"
    seeds = tuple(run.seed for run in pack.runs)
    cell = replace(pack.cell.described(), measures=tuple(first.about.get("measures") or ()))
    if cell.algorithm_sha256 and pack.setting.root is not None:
        cell = replace(cell, algorithm_file=pack.setting.root / own_source(cell.algorithm))
    job = Job(cell, seeds, pack.out, kind, checkpoint_seconds=1e9)
    pack.out.mkdir(parents=True, exist_ok=True)
    with _log(pack).open("wb") as log:
        process = subprocess.Popen(
            pack.setting.command(),
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=pack.setting.home,
            env=pack.setting.environment(first),
        )
    assert process.stdin is not None
    process.stdin.write(job.to_json().encode())
    process.stdin.close()
    return process


def _log(pack: Pack) -> Path:
    return pack.out / f"{pack.cell.path.name}-{pack.runs[0].seed}.log"


def _last_words(pack: Pack, code: int) -> str:
    lines = files.last_lines(_log(pack))
    return (lines[-1] if lines else "no output").removeprefix("error: ") + f" (exit code {code})"


def _enough(pack: Pack) -> bool:
    """Return whether all runs of a pack are past `until`. Runs that train to their end stop by themselves."""
    last = pack.cell.evaluation_steps()[-1]
    steps = (evaluated(pack.folder(run), pack.until) for run in pack.runs)
    return pack.until < last and all(step is not None for step in steps)


def evaluated(run: Path, until: int) -> int | None:
    """Return the first evaluation step at or after `until`; else the last one if the run is finished."""
    try:
        rows = (run / layout.LADDER).read_bytes().decode().split("\n")[1:-1]
    except FileNotFoundError:
        return None
    steps = [int(row.split(",")[0]) for row in rows if row.split(",")[1] == "evaluation"]
    ended = (run / layout.RESULT).exists()
    return next((step for step in steps if step >= until), steps[-1] if ended and steps else None)


def _step(pack: Pack, run: RunFiles) -> int:
    for name, key in ((layout.RESULT, "steps"), (layout.PROGRESS, "step")):
        try:
            return int(files.read_json(pack.folder(run) / name)[key])
        except (OSError, InputError, KeyError):
            continue
    return 0
