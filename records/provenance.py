"""Provenance: what a record says about where a run was made. None of it enters a cell's digest."""

import ast
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ascent.records import files
from ascent.records.ownership import slurm_facts

# Where the parts of the package are: the top of a checkout, or `ascent` among installed packages.
HOME = Path(__file__).resolve().parents[1]
STAMP = HOME / "build.json"  # written into a wheel when it is built, see setup.py: commit and dirty
PACKAGE = "ascent"
DISTRIBUTION = "ascent-rl"
CONTAINER = "ASCENT_CONTAINER"  # variable with the digest of the image that a process runs in


@dataclass(frozen=True)
class Provenance:
    """What a training process tells the records about itself and its cell."""

    facts: dict[str, Any]  # the content of cell.json
    columns: tuple[str, ...]  # further columns of the tables of episodes: agents and measures of the task
    packages: dict[str, str]  # versions that may change a result
    device: str  # "cpu", or the GPU's name and its CUDA version
    platform: dict[str, Any]  # `key`, and details for the reader
    sources: dict[str, bytes]  # the modules that train the cell

    @property
    def made_with(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed exactly."""
        return {"packages": self.packages, "device": self.device}


# ---- sources


@cache
def module_file(module: str) -> Path | None:
    """Return the file of a module of this package; None for any other name."""
    parts = module.split(".")
    if parts[0] != PACKAGE or len(parts) < 2:
        return None
    path = HOME.joinpath(*parts[1:])
    files = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def imported_names(module: bytes) -> list[str]:
    """Return the names in this package that a module imports, anywhere in its code, with their parents."""
    names: list[str] = []
    for node in ast.walk(ast.parse(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    ours = [name for name in names if name.startswith(f"{PACKAGE}.")]
    parents = (".".join(name.split(".")[:n]) for name in ours for n in range(2, name.count(".") + 2))
    return list(dict.fromkeys(parents))


@cache
def _imports(module: str) -> tuple[str, ...]:
    """Return the modules of this package that a module imports."""
    file = module_file(module)
    return tuple(name for name in imported_names(file.read_bytes()) if module_file(name)) if file else ()


def sources(roots: Iterable[str]) -> dict[str, bytes]:
    """Return the modules of this package that `roots` import, directly or not, and the roots themselves.

    They are found by following the import statements, so that nothing that takes part in training is left out
    and nothing else is in it. A package's C++ files are among them. Names are as in the package:
    ascent/algorithms/ppo.py.
    """
    modules: set[str] = set()
    waiting = [parent for root in roots for parent in _with_parents(root)]
    while waiting:
        module = waiting.pop()
        if module not in modules:
            modules.add(module)
            waiting += _imports(module)
    contents = {}
    for module in modules:
        file = module_file(module)
        if file is None:
            raise FileNotFoundError(f"{module}: no such module in {HOME}")
        compiled = [*file.parent.glob("*.h"), *file.parent.glob("*.cpp")]
        for path in (file, *compiled):
            contents[f"{PACKAGE}/{path.relative_to(HOME).as_posix()}"] = path.read_bytes()
    return dict(sorted(contents.items()))


def _with_parents(module: str) -> Iterator[str]:
    parts = module.split(".")
    return (".".join(parts[:n]) for n in range(2, len(parts) + 1))


def own_source(algorithm: str) -> str:
    """Return the name under which an algorithm's file from outside the suite is recorded."""
    return f"own/{algorithm}.py"


def source_digest(contents: dict[str, bytes]) -> str:
    """Return twelve hex digits over names and contents."""
    digest = sha256()
    for name, content in sorted(contents.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


# ---- commit and lock


@dataclass(frozen=True)
class _Git:
    """The answer of one git command: its output, or why there is none."""

    output: str | None
    error: str = ""


def git_command(*words: str) -> list[str]:
    """Return a git command that reads the checkout of this code.

    The checkout may belong to another user, as in the usual installation for a group. git then refuses to
    answer unless told that the folder is safe. The variables of a git hook, which name another repository,
    have no effect.
    """
    checkout = [f"--git-dir={HOME / '.git'}", f"--work-tree={HOME}"]
    return ["git", "-c", f"safe.directory={HOME}", "-C", str(HOME), *checkout, *words]


def _git(*words: str) -> _Git:
    try:
        done = subprocess.run(git_command(*words), capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Git(None, str(error))
    if done.returncode:
        return _Git(None, (done.stderr.strip().splitlines() or ["git failed without a message"])[0])
    return _Git(done.stdout.strip())


def _is_checkout() -> bool:
    return (HOME / ".git").exists()


@cache
def commit() -> dict[str, Any]:
    """Return the commit of this code and whether its files differ from it; None where that is not known.

    An installed package says what its build recorded.
    """
    if not _is_checkout():
        return _stamp()
    status = _git("status", "--porcelain", "--untracked-files=no").output
    return {"commit": _git("rev-parse", "HEAD").output, "dirty": None if status is None else bool(status)}


def commit_problem() -> str | None:
    """Return one line that says why the commit of this code is not known; None if it is."""
    if commit()["commit"] is not None:
        return None
    if _is_checkout():
        return f"the commit of {HOME} is not known: {_git('rev-parse', 'HEAD').error}"
    return f"the commit of the package in {HOME} is not known: it was not built from a git checkout"


def _stamp() -> dict[str, Any]:
    try:
        stamp = files.read_json(STAMP.resolve())  # an installer may link files
    except (OSError, files.DamagedFile):
        return {"commit": None, "dirty": None}
    return {"commit": stamp.get("commit"), "dirty": stamp.get("dirty")}


def lock_digest() -> str | None:
    """Return the sha256 of requirements.lock, which lists the exact versions of all packages; None without
    it.
    """
    path = HOME / "requirements.lock"
    return sha256(path.read_bytes()).hexdigest() if path.exists() else None


# ---- machine


@cache
def cpu() -> dict[str, str]:
    """Return the processor's class, by which matrix libraries choose their code, and its name."""
    fields = {"vendor_id": "", "cpu family": "", "model": "", "model name": platform.processor()}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            if name.strip() in fields:
                fields[name.strip()] = value.strip()
    except OSError:
        pass  # not Linux: the name is all that is known
    return {
        "class": "-".join([fields["vendor_id"], fields["cpu family"], fields["model"]]),
        "name": fields["model name"],
    }


def attempt_identity() -> dict[str, object]:
    """Return the identity of this process; no two live attempts share all of it."""
    identity: dict[str, object] = {"host": socket.gethostname(), "pid": os.getpid(), "python": sys.executable}
    if image := os.environ.get(CONTAINER):
        identity["container"] = image
    return identity | slurm_facts()
