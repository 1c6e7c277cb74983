"""Find a W&B service, and query which runs, rows and files it stores.

The GraphQL queries are those of wandb's public API (`Runs`, `RunFiles`), with fewer fields.
"""

import base64
import json
import netrc
import os
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ascent.records.errors import InputError

HONOURED = ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_ENTITY", "WANDB_PROJECT")
PAGE = 100  # entries per query
_RETRIED = (429, 500, 502, 503, 504)  # HTTP statuses that may pass

_VIEWER = "query Viewer { viewer { id entity username } }"
_RUNS = """query Runs(
    $project: String!, $entity: String!, $cursor: String, $perPage: Int = 50, $filters: JSONString
) {
    project(name: $project, entityName: $entity) {
        runs(filters: $filters, after: $cursor, first: $perPage) {
            edges { node { name state historyLineCount summaryMetrics } cursor }
            pageInfo { endCursor hasNextPage }
        }
    }
}"""
_FILES = """query RunFiles(
    $project: String!, $entity: String!, $name: String!, $fileCursor: String, $fileLimit: Int = 50
) {
    project(name: $project, entityName: $entity) {
        run(name: $name) {
            files(after: $fileCursor, first: $fileLimit) {
                edges { node { name sizeBytes } cursor }
                pageInfo { endCursor hasNextPage }
            }
        }
    }
}"""


class ServiceError(InputError):
    """The service did not answer, or answered with an error; the message is one line."""


@dataclass(frozen=True)
class Stored:
    """The part of a run that the service stores."""

    state: str
    rows: int
    summary: dict[str, Any]


@dataclass(frozen=True)
class Service:
    """A destination for runs. `entity` None means the default entity of the API key."""

    url: str
    key: str
    project: str
    entity: str | None

    @property
    def page(self) -> str:
        """Address of the project for a browser."""
        host = "https://wandb.ai" if self.url == "https://api.wandb.ai" else self.url
        return f"{host}/{self.entity}/{self.project}"

    def with_entity(self, deadline: float) -> "Service":
        """Return this service with its entity resolved.

        `deadline` is a value of time.monotonic(). Raises ServiceError if the API key is rejected.
        """
        viewer = self._ask(_VIEWER, deadline).get("viewer")
        if not viewer:
            raise ServiceError(f"W&B at {self.url} rejects the API key (WANDB_API_KEY)")
        return replace(self, entity=self.entity or viewer["entity"])

    def runs(self, ids: Sequence[str], deadline: float) -> dict[str, Stored]:
        """Return the stored runs among these ids, by id. `deadline` is a value of time.monotonic()."""
        stored = {}
        for start in range(0, len(ids), PAGE):
            names = json.dumps({"name": {"$in": list(ids[start : start + PAGE])}})
            data = self._ask(_RUNS, deadline, **self._names, filters=names, perPage=PAGE)
            for edge in ((data.get("project") or {}).get("runs") or {}).get("edges", []):
                node = edge["node"]
                summary = json.loads(node["summaryMetrics"] or "{}")
                stored[node["name"]] = Stored(node["state"], node["historyLineCount"] or 0, summary)
        return stored

    def files(self, name: str, deadline: float) -> dict[str, int]:
        """Return the sizes in bytes of a run's stored files, by name."""
        sizes: dict[str, int] = {}
        cursor = None
        while True:
            data = self._ask(_FILES, deadline, **self._names, name=name, fileCursor=cursor, fileLimit=PAGE)
            run = (data.get("project") or {}).get("run")
            if run is None:
                return sizes
            nodes = [edge["node"] for edge in run["files"]["edges"]]
            sizes |= {node["name"]: int(node["sizeBytes"]) for node in nodes}
            if not run["files"]["pageInfo"]["hasNextPage"]:
                return sizes
            cursor = run["files"]["pageInfo"]["endCursor"]

    @property
    def _names(self) -> dict[str, str | None]:
        return {"project": self.project, "entity": self.entity}

    def _ask(self, query: str, deadline: float, **variables: Any) -> dict[str, Any]:
        """Return the `data` of the answer to a query. Temporary failures are retried until `deadline`."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        credentials = base64.b64encode(f"api:{self.key}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
        request = urllib.request.Request(f"{self.url}/graphql", body, headers)
        pause = 0.5
        while True:
            left = deadline - time.monotonic()
            try:
                with urllib.request.urlopen(request, timeout=max(left, 0.1)) as answer:
                    content = json.loads(answer.read())
                break
            except urllib.error.HTTPError as error:
                if error.code not in _RETRIED or left < pause:
                    raise ServiceError(f"W&B at {self.url}: HTTP {_status(error.code)}") from error
            except (OSError, HTTPException, ValueError) as error:
                reason = getattr(error, "reason", error)
                timed_out = isinstance(reason, TimeoutError)
                text = "no answer in time" if timed_out else getattr(reason, "strerror", None) or str(reason)
                raise ServiceError(f"W&B at {self.url}: {text}") from error
            time.sleep(pause)
            pause *= 2
        if not isinstance(content, dict) or content.get("errors"):
            raise ServiceError(f"W&B at {self.url}: {_message(content)}")
        return content.get("data") or {}


def _status(code: int) -> str:
    known = {
        401: "401: the API key (WANDB_API_KEY) is rejected",
        403: "403: the API key (WANDB_API_KEY) lacks permission",
        404: "404: no W&B service at this address",
        429: "429: too many requests",
    }
    return known.get(code, str(code))


def _message(content: Any) -> str:
    try:
        return " ".join(str(content["errors"][0]["message"]).split())
    except (TypeError, KeyError, IndexError):
        return "unreadable response"


def find_service(
    project: str | None, entity: str | None, environment: Mapping[str, str], option: str = "--project"
) -> Service:
    """Return the service that the arguments and environment variables name.

    `option` is the command-line option for the project, for error messages. Raises InputError without a
    project or an API key, or for an invalid address.
    """
    url = environment.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"WANDB_BASE_URL: {url!r} must start with https:// or http://")
    project = project or environment.get("WANDB_PROJECT")
    if not project:
        raise InputError(f"W&B needs a project: give {option} NAME, or set WANDB_PROJECT")
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


def client_environment(service: Service | None, folder: Path) -> dict[str, str]:
    """Return the environment variables of a process that runs wandb; offline without a service.

    wandb writes to `folder` only. The user's variables for wandb, which could change a run, are removed.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    folder = folder.resolve()
    folders = {
        "WANDB_DIR": folder,
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


def ignored_variables(environment: Mapping[str, str]) -> list[str]:
    """Return the names of set variables for wandb that have no effect on a push."""
    return sorted(name for name in environment if name.startswith("WANDB_") and name not in HONOURED)
