"""What a recorded run needs to be trained again: its sources, its package versions, its device.

A record is run with its own sources, unless they equal those of this project. Recorded sources are code that
a stranger may have written: they run only where the user has allowed it, with no variable of the user's
environment, in a folder of their own.
"""

import filecmp
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from ascent.records import layout, provenance
from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.reports.checking import folder, origin
from ascent.reports.checking.folder import CellFiles, RunFiles

# Versions before 0.2.0 recorded their sources as top-level packages.
PACK = "ascent.runners.pack"
EARLY_PACK = "runners.pack"
_PACKAGES = """
import json, sys
from ascent.runners import platform
print(json.dumps(platform.packages(sys.argv[1])))
"""
_PACKAGES_OF_FOREIGN = """
import json, sys
from ascent.records.cell import Cell
from ascent.runners import environments, platform
cell = Cell.from_json(json.loads(sys.argv[1]))
environments.admit(cell)
print(json.dumps(platform.packages(cell.task)))
"""
_PACKAGES_OF_OWN = """
import json, sys
from pathlib import Path
from ascent.records.cell import Cell
from ascent.runners import environments, own, platform
cell = Cell.from_json(json.loads(sys.argv[1]))
environments.admit(cell)
print(json.dumps(platform.packages(cell.task) | own.packages(Path(sys.argv[2]).read_bytes())))
"""
_EARLY_PACKAGES = """
import json, sys
from runners import provenance
print(json.dumps(provenance.packages(sys.argv[1])))
"""


class CannotVerify(InputError):
    """A record cannot be trained again on this machine; the message says what it would need."""


@dataclass(frozen=True)
class Allowed:
    """What the user allows: to create environments with recorded package versions, to run recorded code."""

    install: bool = False
    run_recorded_code: bool = False


@dataclass(frozen=True)
class Setting:
    """What trains a cell again: an interpreter, the folder of the recorded sources, with the kernels or not.

    `root` is None for the sources of this project. `home` is the working folder. `notes` are for the user.
    """

    python: str
    root: Path | None
    home: Path
    kernels: bool
    notes: tuple[str, ...]

    @property
    def early(self) -> bool:
        """Whether the sources are those of a version before 0.2.0."""
        return self.root is not None and not (self.root / provenance.PACKAGE).exists()

    def command(self) -> list[str]:
        """Return the command that trains the job on its standard input."""
        return [*self._interpreter(), "-m", EARLY_PACK if self.early else PACK]

    def packages_command(self, cell: Cell) -> list[str]:
        """Return the command that prints the package versions that a record of the cell would name."""
        if cell.algorithm_sha256 and self.root is not None:
            file = str(self.root / provenance.own_source(cell.algorithm))
            return [*self._interpreter(), "-c", _PACKAGES_OF_OWN, json.dumps(cell.to_json()), file]
        if cell.environment is not None:
            return [*self._interpreter(), "-c", _PACKAGES_OF_FOREIGN, json.dumps(cell.to_json())]
        return [*self._interpreter(), "-c", _EARLY_PACKAGES if self.early else _PACKAGES, cell.task]

    def _interpreter(self) -> list[str]:
        return [self.python, "-P"]  # -P: import nothing from the working folder

    def environment(self, run: RunFiles) -> dict[str, str]:
        """Return the variables of a process that trains the run: recorded sources see none of the user's."""
        if self.root is None:
            return environment(run, self.kernels)
        return _empty(self.home) | {"PYTHONPATH": str(self.root)} | _choices(run, self.kernels)


def _empty(home: Path) -> dict[str, str]:
    """Return the variables of a process that sees none of the user's; its files go into `home`."""
    folders = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME"), str(home))
    return {"PATH": os.defpath, "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"} | folders


def environment(run: RunFiles, kernels: bool) -> dict[str, str]:
    """Return the variables of a process that repeats a run with the installed code."""
    from ascent.runners import own
    from ascent.runners.platform import FLAGS

    kept = {name: value for name, value in os.environ.items() if name not in FLAGS}
    kept[own.KNOWN] = ":".join(map(str, own.known_files()))  # the process has another working folder
    return kept | {"PYTHONDONTWRITEBYTECODE": "1"} | _choices(run, kernels)


def _choices(run: RunFiles, kernels: bool) -> dict[str, str]:
    """Return the variables that choose the code of mathematical functions, as the run records them."""
    from ascent.runners.platform import FLAGS

    recorded = (run.about.get("platform") or {}).get("flags") or {}
    values = {name: str(recorded[name]) for name in FLAGS if recorded.get(name)}
    return values | {"ASCENT_KERNELS": "on" if kernels else "off"}


