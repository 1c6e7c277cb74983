"""Algorithms from outside the suite: a file that the user names, or a module of an installed package.

    ascent train path/mine.py CartPole-v1          the file's `Agent`: system `mine`
    ascent train path/mine.py:Ours CartPole-v1     its class `Ours`: system `mine-Ours`
    [project.entry-points."ascent.algorithms"]     in a package's pyproject.toml:
    mine = "package.mine"                          system `mine`

Such a file is code, and it runs only where the user says so: on the command line, in a sweep's file, in the
variable ASCENT_ALGORITHMS (files, with ":" between them), by installing a package. A record names its
algorithm's file by the digest alone: no path in a record is ever followed. The file is recorded with the
sources, and its digest is part of the cell. So it is one file: what it imports is the suite's, or installed.
"""

import ast
import os
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import entry_points, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from ascent import algorithms
from ascent.algorithms import SYSTEMS, Algorithm, System
from ascent.records import files
from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile, InputError, unknown
from ascent.records.provenance import PACKAGE

if TYPE_CHECKING:
    from ascent.suites import Spec

GROUP = "ascent.algorithms"  # of entry points
KNOWN = "ASCENT_ALGORITHMS"  # variable with the files that records may be played and trained again with
MOST_BYTES = 1_000_000  # of a file
AGENT = "Agent"
METHODS = ("act", "update", "state_dict", "load_state_dict")  # of an agent
TEMPLATES = Path(algorithms.__file__).parent / "templates"
SUITE = frozenset(SYSTEMS)  # the names of the suite's own algorithms
_WORD = re.compile(r"(?P<file>.+\.py)(:(?P<agent>[A-Za-z_]\w*))?", re.DOTALL)
_STEM = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,49}")
_RECORDED = ("numpy", "torch", PACKAGE)  # packages whose versions every record names


def located(word: str, folder: Path) -> str:
    """Return the name of an algorithm as it is, and a file, as seen from `folder`, as an absolute path."""
    return str(folder.resolve() / Path(word).expanduser()) if _WORD.fullmatch(word) else word


def file_of(word: str) -> Path | None:
    """Return the file that the name of an algorithm consists of; None if it names no file."""
    match = _WORD.fullmatch(word)
    return Path(match["file"]).expanduser().resolve() if match else None


def name_of(word: str) -> str:
    """Return the name of the system that a word names. One from outside the suite is imported and listed.

    Raises:
        InputError: a file that is no algorithm, or an unknown name.
    """
    if path := file_of(word):
        match = _WORD.fullmatch(word)
        return _list(path, path.stem, (match and match["agent"]) or AGENT, _read(path))
    if word in SUITE:
        return word
    if path := _entry(word):
        return _list(path, word, AGENT, _read(path))
    if word not in SYSTEMS:
        raise unknown("algorithm", word, [*SYSTEMS, *_entries()])
    return word


def admit(cell: Cell) -> None:
    """List the algorithm of a cell, if it is from outside the suite and the user has named its file.

    Raises:
        InputError: the file is not known here, or is another one than that of the cell.
    """
    if not cell.algorithm_sha256:
        return
    listed = SYSTEMS.get(cell.system)
    if listed and listed.sha256 == cell.algorithm_sha256:
        return
    known = [path for path in known_files() if path.stem == cell.algorithm]
    known += [path for path in (cell.algorithm_file, _entry(cell.system)) if path]
    contents = {path: _read(path) for path in known}
    for path, content in contents.items():
        if sha256(content).hexdigest() == cell.algorithm_sha256:
            agent = cell.system.removeprefix(f"{cell.algorithm}-") if cell.system != cell.algorithm else AGENT
            _list(path, cell.algorithm, agent, content)
            return
    if cell.algorithm_file:
        raise InputError(f"{cell.algorithm_file} has changed since {cell.label()} was planned: plan it again")
    which = f"its algorithm is a file of its author's, sha256 {cell.algorithm_sha256[:12]}"
    other = f"; {', '.join(map(str, known))} is another" if known else ""
    raise InputError(
        f"{cell.label()}: {which}: name it by {KNOWN}={cell.algorithm}.py if you trust it{other}"
    )


def known_files() -> list[Path]:
    """Return the files that the user's variable names."""
    return [Path(name).expanduser().resolve() for name in os.environ.get(KNOWN, "").split(":") if name]


