"""One writer per folder, on file systems where neither locks nor the clocks of two machines can be relied on.

    owner-<n>.json  who owns the folder: the file with the highest n. It appears whole, and only one of
                    several processes that try succeeds in making it
    free-<n>.json   the same file after its owner released the folder
    progress.json   rewritten by the owner at every heartbeat; also says how far the run is

To take over from owner n, a process makes owner-<n+1>.json and then removes owner-<n>.json. An owner proves
its claim by opening its own file: opening asks the file server, whereas a directory listing may be outdated.
A process that was taken over, or that wakes up after a long pause, fails this check. The check is made after
a temporary file is written and before it is renamed, and a new owner first removes the temporary files in the
folder. So the rename of a former owner either happened before the new owner read anything, or fails.

Whether an owner is still alive is decided by the first rule that applies:

    1. It is the same SLURM job with another restart count. With a lower one it is dead, because SLURM has
       given it up; with a higher one it is alive.
    2. It is a process of this machine: it either exists or does not.
    3. It is alive if its heartbeat changes while we sleep for four heartbeats. Only our own sleep counts, no
       clock.
"""

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from ascent.records import files, layout
from ascent.records.errors import DamagedFile, RunHeld, Superseded

BEATS = 4  # missed heartbeats after which an owner counts as gone
SLURM = (
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_ID",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
    "SLURMD_NODENAME",
)


class Ownership:
    """One claim to a folder, which must exist. Write there only with `check=claim.check`."""

    def __init__(self, folder: Path, beat_seconds: float = 1.0):
        self.folder = folder
        self.beat_seconds = beat_seconds
        self.token = uuid4().hex
        self.status: dict[str, Any] = {}  # what progress.json says besides the heartbeat
        self.superseded = False  # set by a heartbeat; the working thread raises it with `check`
        self._path: Path | None = None  # our owner file
        self._beats = 0
        self._quiet = True
        self._beating = threading.Lock()

    def acquire(self) -> None:
        """Own the folder, or raise RunHeld; see `acquire_all`."""
        acquire_all([self])

    def check(self) -> None:
        """Raise Superseded unless the folder is still ours."""
        if self._path is None or _read(self._path).get("token") != self.token:
            raise Superseded(
                f"{self.folder}: taken over by {who(standing(self.folder)[1])}; this process stops"
            )

    def tell(self) -> None:
        """Write one heartbeat."""
        with self._beating:
            if not self._quiet:
                self._beats += 1
                beat = {"owner": self.token, "beat": self._beats, "time": time.time()}
                path = self.folder / layout.PROGRESS
                files.write_json(path, self.status | beat, durable=False, check=self.check)

    def hush(self) -> None:
        """Stop the heartbeats, so that progress.json does not reappear once it is removed."""
        with self._beating:
            self._quiet = True

    def remove_files(self, names: Iterable[str]) -> None:
        """Check the ownership and remove files of the folder. List them before this call: then none of them
        belongs to a later owner.
        """
        self.check()
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def release(self) -> None:
        """Give up the folder, so that the next process need not wait for missed heartbeats."""
        self.hush()
        if self._path is not None:
            # If this fails, we were superseded or the disk fails. Others see that we ended or fell silent.
            with suppress(OSError):
                self._path.rename(self._path.with_name(self._path.name.replace("owner", "free")))
        self._path = None

    def remove(self) -> None:
        """Release the folder of a finished run and leave no owner file behind."""
        self.hush()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._path = None

    def sight(self) -> tuple[int, dict[str, Any] | None, object]:
        """Return the number of the last owner, its record, and the count of its last heartbeat.

        The record is None if the owner has released the folder or ended; the count is None without a
        heartbeat.

        Raises:
            RunHeld: the owner is known to be alive.
        """
        number, owner = standing(self.folder)
        alive = owner is not None and is_alive(owner)
        if alive:
            raise RunHeld(f"{self.folder} is in use by {who(owner)}")
        progress = _read(self.folder / layout.PROGRESS)
        beat = progress.get("beat") if owner and progress.get("owner") == owner.get("token") else None
        return number, None if alive is False else owner, beat

    def take(self, number: int) -> None:
        """Become owner `number`. Raises RunHeld if another process was faster."""
        path = self.folder / f"owner-{number}.json"
        claim = {"token": self.token, "beat_seconds": self.beat_seconds} | identity()
        if not files.create(path, files.json_bytes(claim)):
            raise RunHeld(f"{self.folder} is in use by {who(_read(path))}")
        self._path = path
        try:
            others = [numbered for numbered in _numbered(self.folder) if numbered[1] != path]
            if max((other for other, _ in others), default=0) >= number:  # the earlier listing was outdated
                raise RunHeld(f"{self.folder} is in use by {who(standing(self.folder)[1])}")
            for _, old in others:
                old.unlink(missing_ok=True)
            leftovers = list(self.folder.glob(".*.tmp"))
            self.check()  # so none of them belongs to a process that has already taken over from us
            for leftover in leftovers:
                leftover.unlink(missing_ok=True)
        except BaseException:
            self.release()
            raise
        self._quiet = False
        self.superseded = False


