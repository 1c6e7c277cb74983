"""Which W&B service is meant, and the processes that run wandb. Nothing here imports wandb."""

import netrc
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ascent.records.errors import InputError

HONOURED = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT")


@dataclass(frozen=True)
class Service:
    """A destination for runs. `entity` None means the default entity of the API key."""

    url: str
    key: str
    project: str
    entity: str | None


def check_installed() -> None:
    """Raise InputError if wandb is not installed."""
    if find_spec("wandb") is None:
        raise InputError("wandb is not installed: pip install 'ascent-rl[wandb]'")


def find_project(project: str | None, environment: Mapping[str, str], option: str = "--project") -> str:
    """Return the project that the argument or the environment names. `option` is for the error message."""
    if not (found := project or environment.get("WANDB_PROJECT")):
        raise InputError(f"W&B needs a project: give {option} NAME, or set WANDB_PROJECT")
    return found


def find_service(project: str, entity: str | None, environment: Mapping[str, str]) -> Service:
    """Return the service that the arguments and environment variables name.

    Raises InputError without an API key, or for an invalid address.
    """
    url = environment.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"WANDB_BASE_URL: {url!r} must start with https:// or http://")
    key = environment.get("WANDB_API_KEY") or _netrc_key(url, environment)
    if not key:
        raise InputError(
            f"no API key for W&B at {url}: set WANDB_API_KEY (from {url.replace('api.', '', 1)}/authorize), "
            "or use `ascent wandb push --offline`"
        )
    return Service(url, key, project, entity or environment.get("WANDB_ENTITY") or None)


def _netrc_key(url: str, environment: Mapping[str, str]) -> str | None:
    """Return the API key that `wandb login` stored, if any."""
    path = Path(environment.get("NETRC") or Path.home() / ".netrc")
    try:
        entry = netrc.netrc(path).authenticators(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return entry[2] if entry else None


def ignored_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the names of set variables for wandb that have no effect on a push."""
    return sorted(name for name in environment if name.startswith("WANDB_") and name not in HONOURED)


def start(
    words: Sequence[str],
    service: Service | None,
    folder: Path,
    log: Path,
    stdin: int | IO[bytes],
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start python with these words as a process that runs wandb; offline without a service.

    wandb writes to `folder` only, and the process to `log`, with its output (default of `stdout`: `log`).
    """
    environment = _environment(service, folder.resolve())
    with log.open("wb") as errors:
        return subprocess.Popen(
            [sys.executable, "-P", *words],
            stdin=stdin,
            stdout=errors if stdout is None else stdout,
            stderr=errors,
            bufsize=0,  # what `select` does not see must not wait in a buffer
            env=environment,
            cwd=folder,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """Return the exit code of a process; None if it had to be killed, after these seconds.

    The process that wandb itself started ends as well.
    """
    code = None
    try:
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(seconds)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return code


def _environment(service: Service | None, folder: Path) -> dict[str, str]:
    """Return the environment variables of a process that runs wandb and writes to `folder`.

    The user's variables for wandb, which could change a run, are removed.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    folders = {
        "WANDB_DIR": folder / "tmp",  # for runs that are read; those that are written are given a folder
        "WANDB_CACHE_DIR": folder / "cache",
        "WANDB_CONFIG_DIR": folder / "config",
        "WANDB_DATA_DIR": folder / "data",
        "WANDB_ARTIFACT_DIR": folder / "artifact",
        "TMPDIR": folder / "tmp",
    }
    for path in folders.values():
        path.mkdir(parents=True, exist_ok=True)  # wandb replaces a folder that does not exist by another
    variables |= {name: str(path) for name, path in folders.items()}
    variables["WANDB_ERROR_REPORTING"] = "false"  # reports go to another server
    if service is None:
        return variables | {"WANDB_MODE": "offline"}
    return variables | {"WANDB_MODE": "online", "WANDB_BASE_URL": service.url, "WANDB_API_KEY": service.key}