def device(run: RunFiles) -> str:
    """Return the device of a run's last attempt as its record names it: "cpu", or a GPU."""
    attempts = run.about.get("attempts") or [{}]
    return str(attempts[-1].get("device", "cpu"))


def refuse_foreign(cell: CellFiles, allowed: Allowed) -> None:
    """Raise CannotVerify for a task from outside this project, unless the user allows to run its code."""
    environment = cell.described().environment
    if environment is not None and not allowed.run_recorded_code:
        raise CannotVerify(
            f"its environment {environment['id']} is code from outside this project: if you trust it, "
            "run it with --run-recorded-code"
        )


def find(cell: CellFiles, run: RunFiles, work: Path, allowed: Allowed) -> Setting:
    """Return what trains a run again; where it does not exist, it is made in the folder `work`.

    Raises:
        CannotVerify: the run needs another device, different package versions, or code that is not allowed to
            run, or its sources are damaged.
    """
    refuse_foreign(cell, allowed)
    recorded = run.about.get("source_digest")
    notes = []
    if run.about.get("dirty"):
        notes.append("trained with uncommitted changes: the recorded sources are what ran")
    root = None
    if recorded != _current_digest(cell):
        if not allowed.run_recorded_code:
            raise CannotVerify(
                f"its recorded sources {recorded} differ from the installed version: if you trust them, "
                "run them with --run-recorded-code"
            )
        root = _unpack(cell, str(recorded), work)
        notes.append(f"runs the recorded sources {recorded}, which differ from the installed version")
    _check_device(run)
    recorded_packages = run.about.get("packages")
    if not isinstance(recorded_packages, dict):
        raise CannotVerify(f"{layout.RUN} does not say which packages trained it")
    described = cell.described()
    compiled = "kernels" in recorded_packages
    home = work / "home"
    home.mkdir(exist_ok=True)
    if compiled and root is not None:
        _build_kernels(root, home)
    setting = Setting(sys.executable, root, home, compiled, tuple(notes))
    differences = _differences(recorded_packages, _packages(setting, run, described))
    if differences and not (allowed.install and _locked(run)):
        hint = ", or use --install" if _locked(run) else ""
        raise CannotVerify(
            f"trained with different package versions: {differences}. {_requirements(run)}{hint}"
        )
    if differences:
        python = _installed(run, recorded_packages, work)
        # The current sources are not installed in that environment: there, the recorded ones run.
        root = root or _unpack(cell, str(recorded), work)
        if compiled:
            _build_kernels(root, home)
        setting = Setting(python, root, home, compiled, (*notes, "in a separate virtual environment"))
        if left := _differences(recorded_packages, _packages(setting, run, described)):
            raise CannotVerify(f"an environment made from the recorded lock has different versions: {left}")
    return setting


def _current_digest(cell: CellFiles) -> str | None:
    """Return the digest of the installed sources for the cell; None if they have no such algorithm."""
    from ascent.runners import own
    from ascent.runners.platform import training_sources

    try:
        own.admit(cell.described())
        return provenance.source_digest(training_sources(cell.described().system))
    except (InputError, KeyError, OSError):  # InputError: a file of its author's that is not known here
        return None


def _unpack(cell: CellFiles, recorded: str, work: Path) -> Path:
    """Return a folder with the recorded sources, after checking them."""
    root = work / f"sources-{recorded}"
    if not root.exists():
        name = layout.sources(recorded)
        try:
            digest, content = folder.sources(cell.path, recorded)
        except InputError as error:
            raise CannotVerify(f"the sources differ from the installed version, and {error}") from error
        if digest != recorded:
            raise CannotVerify(f"{name} was changed: its content has digest {digest}")
        for module, data in content.items():
            (root / module).parent.mkdir(parents=True, exist_ok=True)
            (root / module).write_bytes(data)
        if (root / provenance.PACKAGE).exists():
            (root / provenance.PACKAGE / "__init__.py").touch()  # else an installed package would go first
    return root


def _build_kernels(root: Path, folder: Path) -> None:
    """Build the recorded kernels beside their sources, unless an earlier run of the cell had them built.

    Kernels of the same sources that are installed here are taken instead: compiling takes 20 s of a core.
    """
    home, installed = root / provenance.PACKAGE / "kernels", provenance.HOME / "kernels"
    if any(home.glob("*.so")):
        return
    sources = [path.name for path in (*home.glob("*.cpp"), *home.glob("*.h"), *home.glob("build.py"))]
    _, other, missing = filecmp.cmpfiles(home, installed, sources, shallow=False)
    libraries = list(installed.glob("*.so"))
    if sources and libraries and not other and not missing:
        for library in libraries:
            shutil.copyfile(library, home / library.name)
        return
    done = subprocess.run(
        [sys.executable, "-P", str(home / "build.py")],
        capture_output=True,
        text=True,
        cwd=folder,
        env=_empty(folder),
    )
    if done.returncode or done.stderr:
        raise CannotVerify(f"needs its recorded kernels: {last_line(done.stderr)}")


