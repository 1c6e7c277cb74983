"""A W&B service as `push` and `live` see it: where it is, who asks, and what it says that it has.

Its GraphQL queries are those of wandb's public API (`Runs`, `RunFiles`), with fewer fields.
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
PAGE = 100
_RETRIED = (429, 500, 502, 503, 504)

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
    """The service did not answer, or not as it should: one line."""


@dataclass(frozen=True)
class Stored:
    """What the service has of a run."""

    state: str
    rows: int
    summary: dict[str, Any]


@dataclass(frozen=True)
class Service:
    """Where runs go, and as whom. `entity` is None for the one that the API key belongs to."""

    url: str
    key: str
    project: str
    entity: str | None

    @property
    def page(self) -> str:
        """The project's address for a browser."""
        host = "https://wandb.ai" if self.url == "https://api.wandb.ai" else self.url
        return f"{host}/{self.entity}/{self.project}"

    def known(self, deadline: float) -> "Service":
        """The same with its entity. Raises ServiceError where the API key is not accepted."""
        viewer = self._ask(_VIEWER, deadline).get("viewer")
        if not viewer:
            raise ServiceError(f"W&B at {self.url} does not accept the API key (WANDB_API_KEY)")
        return replace(self, entity=self.entity or viewer["entity"])

    def runs(self, ids: Sequence[str], deadline: float) -> dict[str, Stored]:
        """Which of these runs there are. `deadline`: of time.monotonic()."""
        found = {}
        for start in range(0, len(ids), PAGE):
            names = json.dumps({"name": {"$in": list(ids[start : start + PAGE])}})
            data = self._ask(_RUNS, deadline, **self._names, filters=names, perPage=PAGE)
            for edge in ((data.get("project") or {}).get("runs") or {}).get("edges", []):
                node = edge["node"]
                summary = json.loads(node["summaryMetrics"] or "{}")
                found[node["name"]] = Stored(node["state"], node["historyLineCount"] or 0, summary)
        return found

    def files(self, name: str, deadline: float) -> dict[str, int]:
        """Names and sizes of a run's files."""
        found: dict[str, int] = {}
        cursor = None
        while True:
            data = self._ask(_FILES, deadline, **self._names, name=name, fileCursor=cursor, fileLimit=PAGE)
            run = (data.get("project") or {}).get("run")
            if run is None:
                return found
            nodes = [edge["node"] for edge in run["files"]["edges"]]
            found |= {node["name"]: int(node["sizeBytes"]) for node in nodes}
            if not run["files"]["pageInfo"]["hasNextPage"]:
                return found
            cursor = run["files"]["pageInfo"]["endCursor"]

    @property
    def _names(self) -> dict[str, str | None]:
        return {"project": self.project, "entity": self.entity}

    def _ask(self, query: str, deadline: float, **variables: Any) -> dict[str, Any]:
        """The `data` of an answer. What may pass is asked again until `deadline`."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        word = base64.b64encode(f"api:{self.key}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {word}"}
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
                late = isinstance(reason, TimeoutError)
                said = "no answer in time" if late else getattr(reason, "strerror", None) or str(reason)
                raise ServiceError(f"W&B at {self.url}: {said}") from error
            time.sleep(pause)
            pause *= 2
        if not isinstance(content, dict) or content.get("errors"):
            raise ServiceError(f"W&B at {self.url}: {_message(content)}")
        return content.get("data") or {}


def _status(code: int) -> str:
    known = {
        401: "401: the API key (WANDB_API_KEY) is not accepted",
        403: "403: the API key (WANDB_API_KEY) may not do this",
        404: "404: there is no W&B service",
        429: "429: too many requests",
    }
    return known.get(code, str(code))


def _message(content: Any) -> str:
    try:
        return " ".join(str(content["errors"][0]["message"]).split())
    except (TypeError, KeyError, IndexError):
        return "an answer that is none"


def find(
    project: str | None, entity: str | None, environment: Mapping[str, str], option: str = "--project"
) -> Service:
    """The service that the options and the environment name; `option` is what names a project.

    Raises InputError without project or API key.
    """
    url = environment.get("WANDB_BASE_URL", "https://api.wandb.ai").rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise InputError(f"WANDB_BASE_URL: {url!r} must begin with https:// or http://")
    project = project or environment.get("WANDB_PROJECT")
    if not project:
        raise InputError(f"W&B needs a project: give {option} NAME, or set WANDB_PROJECT")
    key = environment.get("WANDB_API_KEY") or _netrc_key(url, environment)
    if not key:
        raise InputError(
            f"no API key for W&B at {url}: set WANDB_API_KEY (from {url.replace('api.', '', 1)}/authorize); "
            "`ascent wandb push --offline` needs none"
        )
    return Service(url, key, project, entity or environment.get("WANDB_ENTITY") or None)


def _netrc_key(url: str, environment: Mapping[str, str]) -> str | None:
    """The key that `wandb login` has left."""
    path = Path(environment.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(path).authenticators(urlsplit(url).hostname or "")
    except (OSError, netrc.NetrcParseError):
        return None
    return found[2] if found else None


def environment_of(service: Service | None, folder: Path) -> dict[str, str]:
    """The environment of a process that runs wandb: nothing of it outside `folder`, none of the user's
    variables that would change a run. Without a service it is offline.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    names = ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR")
    folder = folder.resolve()
    inside = {"WANDB_DIR": folder} | {name: folder / name.split("_")[1].lower() for name in names[1:]}
    inside["TMPDIR"] = folder / "tmp"
    for path in inside.values():
        path.mkdir(parents=True, exist_ok=True)  # wandb takes another place for one that is not there
    kept |= {name: str(path) for name, path in inside.items()}
    kept["WANDB_ERROR_REPORTING"] = "false"  # it would go to another server
    if service is None:
        return kept | {"WANDB_MODE": "offline"}
    return kept | {"WANDB_MODE": "online", "WANDB_BASE_URL": service.url, "WANDB_API_KEY": service.key}


def ignored(environment: Mapping[str, str]) -> list[str]:
    """Variables for wandb that count for nothing here."""
    return sorted(name for name in environment if name.startswith("WANDB_") and name not in HONOURED)
