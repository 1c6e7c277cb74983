"""Which nodes to avoid: those on which two tasks in a row failed before they had trained.

    runs/slurm/<sweep>/nodes/<node>.jsonl    what tasks met on this node, one line per event

A task notes its start, its first progress (`trained`) and how it ended. One that was killed with its node
notes no end. A failure after progress is no fault of the node.
"""

import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_FAULTS = 2  # in a row
FOLDER = "nodes"
ENDS = {"ended", "failed", "stopped", "requeued"}


@dataclass(frozen=True)
class Event:
    """Something that a task met on a node."""

    node: str
    task: str  # <submission>-<index>
    restart: int
    what: str  # started, trained, then ended, failed, stopped or requeued
    reason: str = ""  # of a failure
    step: int = 0  # environment steps in checkpoints and finished runs, summed over the runs of the task


def note(folder: Path, event: Event) -> None:
    """Append an event to the journal of a node, in a sweep's folder."""
    line = json.dumps({key: value for key, value in vars(event).items() if key != "node"})
    path = folder / FOLDER / f"{event.node}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(journal, f"{line}\n".encode())  # one write: tasks of one node do not mix
    finally:
        os.close(journal)


Journals = dict[str, list[Event]]  # node -> what tasks met on it, in order


def faulty(journals: Journals, running: Collection[str], forgiven: Collection[str] = ()) -> dict[str, str]:
    """Return the nodes to avoid, each with the reason of its last fault.

    None unless tasks have trained on another node: what fails everywhere is not the fault of a node.

    Args:
        journals: of the sweep.
        running: tasks that may still note an end.
        forgiven: tasks that were killed for what is no fault of the node, such as too little memory.
    """
    last: dict[str, int] = {}  # task -> number of its last restart
    for event in (event for events in journals.values() for event in events):
        last[event.task] = max(event.restart, last.get(event.task, 0))
    found: dict[str, str] = {}
    for node, events in journals.items():
        faults: dict[str, str] = {}  # since a task trained or ended well
        attempts: dict[tuple[str, int], dict[str, str]] = {}  # in order, what each met, and the reason
        for event in events:
            attempts.setdefault((event.task, event.restart), {})[event.what] = event.reason
        for (task, restart), met in attempts.items():
            lives = task in running and restart == last[task]
            if lives or met.keys() & ENDS:
                if met.keys() & {"trained", "ended"}:
                    faults.clear()
                elif "failed" in met:
                    faults[task] = met["failed"]
            elif task not in forgiven:
                faults[task] = "a task was killed with its node"
        if len(faults) >= MOST_FAULTS:
            found[node] = list(faults.values())[-1]
    return found if working(journals) - found.keys() else {}


def working(journals: Journals) -> set[str]:
    """Return the nodes on which a task has trained or ended well."""
    good = ("trained", "ended")
    return {node for node, events in journals.items() if any(event.what in good for event in events)}


def joined(excluded: str | None, more: Iterable[str]) -> str:
    """Return a list of nodes, as sbatch takes it, with further nodes."""
    return ",".join([*([excluded] if excluded else []), *more])


def read(folder: Path) -> Journals:
    """Return the journals of a sweep, given its folder."""
    return {path.stem: list(_events(path)) for path in sorted((folder / FOLDER).glob("*.jsonl"))}


def _events(path: Path) -> Iterator[Event]:
    for line in path.read_text(errors="replace").splitlines():
        try:
            yield Event(path.stem, **json.loads(line))
        except (ValueError, TypeError):
            continue  # a node that died, or a full disk, leaves half a line
