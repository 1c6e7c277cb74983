"""Where runs go, and the processes that run wandb. Nothing here imports wandb."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ascent.records.errors import InputError

HONOURED = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT")


@dataclass(frozen=True)
class Destination:
    """A project of a server, or of offline runs, which have none. `entity` None: the default of the key."""

    project: str
    url: str = ""
    key: str = ""
    entity: str | None = None


def find(
    project: str | None, entity: str | None = None, offline: bool = False, option: str = "--project"
) -> Destination:
    """Return the destination that the arguments and the user's environment name.

    `option` is that of the project, for the error message. Raises InputError without wandb, a project or an
    API key, or for an invalid address.
    """
    if find_spec("wandb") is None:
        raise InputError("wandb is not installed: pip install 'ascent-rl[wandb]'")
    if not (project := project or os.environ.get("WANDB_PROJECT")):
        raise InputError(f"W&B needs a project: give {option} NAME, or set WANDB_PROJECT")
    if offline:
        return Destination(project)
    url = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"WANDB_BASE_URL: {url!r} must start with https:// or http://")
    if not (key := os.environ.get("WANDB_API_KEY") or _stored_key(url)):
        raise InputError(
            f"no API key for W&B at {url}: set WANDB_API_KEY (from {url.replace('api.', '', 1)}/authorize), "
            "or use `ascent wandb push --offline`"
        )
    return Destination(project, url, key, entity or os.environ.get("WANDB_ENTITY") or None)


def _stored_key(url: str) -> str:
    """Return the API key that `wandb login` stored in the netrc file; "" if there is none."""
    from requests.utils import get_netrc_auth  # wandb needs it, Ascent alone does not

    _, key = get_netrc_auth(url) or ("", "")
    return key


def ignored_variables() -> list[str]:
    """Return the names of set variables for wandb that have no effect on a push."""
    return sorted(name for name in os.environ if name.startswith("WANDB_") and name not in HONOURED)


def start(
    words: Sequence[str],
    place: Destination,
    folder: Path,
    log: Path,
    stdin: int | IO[bytes],
    stdout: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start python with these words as a process that runs wandb.

    wandb writes to `folder` only, and the process to `log`, with its output (default of `stdout`: `log`).
    """
    environment = _environment(place, folder.resolve())
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


def _environment(place: Destination, folder: Path) -> dict[str, str]:
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
    variables["WANDB_PROJECT"] = place.project
    if place.entity:
        variables["WANDB_ENTITY"] = place.entity
    if not place.url:
        return variables | {"WANDB_MODE": "offline"}
    return variables | {"WANDB_MODE": "online", "WANDB_BASE_URL": place.url, "WANDB_API_KEY": place.key}