def content(system: str) -> bytes:
    """Return the content of a system's file from outside the suite; nothing for the suite's own."""
    return SYSTEMS[system].content if system in SYSTEMS else b""


def packages(content: bytes) -> dict[str, str]:
    """Return the versions of the installed packages that a file from outside the suite imports."""
    names = _imported(content) - {*_RECORDED, *sys.stdlib_module_names}
    distributions = packages_distributions() if names else {}
    used = {distribution for name in names for distribution in distributions.get(name, ())}
    return {name: version(name) for name in sorted(used)}


def fault(error: BaseException, system: str) -> str:
    """Return what went wrong in a file from outside the suite, in one line: file, line, reason."""
    return _fault(error, cast(Path, SYSTEMS[system].file))


def try_out(system: str, spec: "Spec", config: Any) -> None:
    """Let an agent from outside the suite act once, with two seeds, before anything is spent on it.

    Raises:
        InputError: it raises an error, or returns what the runner cannot use.
    """
    import torch

    from ascent.algorithms.seedwise import Streams, WholeEpisodes
    from ascent.runners.experience import shapes

    one, seeds = SYSTEMS[system], [0, 1]
    file = cast(Path, one.file).name
    try:
        rng = Streams(seeds, "init")
        agent = one.module().Agent(config, spec.observation_space, spec.action_space, rng, "cpu")
        envs, shape = agent.experience.envs, shapes(spec)
        obs = torch.zeros(len(seeds), envs, *shape["obs"])
        action, _ = agent.act(obs, Streams(seeds, "act"), True, 0.0)
        state = agent.state_dict()
    except Exception as error:
        raise InputError(fault(error, system)) from error
    expected = (len(seeds), envs, *shape["action"])
    kind = torch.float32 if spec.choices is None else torch.int64
    if not isinstance(action, torch.Tensor) or action.shape != expected or action.dtype != kind:
        found = f"{tuple(action.shape)} {action.dtype}" if isinstance(action, torch.Tensor) else repr(action)
        what = f"act must return {expected} {kind} for observations {tuple(obs.shape)}, not {found}"
        raise InputError(f"{file}: {spec.id}: {what}")
    for name, array in state.items():
        if not array.dim() or len(array) != len(seeds):
            raise InputError(
                f"{file}: state_dict: {name} must have the seed axis first: {tuple(array.shape)}"
            )
    if not any(name.startswith("params/") for name in state):
        raise InputError(f"{file}: state_dict has no parameters: what is learned is named params/...")
    for name, used in (("envs", envs != 1), ("horizons", isinstance(agent.experience, WholeEpisodes))):
        asked = getattr(agent.experience, name, None)
        if used and getattr(config, name, None) != asked:
            raise InputError(f"{file}: its experience has {name} = {asked}: Config needs this field {name!r}")
    if hasattr(agent, "value_estimate") and not hasattr(config, "gamma"):
        raise InputError(f"{file}: value_estimate needs the discount: Config needs a field 'gamma'")


def begin(path: Path, template: str) -> None:
    """Write a new algorithm's file from a template of the suite. Raises InputError if it exists."""
    if path.suffix != ".py":
        raise InputError(f"{path}: an algorithm's file ends in .py")
    _check_name(path.stem, path.stem, path)
    text = (TEMPLATES / f"{template}.py").read_bytes().replace(b"NAME:", f"{path.stem}:".encode(), 1)
    if path.exists() or not files.create(path, text):
        raise InputError(f"{path} exists: choose another name")


# ---- from a file to an algorithm