def _check_device(run: RunFiles) -> None:
    if device(run) == "cpu":
        return
    import torch

    if not torch.cuda.is_available():
        raise CannotVerify(f"trained on {device(run)}; torch finds no GPU on this machine")


def _packages(setting: Setting, run: RunFiles, cell: Cell) -> dict[str, str]:
    """Return the versions that a run's record would name with this setting."""
    if setting.root is None and setting.python == sys.executable:
        from ascent.runners import environments, own
        from ascent.runners.platform import packages

        environments.admit(cell)
        if setting.kernels == ("kernels" in packages(cell.task)):
            return packages(cell.task) | own.packages(own.content(cell.system))
    done = subprocess.run(
        setting.packages_command(cell),
        capture_output=True,
        text=True,
        cwd=setting.home,
        env=setting.environment(run),
    )
    if done.returncode:
        raise CannotVerify(f"the sources do not run with the installed packages: {last_line(done.stderr)}")
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def last_line(text: str) -> str:
    """Return the last line of an output."""
    return (text.strip().splitlines() or ["no output"])[-1]


def _differences(recorded: dict[str, str], current: dict[str, str]) -> str:
    names = sorted(recorded.keys() | current.keys())
    return ", ".join(
        f"{name} {recorded.get(name, 'not named')} (installed: {current.get(name, 'none')})"
        for name in names
        if recorded.get(name) != current.get(name)
    )


def _locked(run: RunFiles) -> bool:
    """Return whether the record names a commit with a requirements.lock, which --install needs."""
    return bool(run.about.get("commit") and run.about.get("lock_digest"))


def _requirements(run: RunFiles) -> str:
    python = f"It needs Python {run.about['packages'].get('python')}"
    if not _locked(run):
        return f"{python} with these versions; the record names no commit with a requirements.lock"
    commit, lock = run.about["commit"], run.about["lock_digest"]
    return f"{python} and `pip install -r requirements.lock` of commit {commit} (sha256 {lock})"


def _installed(run: RunFiles, packages: dict[str, str], work: Path) -> str:
    """Return the interpreter of an environment made from the lock of the record's commit."""
    commit = run.about.get("commit")
    recorded = run.about.get("lock_digest")
    home = work / f"environment-{str(recorded)[:12]}"
    python = home / "bin" / "python"
    if python.exists():
        return str(python)
    try:
        named = origin.commit(commit)
    except origin.Unknown as error:
        raise CannotVerify(f"the packages cannot be installed: {error}") from error
    if sha256(named.lock).hexdigest() != recorded:
        raise CannotVerify(
            f"requirements.lock of commit {commit} does not have the recorded sha256 {recorded}"
        )
    (work / "requirements.lock").write_bytes(named.lock)
    exact = _exact(named, packages)
    print(f"installing the packages of commit {commit}; this may take minutes", file=sys.stderr, flush=True)
    create = [_interpreter(packages.get("python", "")), "-m", "venv", str(home)]
    install = [str(python), "-m", "pip", "install", "--quiet"]
    install += ["-r", str(work / "requirements.lock"), *exact]
    for command in (create, install):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise CannotVerify(
                f"the recorded packages cannot be installed: {last_line(done.stderr)}. {_requirements(run)}"
            )
    return str(python)


def _exact(named: origin.Commit, packages: dict[str, str]) -> list[str]:
    """Return the recorded versions of packages as pip takes them: 2.13.0+cpu, where the lock has 2.13.0.

    Raises:
        CannotVerify: a name or a version that the lock does not have.
    """
    # Names with a dot are model files.
    recorded = {n: v for n, v in packages.items() if n not in ("python", "kernels") and "." not in n}
    for name, version in recorded.items():
        release, _, local = version.partition("+")
        if named.versions.get(name.lower()) != release or not re.fullmatch(r"[A-Za-z0-9.]*", local):
            raise CannotVerify(f"{name} {version} is not in the lock of its commit: it is not installed")
    return [f"{name}=={version}" for name, version in recorded.items()]


def _interpreter(version: str) -> str:
    """Return a Python of exactly this version."""
    if platform.python_version() == version:
        return sys.executable
    name = "python" + ".".join(version.split(".")[:2])
    if path := shutil.which(name):
        done = subprocess.run([path, "--version"], capture_output=True, text=True)
        if done.stdout.strip() == f"Python {version}":
            return path
    raise CannotVerify(
        f"needs Python {version}, which is not installed (this is {platform.python_version()})"
    )
