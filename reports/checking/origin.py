"""Compare what a record claims about its origin with the commit that it names.

The files of a commit come from the git repository of this project or, in an installed package of that very
commit, from the package's own list of digests. Nothing recorded is run: contents are hashed, and modules are
parsed only once they are known to be the commit's.
"""

import re
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha1, sha256
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import PurePosixPath
from typing import Any

from ascent.records import provenance
from ascent.records.errors import InputError
from ascent.reports.checking import folder
from ascent.reports.checking.folder import CellFiles, RunFiles
from ascent.reports.checking.protocol import Finding

LOCK = "requirements.lock"
PACKAGE = f"{provenance.PACKAGE}/"
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")


class Unknown(Exception):
    """A claim that cannot be compared here. The message says why, in a few words."""


@dataclass(frozen=True)
class Commit:
    """The files of a commit: a digest of each, by its path in the repository or in the package."""

    digests: Mapping[str, str]
    lock: bytes  # requirements.lock
    git: bool  # digests are git's; otherwise those of a wheel

    def paths(self, name: str) -> list[str]:
        """Return the paths of a module that is recorded as ascent/algorithms/ppo.py."""
        return [path for path in (name, name.removeprefix(PACKAGE)) if path in self.digests]

    def has(self, name: str, content: bytes) -> bool:
        """Return whether the file that is recorded under this name has this content in the commit."""
        if self.git:
            blob = b"blob %d\0" % len(content) + content
            # The length of a name tells which hash the repository uses.
            digests = {sha1(blob, usedforsecurity=False).hexdigest(), sha256(blob).hexdigest()}
        else:
            digests = {urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()}
        return any(self.digests[path] in digests for path in self.paths(name))

    @property
    def versions(self) -> dict[str, str]:
        """The package versions in the lock, by lower-case name."""
        pins = re.findall(r"(?m)^([A-Za-z0-9_.-]+)==([^\s;\\]+)", self.lock.decode(errors="replace"))
        return {name.lower(): version for name, version in pins}


@cache
def commit(name: object) -> Commit:
    """Return the files of a commit. Raises Unknown if it cannot be found here."""
    if not isinstance(name, str) or not _COMMIT.fullmatch(name):
        raise Unknown("the record names no commit")
    if (provenance.HOME / ".git").exists():
        return _from_git(name)
    return _from_wheel(name)


def _from_git(name: str) -> Commit:
    missing = f"commit {name[:12]} is not in the repository of this project"
    listing = _git("ls-tree", "-r", "-z", name, missing=missing).decode(errors="replace")
    entries = (entry.partition("\t") for entry in listing.split("\0") if entry)
    digests = {path: about.split()[2] for about, _, path in entries}
    if LOCK not in digests:
        return Commit(digests, b"", git=True)
    return Commit(digests, _git("cat-file", "blob", digests[LOCK], missing=missing), git=True)


