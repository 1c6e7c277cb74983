"""One writer for a folder, where neither locks nor the clocks of two machines can be relied on.

    owner-<n>.json  who owns the folder: the highest n. It appears whole, and for one of those who try
    free-<n>.json   the same, let go
    progress.json   rewritten by the owner at every beat: its sign of life, and whatever it tells

To take over from n is to make owner-<n+1>.json and then to remove n. An owner's proof is that its own file is
still there: to open a file is to ask the file server, while a listing may be an old one. Whoever was taken
over, or comes back from a long sleep, fails that check. It is made after a temporary file is written and
before it is renamed, and a new owner first of all removes the folder's temporary files. So an old owner's
rename either came before the new one read anything, or fails.

Whether an owner goes on is decided by the first of these that applies:
1. It is the same SLURM job with a lower restart count: SLURM has given it up. With a higher one it goes on.
2. It is a process of this machine: that is there or it is not.
3. It goes on if its beat changes while we sleep for four beats. Only our own sleep counts, and no clock.
"""

import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from ascent.records import files
from ascent.records.errors import DamagedFile, RunHeld, Superseded

BEATS = 4  # without a sign of life, and an owner counts as gone
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
    """One claim to a folder, which must exist. What is written there is written with `check=claim.check`."""

    def __init__(self, folder: Path, beat_seconds: float = 1.0):
        self.folder, self.beat_seconds = folder, beat_seconds
        self.token = uuid4().hex
        self.told: dict[str, object] = {}  # what progress.json is to say beside the beat
        self.superseded = False  # a beat has found it out; whoever does the work raises it with `check`
        self._path: Path | None = None  # our owner file
        self._beats, self._quiet, self._beating = 0, True, threading.Lock()

    def acquire(self) -> None:
        """Own the folder, or raise RunHeld; see `acquire_all`."""
        acquire_all([self])

    def check(self) -> None:
        """Raises Superseded unless the folder is still ours."""
        if self._path is None or _read(self._path).get("token") != self.token:
            raise Superseded(f"{self.folder}: superseded by {who(standing(self.folder)[1])}; this copy stops")

    def tell(self) -> None:
        """One beat."""
        with self._beating:
            if not self._quiet:
                self._beats += 1
                beat = {"owner": self.token, "beat": self._beats, "time": time.time()}
                told = self.folder / "progress.json"
                files.write_json(told, self.told | beat, durable=False, check=self.check)

    def hush(self) -> None:
        """No beats from now on: progress.json does not come back once it is removed."""
        with self._beating:
            self._quiet = True

    def release(self) -> None:
        """Let the next one have the folder at once."""
        self.hush()
        if self._path is not None:
            with suppress(OSError):  # superseded; or the disk is in trouble, then our end or silence tells
                self._path.rename(self._path.with_name(self._path.name.replace("owner", "free")))
        self._path = None

    def remove(self) -> None:
        """Release the folder of something finished, and leave nothing there."""
        self.hush()
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._path = None

    def sight(self) -> tuple[int, dict | None, object]:
        """The number of the last owner, who that is, None if it has ended, and its beat. Raises RunHeld."""
        number, owner = standing(self.folder)
        goes_on = owner is not None and is_alive(owner)
        if goes_on:
            raise RunHeld(f"{self.folder} is held by {who(owner)}")
        told = _read(self.folder / "progress.json")
        beat = told.get("beat") if owner and told.get("owner") == owner.get("token") else None
        return number, None if goes_on is False else owner, beat

    def take(self, number: int) -> None:
        """Become owner `number`. Raises RunHeld if somebody was faster."""
        path = self.folder / f"owner-{number}.json"
        claim = {"token": self.token, "beat_seconds": self.beat_seconds} | identity()
        if not files.create(path, files.json_bytes(claim)):
            raise RunHeld(f"{self.folder} is held by {who(_read(path))}")
        self._path = path
        try:
            others = [found for found in _numbered(self.folder) if found[1] != path]
            if max(others, default=(0,))[0] >= number:  # the listing before was an old one
                raise RunHeld(f"{self.folder} is held by {who(standing(self.folder)[1])}")
            for _, old in others:
                old.unlink(missing_ok=True)
            leftovers = list(self.folder.glob(".*.tmp"))
            self.check()  # so none of them belongs to one who has already taken over from us
            for leftover in leftovers:
                leftover.unlink(missing_ok=True)
        except BaseException:
            self.release()
            raise
        self._quiet, self.superseded = False, False


