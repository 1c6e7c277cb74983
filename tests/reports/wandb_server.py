"""A small stand-in for a W&B server on 127.0.0.1.

It was written from what wandb 0.31's own client (wandb-core) was seen to send for plain scripts that log
numbers, tables, images, HTML and files, and from the queries of its public API; it knows nothing of ours.

    POST /graphql                                     the operations that have a method in `_Answers`
    POST /files/<entity>/<project>/<run>/file_stream  lines of history, summary, events, output
    PUT  /upload/...                                  files, to the addresses that GraphQL gave out

What it stores can be looked at in `runs` and `artifacts`; `requests` has every request in order. `fail` makes
answers of one kind an HTTP error, or makes them never come.

As a script, `python -m tests.reports.wandb_server PORT` serves, and prints what it is asked, until it is
stopped.
"""

import base64
import gzip
import json
import re
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, unquote

ENTITY = "team"
KEY = "0123456789abcdef0123456789abcdef01234567"
HANG = "hang"  # in `fail`, in place of a status


@dataclass
class StoredRun:
    """A run as the service keeps it. `streams`: lines of each streamed file, by offset."""

    id: str
    project: str
    config: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    group: str | None = None
    job_type: str | None = None
    display_name: str | None = None
    state: str = "running"
    streams: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        lines = self.streams.get("wandb-history.jsonl", {})
        return [json.loads(lines[offset]) for offset in sorted(lines)]

    @property
    def summary(self) -> dict[str, Any]:
        lines = self.streams.get("wandb-summary.json", {})
        return json.loads(lines[max(lines)]) if lines else {}


@dataclass
class StoredArtifact:
    """An artifact with the files that were uploaded for it."""

    id: str
    run: str
    name: str
    kind: str
    state: str = "PENDING"
    files: dict[str, bytes] = field(default_factory=dict)