def _git(*words: str, missing: str) -> bytes:
    try:
        done = subprocess.run(provenance.git_command(*words), capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unknown(f"git does not answer: {error}") from error
    if done.returncode:
        raise Unknown(missing)
    return done.stdout


def _from_wheel(name: str) -> Commit:
    stamp = provenance.commit()
    if stamp != {"commit": name, "dirty": False}:
        raise Unknown(
            f"commit {name[:12]} is not that of the installed package, and there is no git checkout"
        )
    try:
        files = distribution(provenance.DISTRIBUTION).files or []
    except PackageNotFoundError as error:
        raise Unknown("the installed package has no list of its files") from error
    digests = {path.as_posix(): path.hash.value for path in files if path.hash}
    return Commit(digests, (provenance.HOME / LOCK).read_bytes(), git=False)


@dataclass(frozen=True)
class Origin:
    """What the comparison of runs with their commit gave."""

    contradicted: tuple[str, ...]  # claims that the commit refutes
    unknown: tuple[str, ...]  # why the sources could not be compared
    notes: tuple[str, ...]  # differences that an honest run may have


def origin(cell: CellFiles, run: RunFiles) -> Origin:
    """Compare a run's sources, lock and packages with the commit that it names."""
    about = run.about
    if about.get("dirty") is not False:
        why = "uncommitted changes" if about.get("dirty") else "no commit is recorded"
        return Origin((), (f"{why}: no commit has its sources",), ())
    try:
        named = commit(about.get("commit"))
    except Unknown as reason:
        return Origin((), (str(reason),), ())
    try:
        digest, sources = folder.sources(cell.path, str(about.get("source_digest")))
    except InputError as error:
        return Origin((str(error),), (), ())
    where = f"commit {str(about['commit'])[:12]}"
    notes = []
    own = provenance.own_source(cell.described().algorithm)
    if (
        sha := cell.described().algorithm_sha256
    ) and own in sources:  # the rule `own-algorithm` compares them
        del sources[own]
        notes.append(f"{own} is its author's file, in no commit of the suite: sha256 {sha[:12]}")
    contradicted = [*_sources(str(about["commit"]), tuple(sources.items())), *_lock(named, about, where)]
    if digest != about.get("source_digest"):
        contradicted.append(f"the recorded sources have digest {digest}")
    others = sorted(_attempted(run) - {str(about.get("source_digest"))})
    unknown = [f"earlier attempts ran other sources: {', '.join(others)}"] if others else []
    return Origin(tuple(contradicted), tuple(unknown), (*notes, *_packages(named, about, where)))


def _attempted(run: RunFiles) -> set[str]:
    """Return the digests of the sources that the attempts of a run name; versions before 0.3 name none."""
    return {str(attempt["source_digest"]) for attempt in run.about["attempts"] if "source_digest" in attempt}


@lru_cache(maxsize=64)  # the cells of a sweep have few different sources
def _sources(commit_name: str, recorded: tuple[tuple[str, bytes], ...]) -> list[str]:
    """Return how recorded sources differ from those of a commit: other contents, modules left out."""
    named, sources, where = commit(commit_name), dict(recorded), f"commit {commit_name[:12]}"
    unlike = [name for name, content in recorded if not named.has(name, content)]
    if unlike:  # what is not the commit's is not parsed
        return [f"{name} is {'not that of' if named.paths(name) else 'not in'} {where}" for name in unlike]
    modules = [name for name in sources if name.endswith(".py") and name.startswith(PACKAGE)]
    needed = {path for name in modules for path in _imported(named, sources[name])}
    needed |= {path for name in modules for path in _compiled(named, name)}
    return [
        f"{name} of {where} takes part and is not among the recorded sources"
        for name in sorted(needed - sources.keys())
    ]


def _imported(named: Commit, module: bytes) -> Iterator[str]:
    """Yield the modules of the package, as recorded sources name them, that a module imports."""
    for imported in provenance.imported_names(module):
        path = imported.replace(".", "/")
        for name in (f"{path}.py", f"{path}/__init__.py"):
            if named.paths(name):
                yield name


def _compiled(named: Commit, module: str) -> Iterator[str]:
    """Yield the C++ files beside a module."""
    homes = {PurePosixPath(path).parent for path in named.paths(module)}
    for path in map(PurePosixPath, named.digests):
        if path.suffix in (".h", ".cpp") and path.parent in homes:
            yield str(PurePosixPath(module).parent / path.name)


def _lock(named: Commit, about: Mapping[str, Any], where: str) -> Iterator[str]:
    if about.get("lock_digest") != (sha256(named.lock).hexdigest() if named.lock else None):
        yield f"lock_digest is not the sha256 of {LOCK} of {where}"


def _packages(named: Commit, about: Mapping[str, Any], where: str) -> Iterator[str]:
    """Yield package versions that are not those of the lock. Names with a dot are model files."""
    locked = named.versions
    for name, version in dict(about.get("packages") or {}).items():
        expected = locked.get(str(name).lower())
        if name in ("python", "kernels") or "." in name or str(version).partition("+")[0] == expected:
            continue
        yield f"{name} {version}, where the lock of {where} has {expected or 'none'}"


def named_commit(cell: CellFiles) -> Iterator[Finding]:
    """Sources and lock are those of the commit that a run names."""
    for runs, found in origins(cell):
        where = cell.name if len(runs) == len(cell.finished) else runs[0].name
        yield from (Finding(where, what) for what in found.contradicted)
        yield from (Finding(where, what, note=True) for what in (*found.unknown, *found.notes))


def origins(cell: CellFiles) -> list[tuple[list[RunFiles], Origin]]:
    """Return the finished runs of a cell in groups of equal claims, each with its origin."""
    if cell.imported or cell.cell is None:
        return []
    groups: dict[str, list[RunFiles]] = {}
    for run in cell.finished:
        claims = [
            run.about.get(key) for key in ("commit", "dirty", "source_digest", "lock_digest", "packages")
        ]
        groups.setdefault(repr([*claims, sorted(_attempted(run))]), []).append(run)
    return [(runs, origin(cell, runs[0])) for runs in groups.values()]