def acquire_all(claims: Sequence[Ownership]) -> None:
    """Own all of the folders, or none and raise RunHeld. Owners elsewhere are watched at the same time."""
    claims = sorted(claims, key=lambda claim: str(claim.folder))  # of two that want the same, one gets all
    sights = {claim: claim.sight() for claim in claims}
    unsure = {claim: owner for claim, (_, owner, _) in sights.items() if owner is not None}
    beats = [owner.get("beat_seconds", claim.beat_seconds) for claim, owner in unsure.items()]
    slept, enough = 0.0, BEATS * max(beats, default=0.0)
    for claim, owner in list(unsure.items())[:1]:
        line = f"{claim.folder}: waiting {enough:.0f} s for a sign of life of {who(owner)}"
        print(line, file=sys.stderr, flush=True)
    while unsure and slept < enough:
        time.sleep(min(beats) / 4)
        slept += min(beats) / 4
        for claim in list(unsure):
            sight = claim.sight()
            if sight[1] is None:  # it has let go
                sights[claim] = sight
                del unsure[claim]
            elif sight != sights[claim]:
                raise RunHeld(f"{claim.folder} is held by {who(sight[1])}")
    taken: list[Ownership] = []
    try:
        for claim in claims:
            claim.take(sights[claim][0] + 1)
            taken.append(claim)
    except BaseException:
        for claim in taken:
            claim.release()
        raise


@contextmanager
def beating(claims: Sequence[Ownership]) -> Iterator[None]:
    """While it lasts, a thread gives the beats of what we own, however long a step of the work takes."""
    over = threading.Event()

    def beats() -> None:
        while not over.wait(min(claim.beat_seconds for claim in claims)):
            for claim in claims:
                try:
                    claim.tell()
                except Superseded:
                    claim.superseded = True
                except OSError:
                    pass  # a full disk, say: the next beat may succeed

    thread = threading.Thread(target=beats, name="beats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def standing(folder: Path) -> tuple[int, dict | None]:
    """The highest number so far and who has it: None if it was let go, {} if the file is not whole (yet)."""
    number, path = max(_numbered(folder), default=(0, None))
    return number, None if path is None or path.name.startswith("free") else _read(path)


def is_alive(owner: dict) -> bool | None:
    """Whether an owner goes on, None if only its beats can tell: rules 1 and 2 at the top."""
    me = identity()
    job, restarts = _job(owner)
    if job and job == _job(me)[0] and restarts != _job(me)[1]:
        return restarts > _job(me)[1]
    if not all(me[fact] and me[fact] == owner.get(fact) for fact in ("boot", "pid_namespace", "host")):
        return None
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return None  # of another user, whose processes /proc may hide
    return _started(owner["pid"]) == owner["started"]


def identity() -> dict[str, object]:
    """What tells this process from all others, and the SLURM job that it belongs to."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        boot = namespace = None  # not Linux: no process of such a machine can be told from another's
    pid, host = os.getpid(), socket.gethostname()
    facts = {"host": host, "pid": pid, "started": _started(pid), "boot": boot, "pid_namespace": namespace}
    return facts | slurm_facts()


def slurm_facts() -> dict[str, str]:
    """What SLURM says about this process; nothing outside of a job."""
    return {name: os.environ[name] for name in SLURM if name in os.environ}


def who(owner: dict | None) -> str:
    """An owner in a line of text."""
    if not owner:
        return "another process"
    job, restarts = _job(owner)
    place = f", SLURM job {job}, node {owner.get('SLURMD_NODENAME')}, restart {restarts}" if job else ""
    return f"another process: {owner.get('pid')} on {owner.get('host')}{place}"


def _job(facts: dict) -> tuple[str, int]:
    """The SLURM job, the same at all its restarts, or "", and how many restarts there were."""
    job, cluster = facts.get("SLURM_JOB_ID", ""), facts.get("SLURM_CLUSTER_NAME")
    if "SLURM_ARRAY_TASK_ID" in facts:
        job = f"{facts.get('SLURM_ARRAY_JOB_ID')}_{facts['SLURM_ARRAY_TASK_ID']}"
    return f"{job} of {cluster}" if job and cluster else job, int(facts.get("SLURM_RESTART_COUNT", 0))


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since the machine did; None if it has ended."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(fields[18])


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = [(re.fullmatch(r"(?:owner|free)-(\d+)\.json", path.name), path) for path in folder.iterdir()]
    return [(int(name[1]), path) for name, path in found if name]


def _read(path: Path) -> dict:
    """A record; {} if it is not there or not whole."""
    try:
        return files.read_json(path)
    except (FileNotFoundError, DamagedFile):
        return {}