def watch(claims: Sequence[Ownership]) -> dict[Ownership, int]:
    """Return the number of the last owner of each folder: none of them is alive. Writes nothing.

    Owners on other machines are watched in parallel, for some heartbeats. Raises RunHeld.
    """
    sights = {claim: claim.sight() for claim in claims}
    unsure = {claim: owner for claim, (_, owner, _) in sights.items() if owner is not None}
    beats = [owner.get("beat_seconds", claim.beat_seconds) for claim, owner in unsure.items()]
    slept = 0.0
    enough = BEATS * max(beats, default=0.0)
    for claim, owner in list(unsure.items())[:1]:
        line = f"{claim.folder}: waiting {enough:.0f} s for a sign of life from {who(owner)}"
        print(line, file=sys.stderr, flush=True)
    while unsure and slept < enough:
        time.sleep(min(beats) / 4)
        slept += min(beats) / 4
        for claim in list(unsure):
            sight = claim.sight()
            if sight[1] is None:  # the owner has released it
                sights[claim] = sight
                del unsure[claim]
            elif sight != sights[claim]:
                raise RunHeld(f"{claim.folder} is in use by {who(sight[1])}")
    return {claim: number for claim, (number, _, _) in sights.items()}


def acquire_all(claims: Sequence[Ownership]) -> None:
    """Own all of the folders, or none and raise RunHeld."""
    claims = sorted(claims, key=lambda claim: str(claim.folder))  # of two that want the same, one gets all
    numbers = watch(claims)
    taken: list[Ownership] = []
    try:
        for claim in claims:
            claim.take(numbers[claim] + 1)
            taken.append(claim)
    except BaseException:
        for claim in taken:
            claim.release()
        raise


@contextmanager
def beating(claims: Sequence[Ownership]) -> Iterator[None]:
    """Write the heartbeats of our claims in a thread, however long a step of the work takes."""
    over = threading.Event()

    def beats() -> None:
        while not over.wait(min(claim.beat_seconds for claim in claims)):
            for claim in claims:
                try:
                    claim.tell()
                except Superseded:
                    claim.superseded = True
                except OSError:
                    pass  # a full disk, for example: the next heartbeat may succeed

    thread = threading.Thread(target=beats, name="beats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def standing(folder: Path) -> tuple[int, dict[str, Any] | None]:
    """Return the highest number so far and its owner: None if released, {} if the file is not whole (yet)."""
    numbered = _numbered(folder)
    if not numbered:
        return 0, None
    number, path = max(numbered)
    return number, None if path.name.startswith("free") else _read(path)


def is_alive(owner: Mapping[str, Any]) -> bool | None:
    """Return whether an owner is alive by rules 1 and 2 above; None if only its heartbeat can tell."""
    me = identity()
    job, restarts = _job(owner)
    my_job, my_restarts = _job(me)
    if job and job == my_job and restarts != my_restarts:
        return restarts > my_restarts
    if not all(me[fact] and me[fact] == owner.get(fact) for fact in ("boot", "pid_namespace", "host")):
        return None
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None  # another user's process, which /proc may hide
    return _started(owner["pid"]) == owner["started"]


def identity() -> dict[str, Any]:
    """Return what distinguishes this process from all others, and the SLURM job that it belongs to."""
    boot: str | None
    namespace: str | None
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = namespace = None  # not Linux: its processes cannot be told from those of another machine
    pid = os.getpid()
    facts = {
        "host": socket.gethostname(), "pid": pid, "started": _started(pid), "boot": boot,
        "pid_namespace": namespace,
    }  # fmt: skip
    return facts | slurm_facts()


def slurm_facts() -> dict[str, str]:
    """Return what SLURM says about this process; empty outside of a job."""
    return {name: os.environ[name] for name in SLURM if name in os.environ}


def who(owner: Mapping[str, Any] | None) -> str:
    """Return the description of an owner for messages."""
    if not owner:
        return "another process"
    job, restarts = _job(owner)
    place = f", SLURM job {job}, node {owner.get('SLURMD_NODENAME')}, restart {restarts}" if job else ""
    return f"process {owner.get('pid')} on {owner.get('host')}{place}"


def _job(facts: Mapping[str, Any]) -> tuple[str, int]:
    """Return the SLURM job, the same at all its restarts, or "", and the number of restarts."""
    job = facts.get("SLURM_JOB_ID", "")
    cluster = facts.get("SLURM_CLUSTER_NAME")
    if "SLURM_ARRAY_TASK_ID" in facts:
        job = f"{facts.get('SLURM_ARRAY_JOB_ID')}_{facts['SLURM_ARRAY_TASK_ID']}"
    return f"{job} of {cluster}" if job and cluster else job, int(facts.get("SLURM_RESTART_COUNT", 0))


def _started(pid: int) -> int | None:
    """Return when a process began, in clock ticks since the machine started; None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    matches = [(re.fullmatch(r"(?:owner|free)-(\d+)\.json", path.name), path) for path in folder.iterdir()]
    return [(int(match[1]), path) for match, path in matches if match]


def _read(path: Path) -> dict[str, Any]:
    """Return a JSON record; {} if it does not exist or is not whole."""
    try:
        return files.read_json(path)
    except (FileNotFoundError, DamagedFile):
        return {}
