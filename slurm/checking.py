"""Try a site before anything is spent: would SLURM take the jobs, and would they work on a node?

runs/slurm/checks/<name>.json          the answer of a probe, a job of a minute (`runners/probe.py`)
runs/slurm/checks/<name>.log           its output
runs/slurm/checks/passed-<site>.json   written when a site has passed
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ascent.records import files, provenance
from ascent.records.errors import DamagedFile, InputError, one_line
from ascent.slurm import cluster, planning, scripts, submit
from ascent.slurm.manifest import Manifest
from ascent.slurm.sites import Site

START_SECONDS = 900  # the longest that a probe may wait in the queue
PROBE_SECONDS = 240  # and run, with the network file system's delays
MEM = "2G"  # of a probe, unless the site sets `mem`
EARLIEST = 5  # seconds after which a warning is SLURM's


@dataclass(frozen=True)
class Row:
    """One thing that was tried."""

    what: str
    good: bool
    found: str


def check(planned: Manifest, site: Site, runs: Path, report: Path, tell: Callable[[str], None]) -> list[Row]:
    """Test a sweep's jobs, and run a probe with the options of its tasks. `tell` is told how far it is.

    Raises:
        InputError: SLURM does not answer.
    """
    todo = planning.plan(planned, site, runs)
    try:
        submit.test(planned, site, todo, runs, report)
    except InputError as error:
        return [Row("jobs", False, str(error))]
    rows = [Row("jobs", True, f"SLURM takes them: {todo.summary()}")]
    folder = runs / "slurm" / "checks"
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{planned.path.parent.name}-check-{os.urandom(3).hex()}"
    answer = folder / f"{name}.json"
    script = folder / f"{name}.sh"
    files.write(script, scripts.probe(planned, site, site.mem or MEM, name, answer).encode())
    try:
        cluster.client("sbatch", "--parsable", str(script))
        problem = _wait(name, answer, tell)
    finally:
        cluster.client("scancel", f"--name={name}")
        script.unlink()
    if problem:
        return [*rows, Row("probe", False, problem)]
    rows += _rows(files.read_json(answer), site)
    if all(row.good for row in rows):
        passed = {"checked": datetime.now(UTC).isoformat(timespec="seconds"), "rows": len(rows)}
        files.write_json(_passed(site, runs), passed)
    return rows


def has_passed(site: Site, runs: Path) -> bool:
    """Return whether a check of this site, with this Python and these settings, has passed."""
    return _passed(site, runs).exists()


def render(rows: list[Row]) -> Group:
    """Return the table of a check and its verdict."""
    table = Table("", "", "found", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row.what, Text("ok", "green") if row.good else Text("FAIL", "bold red"), one_line(row.found)
        )
    bad = [row.what for row in rows if not row.good]
    verdict = f"not ready: {', '.join(bad)}" if bad else "ready: submit the sweep with `ascent submit`"
    return Group(table, Text(f"\n{verdict}"))


def _passed(site: Site, runs: Path) -> Path:
    facts = {"site": site.model_dump(mode="json"), "python": sys.executable}
    digest = sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:10]
    return runs / "slurm" / "checks" / f"passed-{digest}.json"


def _wait(name: str, answer: Path, tell: Callable[[str], None]) -> str | None:
    """Wait until a probe has answered. Returns why it has not; None if it has."""
    begun = time.monotonic()
    started = 0.0
    while True:
        try:
            if files.read_json(answer).get("done"):
                return None
        except (OSError, DamagedFile):
            pass  # not yet, or not visible from here yet
        now, tasks = time.monotonic(), cluster.queue([name])
        if not tasks and now - begun > 5:
            lines = files.last_lines(answer.with_suffix(".log"))
            said = f": {lines[-1]}" if lines else f": no output in {answer.with_suffix('.log')}"
            return f"it ended without an answer in {answer.parent}, which must be shared with the nodes{said}"
        if tasks and tasks[0].waits:
            tell(f"probe: pending ({tasks[0].reason})")
            if now - begun > START_SECONDS:
                return f"it did not start within {START_SECONDS} s: {tasks[0].reason}"
        elif tasks:
            started = started or now
            tell(f"probe: running for {now - started:.0f} s, about a minute in all")
            if now - started > PROBE_SECONDS:
                return f"it did not end within {PROBE_SECONDS} s"
        time.sleep(1)


def _rows(answer: dict[str, Any], site: Site) -> Iterator[Row]:
    """Yield what a probe found, judged."""
    here = provenance.commit()
    yield Row("node", True, f"{answer['node']}, {answer['machine']}")
    yield Row("folder of runs", True, "the node's answer is read here")
    yield Row("python", True, f"{answer['version']}, {answer['python']}")
    commit = answer["commit"] or "unknown"
    same = (answer["commit"], answer["dirty"]) == (here["commit"], here["dirty"])
    changed = " with changes" if answer["dirty"] else ""
    yield Row(
        "commit", same, f"{commit[:12]}{changed}" + ("" if same else f"; here {str(here['commit'])[:12]}")
    )
    torch = answer["torch"]
    yield Row("torch", "version" in torch, torch.get("version") or torch["error"])
    if site.gpus:
        yield Row(
            "GPUs", torch.get("gpus", 0) >= site.gpus, f"torch sees {torch.get('gpus', 0)} of {site.gpus}"
        )
    yield Row("mujoco", answer["mujoco"] is not None, answer["mujoco"] or "is not installed")
    yield Row(
        "kernels", answer["kernels"], "built" if answer["kernels"] else "not built: torch computes, slowly"
    )
    enough = answer["cores"] >= site.cores
    yield Row("cores", enough, f"{answer['cores']} for {site.packs} packs on {site.cores} cores")
    if not site.container:  # in it, the job's script requests a requeue
        reaches = answer["scontrol"] or "the node reaches the controller"
        if site.chain:
            reaches = f"no job has to be requeued: chains of {site.chain + 1} jobs go on"
        elif answer["scontrol"]:
            reaches += ": set `chain` for nodes from which no job can be requeued"
        yield Row("scontrol", answer["scontrol"] is None or site.chain > 0, reaches)
    after = answer["warned_after"]
    found = "did not come before the time limit" if after is None else f"came {after:.0f} s after the start"
    yield Row("warning", after is not None and after > EARLIEST, found)