def _read(path: Path) -> bytes:
    try:
        return files.read(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except DamagedFile as error:
        raise InputError(str(error)) from error


def _list(path: Path, algorithm: str, agent: str, content: bytes) -> str:
    """Import a file, list its system, and return the system's name."""
    name = algorithm if agent == AGENT else f"{algorithm}-{agent}"
    _check_name(algorithm, name, path)
    listed = SYSTEMS.get(name)
    if listed and listed.file != path and listed.content != content:
        raise InputError(f"{path}: {name!r} is also in {listed.file}: give one of the files another name")
    if listed is None or listed.content != content:
        own = _algorithm(_import(path, algorithm, content), agent, path)
        SYSTEMS[name] = System(algorithm, f"from {path}", own=own, file=path, content=content)
    return name


def _check_name(algorithm: str, name: str, path: Path) -> None:
    """Raise InputError for a name that the suite has, or that is no name."""
    if not _STEM.fullmatch(algorithm):
        raise InputError(f"{path.name}: an algorithm's name has letters, digits, '-' and '_': rename it")
    if taken := SUITE & {algorithm, name}:
        what = f"the suite has an algorithm {min(taken)!r}"
        raise InputError(f"{path.name}: {what}: give the file another name")


@cache
def _import(path: Path, algorithm: str, content: bytes) -> ModuleType:
    """Run a file as a module. It is given as it was read, so that what runs is what the digest covers."""
    module = ModuleType(f"ascent_own_{sha256(content).hexdigest()[:12]}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        _refuse_neighbours(path, content)
        exec(compile(content, str(path), "exec"), module.__dict__)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(_fault(error, path)) from error
    return module


def _refuse_neighbours(path: Path, content: bytes) -> None:
    """Raise InputError if a file imports modules that are beside it: they would not be in the record."""
    for name in sorted(_imported(content) - {PACKAGE}):
        if (path.parent / f"{name}.py").is_file() or (path.parent / name / "__init__.py").is_file():
            beside = f"it imports {name!r}, which is beside it and would not be recorded"
            raise InputError(f"{path.name}: {beside}: an algorithm is one file")


def _imported(content: bytes) -> set[str]:
    """Return the packages that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} if node.module else {alias.name for alias in node.names}
    return {name.partition(".")[0] for name in names}


def _algorithm(module: ModuleType, agent: str, path: Path) -> Algorithm:
    """Return what a file defines, checked, with defaults for what it need not define."""
    found = getattr(module, agent, None)
    if not isinstance(found, type):
        agents = [
            name
            for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == module.__name__ and _acts(value)
        ]
        if agent != AGENT:
            raise unknown(f"agent in {path.name}", agent, agents or [AGENT])
        choices = " or ".join(f"{path.name}:{name}" for name in agents)
        raise InputError(
            f"{path.name}: it defines no class Agent" + (f"; choose {choices}" if choices else "")
        )
    if not _acts(found):
        raise InputError(f"{path.name}: its {agent} lacks methods: it needs {', '.join(METHODS)}")
    config = getattr(found, "Config", None) or getattr(module, "Config", None)
    if not is_dataclass(config) or not isinstance(config, type):
        raise InputError(f"{path.name}: it defines no dataclass Config with the hyperparameters")
    number = getattr(module, "VERSION", 1)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InputError(f"{path.name}: VERSION must be a whole number, not {number!r}")
    try:
        presets: Mapping[str, Any] = getattr(found, "PRESETS", None) or getattr(module, "PRESETS", None) or {}
        presets = presets or {"default": config()}
    except (TypeError, ValueError) as error:
        raise InputError(f"{path.name}: every field of Config needs a valid default: {error}") from error
    for preset, values in presets.items():
        if not all(
            isinstance(x, config) for x in (values.values() if isinstance(values, Mapping) else [values])
        ):
            raise InputError(f"{path.name}: preset {preset!r} is neither a Config nor a table of Configs")
    return cast(
        Algorithm,
        SimpleNamespace(
            VERSION=number,
            TEAM=getattr(module, "TEAM", False),
            Config=config,
            PRESETS=presets,
            DEFAULTS=getattr(module, "DEFAULTS", {}),
            Agent=found,
        ),
    )


def _acts(kind: type) -> bool:
    return all(hasattr(kind, name) for name in METHODS)


def _fault(error: BaseException, path: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"{path}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    where = f"{path}, line {lines[-1]}" if lines else str(path)
    if isinstance(error, ModuleNotFoundError):
        return f"{where}: it needs the package {error.name!r}, which is not installed here"
    return f"{where}: {type(error).__name__}: {error}"


# ---- installed packages


@cache
def _entries() -> dict[str, str]:
    """Return the modules of the installed packages' algorithms by name."""
    return {entry.name: entry.value for entry in entry_points(group=GROUP)}


def _entry(name: str) -> Path | None:
    """Return the file of an installed package's algorithm; None if there is none of this name."""
    if name not in _entries():
        return None
    module = _entries()[name]
    try:
        spec = find_spec(module)
    except (ImportError, ValueError) as error:
        raise InputError(f"entry point {name} = {module!r}: {error}") from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise InputError(f"entry point {name} = {module!r} in the group {GROUP} names no Python module")
    return Path(spec.origin).resolve()
