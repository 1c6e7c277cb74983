"""What a recorded run needs to be trained again: its sources, its package versions, its device.

A record is run by its own sources where they are not those of this project: to re-run a record is to run its
code.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from ascent.records.errors import InputError
from ascent.reports.checking import folder
from ascent.reports.checking.folder import CellFiles, RunFiles

ROOT = Path(__file__).resolve().parents[2]
_PACKAGES = """
import json, sys
from ascent.records import provenance
print(json.dumps(provenance.packages(sys.argv[1])))
"""


class CannotVerify(InputError):
    """A record cannot be trained again here; the message says what it would need."""


@dataclass(frozen=True)
class Setting:
    """What runs a cell again: an interpreter and the folder of the sources. `notes` are for the user."""

    python: str
    root: Path
    notes: tuple[str, ...]

    def environment(self) -> dict[str, str]:
        """Variables with which Python finds these sources and no others."""
        return os.environ | {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}


def device(run: RunFiles) -> str:
    """The device of a run's last attempt as its record names it: "cpu", or a GPU."""
    attempts = run.about.get("attempts") or [{}]
    return str(attempts[-1].get("device", "cpu"))


def find(cell: CellFiles, run: RunFiles, work: Path, install: bool) -> Setting:
    """What trains a run again, made in the folder `work` where it is not here. Raises CannotVerify."""
    recorded, notes = run.about.get("source_digest"), []
    if run.about.get("dirty"):
        notes.append("made from a changed tree: only the sources in the record can say what ran")
    root = ROOT if recorded == _digest_here(cell) else _unpack(cell, str(recorded), work)
    if root != ROOT:
        notes.append(f"runs the recorded sources {recorded}, which are not those of this project here")
    _check_device(run)
    wanted = run.about.get("packages")
    if not isinstance(wanted, dict):
        raise CannotVerify("run.json does not say which packages it was made with")
    setting = Setting(sys.executable, root, tuple(notes))
    unlike = _unlike(wanted, _packages(setting, cell.cell.task))
    if unlike and not install:
        raise CannotVerify(f"made with other versions: {unlike}. {_needs(run)}, or --install to do so")
    if unlike:
        setting = Setting(_installed(run, wanted, work), root, (*notes, "in an environment of its own"))
        if still := _unlike(wanted, _packages(setting, cell.cell.task)):
            raise CannotVerify(f"an environment from the recorded lock has other versions: {still}")
    return setting


def _digest_here(cell: CellFiles) -> str | None:
    """The digest of this project's sources for the cell; None where it has no such algorithm."""
    from ascent.records import provenance

    try:
        return provenance.source_digest(provenance.sources(cell.cell.system, cell.cell.suite))
    except (KeyError, OSError):
        return None


def _unpack(cell: CellFiles, recorded: str, work: Path) -> Path:
    """The recorded sources, checked, in a folder of their own."""
    root = work / f"sources-{recorded}"
    if not root.exists():
        try:
            digest, content = folder.sources(cell.path / f"sources-{recorded}.zip")
        except InputError as error:
            raise CannotVerify(f"the sources that ran are not those here, and {error}") from error
        if digest != recorded:
            raise CannotVerify(f"sources-{recorded}.zip was changed: its content has digest {digest}")
        for name, data in content.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return root


def _check_device(run: RunFiles) -> None:
    if device(run) == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise CannotVerify(f"was trained on {device(run)}; there is no GPU here that torch can use")


@cache
def _packages(setting: Setting, task: str) -> dict[str, str]:
    """The versions that a run's record would name with this setting."""
    if (setting.python, setting.root) == (sys.executable, ROOT):
        from ascent.records import provenance

        return provenance.packages(task)
    command = [setting.python, "-c", _PACKAGES, task]
    places = {"cwd": setting.root, "env": setting.environment()}
    done = subprocess.run(command, capture_output=True, text=True, **places)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise CannotVerify(f"the sources do not run with the packages here: {last}")
    return json.loads(done.stdout)


def _unlike(wanted: dict[str, str], here: dict[str, str]) -> str:
    names = [name for name in sorted(wanted.keys() | here.keys()) if wanted.get(name) != here.get(name)]
    kinds = ((name, wanted.get(name, "not named"), here.get(name, "none")) for name in names)
    return ", ".join(f"{name} {was} (here {now})" for name, was, now in kinds)


def _needs(run: RunFiles) -> str:
    commit, lock = run.about.get("commit"), run.about.get("lock_digest")
    python = f"It needs Python {run.about['packages'].get('python')}"
    if not commit or not lock:
        return f"{python} with these; the record names no commit with a requirements.lock"
    return f"{python} and `pip install -r requirements.lock` of commit {commit} (sha256 {lock})"


def _installed(run: RunFiles, wanted: dict[str, str], work: Path) -> str:
    """The interpreter of an environment made from the lock of the record's commit."""
    commit, recorded = run.about.get("commit"), run.about.get("lock_digest")
    home = work / f"environment-{str(recorded)[:12]}"
    python = home / "bin" / "python"
    if python.exists():
        return str(python)
    lock = _git_show(f"{commit}:requirements.lock")
    if sha256(lock).hexdigest() != recorded:
        raise CannotVerify(f"requirements.lock of commit {commit} has not the recorded sha256 {recorded}")
    (work / "requirements.lock").write_bytes(lock)
    # A lock says torch 2.13.0 where a record says 2.13.0+cpu. Names with a dot are model files.
    exact = [f"{name}=={what}" for name, what in wanted.items() if name != "python" and "." not in name]
    print(f"installing the packages of commit {commit}, which may take minutes", file=sys.stderr, flush=True)
    create = [_interpreter(wanted.get("python", "")), "-m", "venv", str(home)]
    install = [str(python), "-m", "pip", "install", "--quiet"]
    install += ["-r", str(work / "requirements.lock"), *exact]
    for command in (create, install):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise CannotVerify(f"the recorded packages cannot be installed: {last}. {_needs(run)}")
    return str(python)


def _git_show(name: str) -> bytes:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), "show", name], capture_output=True)
    except OSError as error:
        raise CannotVerify(f"git show {name}: {error.strerror}") from error
    if done.returncode:
        raise CannotVerify(f"git show {name}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def _interpreter(version: str) -> str:
    """A Python of exactly this version."""
    if platform.python_version() == version:
        return sys.executable
    name = "python" + ".".join(version.split(".")[:2])
    if path := shutil.which(name):
        done = subprocess.run([path, "--version"], capture_output=True, text=True)
        if done.stdout.strip() == f"Python {version}":
            return path
    raise CannotVerify(f"needs Python {version}; there is none here (this is {platform.python_version()})")