class StandIn:
    """The server; `with StandIn() as server:` serves it in threads at `server.url`."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[tuple[str, str], StoredRun] = {}  # by project and id
        self.artifacts: dict[str, StoredArtifact] = {}
        self.requests: list[tuple[str, Any]] = []  # (operation or path, body)
        self.fail: dict[
            str, int | str
        ] = {}  # "graphql", an operation, "file_stream" or "upload" -> status, HANG
        self.lost: set[str] = set()  # files whose upload is acknowledged, and that are not there afterwards
        self.lock = threading.RLock()
        self.stopping = threading.Event()
        self.http = _Server(("127.0.0.1", port), type("Handler", (_Handler,), {"stand_in": self}))
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def __enter__(self) -> "StandIn":
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.http.shutdown()
        self.http.server_close()

    def state(self) -> str:
        """Everything that is stored, as text: two equal states are the same state."""
        with self.lock:
            return repr((self.runs, self.artifacts))

    def operations(self) -> list[str]:
        return [name for name, _ in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that was killed
            super().handle_error(*_)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stand_in: StandIn

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        server = self.stand_in
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        kind, name, body = self._kind(data)
        with server.lock:
            server.requests.append((name, body))
            failure = server.fail.get(name, server.fail.get(kind))
        if failure == HANG:
            server.stopping.wait()
            return
        if failure is not None:
            self._answer(int(failure), {"error": f"made to fail with {failure}"})
        elif kind in ("graphql", "file_stream") and not self._authorised():
            self._answer(401, {"error": "user is not logged in"})
        else:
            with server.lock:
                status, answer = self._act(kind, name, body, data)
            self._answer(status, answer)

    def _kind(self, data: bytes) -> tuple[str, str, Any]:
        path = unquote(self.path)
        if path == "/graphql":
            body = json.loads(data)
            named = re.search(r"(?:query|mutation)\s+(\w+)", body["query"])
            return "graphql", named[1] if named else "", body
        if path.endswith("/file_stream"):
            return "file_stream", path, json.loads(data)
        return ("upload" if path.startswith("/upload/") else "other"), path, None

    def _authorised(self) -> bool:
        word = base64.b64encode(f"api:{KEY}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {word}"

    def _act(self, kind: str, name: str, body: Any, data: bytes) -> tuple[int, Any]:
        server = self.stand_in
        if kind == "graphql":
            answers = _Answers(server)
            if not hasattr(answers, name):
                return 400, {"errors": [{"message": f"this stand-in does not know {name}"}]}
            return getattr(answers, name)(**(body.get("variables") or {}))
        if kind == "file_stream":
            return _stream(server, name, body)
        if kind == "upload":
            _, _, owner, project, key, file = name.split("/", 5)
            stored = server.runs[project, key] if owner == "run" else server.artifacts[key]
            if file not in server.lost:
                stored.files[file] = data
            return 200, {}
        return 200, {}  # telemetry

    def _answer(self, status: int, answer: Any) -> None:
        data = json.dumps(answer).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # the client has gone


def _stream(server: StandIn, path: str, body: dict[str, Any]) -> tuple[int, Any]:
    run = server.runs.get(tuple(path.split("/")[3:5]))
    if run is None:
        return 404, {"error": "run not found"}
    for name, chunk in (body.get("files") or {}).items():
        lines = run.streams.setdefault(name, {})
        if name == "wandb-summary.json":
            lines.clear()  # always the whole of it
        lines.update(enumerate(chunk["content"], start=chunk["offset"]))
    if body.get("complete"):
        run.exit_code = body.get("exitcode")
        run.state = "finished" if run.exit_code == 0 else "failed"
    return 200, {"exitcode": None, "limits": {}}


class _Answers:
    """One method for each GraphQL operation: variables in, (status, answer) out."""

    def __init__(self, server: StandIn) -> None:
        self.server = server

    def Viewer(self) -> tuple[int, Any]:
        viewer = {"id": "VXNlcjox", "entity": ENTITY, "username": "somebody", "email": "", "flags": "{}"}
        return _data(viewer=viewer | {"teams": {"edges": [{"node": {"name": ENTITY}}]}})

    GetDefaultEntity = Viewer

    def ServerFeaturesQuery(self) -> tuple[int, Any]:
        return _data(serverInfo={"features": []})

    def OrganizationCoreWeaveOrganizationID(self, entityName: str) -> tuple[int, Any]:
        return _data(entity={"organization": {"coreWeaveOrganizationId": None}})

    def XXHashDigestsEnabled(self, entityName: str) -> tuple[int, Any]:
        return _data(entity={"xxhashDigestsEnabled": False})

    def RunResumeStatus(self, project: str, entity: str | None, name: str) -> tuple[int, Any]:
        run = self.server.runs.get((project, name))
        model = {"id": "UHJv", "name": project, "entity": {"id": "RW50", "name": ENTITY}, "bucket": None}
        if run is not None:
            lines = {file: run.streams.get(f"wandb-{file}.jsonl", {}) for file in ("history", "events")}
            model["bucket"] = self._run(run) | {
                "logLineCount": len(run.streams.get("output.log", {})),
                "eventsLineCount": len(lines["events"]),
                "historyTail": _tail(lines["history"]),
                "eventsTail": _tail(lines["events"]),
                "wandbConfig": json.dumps({"t": run.config.get("_wandb", {}).get("value", {}).get("t", {})}),
            }
        return _data(model=model)

    def UpsertBucket(self, **given: Any) -> tuple[int, Any]:
        project, name = given["project"], given["name"]
        run = self.server.runs.get((project, name))
        inserted = run is None
        if run is None:
            run = self.server.runs[project, name] = StoredRun(name, project)
        if given.get("config") is not None:
            run.config = json.loads(given["config"])
        for attribute, key in {
            "tags": "tags", "group": "groupName", "job_type": "jobType", "display_name": "displayName",
        }.items():  # fmt: skip
            if given.get(key) is not None:
                setattr(run, attribute, given[key])
        if given.get("state"):
            run.state = given["state"]
        bucket = self._run(run) | {"description": None, "sweepName": None}
        bucket["project"] = {"id": "UHJv", "name": run.project, "entity": {"id": "RW50", "name": ENTITY}}
        return _data(upsertBucket={"bucket": bucket, "inserted": inserted})

    def CreateRunFiles(self, entity: str, project: str, run: str, files: list[str]) -> tuple[int, Any]:
        start = f"{self.server.url}/upload/run/{project}/{run}"
        urls = [{"name": f, "uploadUrl": f"{start}/{quote(f)}"} for f in files]
        return _data(createRunFiles={"runID": run, "uploadHeaders": [], "files": urls})

    def MarkRunFilesUploaded(self, **_: Any) -> tuple[int, Any]:
        return _data(markRunFilesUploaded={"success": True})

    # ---- what the public API asks

    def Runs(self, project: str, entity: str, filters: str = "{}", **_: Any) -> tuple[int, Any]:
        wanted = json.loads(filters).get("name", {}).get("$in")
        runs = [
            r for r in self.server.runs.values() if r.project == project and (not wanted or r.id in wanted)
        ]
        if not any(run.project == project for run in self.server.runs.values()):
            return _data(project=None)
        edges = [{"node": self._run(run), "cursor": run.id} for run in runs]
        page = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return _data(project={"internalId": "1", "runCount": len(runs), "readOnly": False, "runs": page})

    def RunFiles(self, project: str, entity: str, name: str, **_: Any) -> tuple[int, Any]:
        run = self.server.runs.get((project, name))
        if run is None:
            return _data(project={"internalId": "1", "run": None})
        start = f"{self.server.url}/upload/run/{project}/{name}"
        nodes = [
            {"id": file, "name": file, "sizeBytes": len(content), "md5": "", "mimetype": "",
             "updatedAt": None, "directUrl": "", "url": f"{start}/{file}"}
            for file, content in run.files.items()
        ]  # fmt: skip
        edges = [{"node": node, "cursor": node["name"]} for node in nodes]
        files = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return _data(project={"internalId": "1", "run": {"fileCount": len(nodes), "files": files}})

    def _run(self, run: StoredRun) -> dict[str, Any]:
        return {
            "id": f"run-{run.id}", "name": run.id, "displayName": run.display_name, "state": run.state,
            "config": json.dumps(run.config), "summaryMetrics": json.dumps(run.summary), "tags": run.tags,
            "group": run.group, "jobType": run.job_type, "notes": None, "description": None,
            "sweepName": None, "historyLineCount": len(run.history), "projectId": "1", "commit": None,
            "readOnly": False, "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00",
            "systemMetrics": "{}", "user": {"name": "somebody", "username": "somebody"}, "historyKeys": None,
        }  # fmt: skip

    # ---- artifacts: a logged table is one

    def ArtifactType(self, entity: str | None, project: str, name: str) -> tuple[int, Any]:
        found = [a for a in self.server.artifacts.values() if a.name == name.partition(":")[0]]
        kind = {"artifactType": {"name": found[0].kind}} if found else None
        return _data(project={"artifact": kind})

    def FetchArtifactDigestAlgorithm(self, **_: Any) -> tuple[int, Any]:
        return _data(project={"artifactType": None})

    def ClientIDMapping(self, clientID: str) -> tuple[int, Any]:
        return _data(clientIDMapping=None)

    def CreateArtifact(self, input: dict[str, Any]) -> tuple[int, Any]:
        found = [a for a in self.server.artifacts.values() if a.name == input["artifactCollectionName"]]
        if found:
            artifact = found[0]
        else:
            names = (input["artifactCollectionName"], input["artifactTypeName"])
            artifact = StoredArtifact(f"artifact-{len(self.server.artifacts)}", input.get("runName"), *names)
            self.server.artifacts[artifact.id] = artifact
        sequence = {"latestArtifact": {"id": artifact.id} if artifact.state == "COMMITTED" else None}
        answer = {"id": artifact.id, "state": artifact.state, "artifactSequence": sequence}
        return _data(createArtifact={"artifact": answer})

    def CreateArtifactManifest(self, artifactID: str, name: str, **_: Any) -> tuple[int, Any]:
        file = {
            "id": f"{artifactID}-{name}",
            "uploadUrl": self._address(artifactID, name),
            "uploadHeaders": [],
        }
        return _data(createArtifactManifest={"artifactManifest": {"id": artifactID, "file": file}})

    def UpdateArtifactManifest(self, artifactManifestID: str, **_: Any) -> tuple[int, Any]:
        name = "wandb_manifest.json"
        file = {"id": name, "uploadUrl": self._address(artifactManifestID, name), "uploadHeaders": []}
        return _data(updateArtifactManifest={"artifactManifest": {"id": artifactManifestID, "file": file}})

    def CreateArtifactFiles(self, input: dict[str, Any]) -> tuple[int, Any]:
        edges = [
            {"node": {"storagePath": f["name"], "uploadUrl": self._address(f["artifactID"], f["name"]),
                      "uploadHeaders": [], "uploadMultipartUrls": None, "artifact": {"id": f["artifactID"]}}}
            for f in input["artifactFiles"]
        ]  # fmt: skip
        return _data(createArtifactFiles={"files": {"edges": edges}})

    def CommitArtifact(self, artifactID: str) -> tuple[int, Any]:
        self.server.artifacts[artifactID].state = "COMMITTED"
        return _data(commitArtifact={"artifact": {"id": artifactID, "digest": ""}})

    def UseArtifact(self, input: dict[str, Any]) -> tuple[int, Any]:
        return _data(useArtifact={"artifact": {"id": input["artifactID"]}})

    def _address(self, artifact: str, name: str) -> str:
        return f"{self.server.url}/upload/artifact/any/{artifact}/{quote(name)}"


def _data(**answer: Any) -> tuple[int, Any]:
    return 200, {"data": answer}


def _tail(lines: dict[int, str]) -> str:
    return json.dumps([lines[max(lines)]] if lines else [])


if __name__ == "__main__":
    with StandIn(int(sys.argv[1])) as standing:
        shown = 0
        while not standing.stopping.wait(0.2):
            for name, body in standing.requests[shown:]:
                print(name, json.dumps(body), flush=True)
                shown += 1
