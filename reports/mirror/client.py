"""The process that runs wandb. Only this module imports wandb, and nothing of Ascent, to start fast.

As a script it reads one job from standard input, as JSON (`push.push` writes it), and answers on standard
output with a line of JSON for every run: its "id", whether it was stored before ("present"), and the "page"
of its project; or, last, an "error". wandb's own output goes to standard error.

wandb reports success even if no upload succeeded. A run counts as sent only once wandb's public API reports
all of its rows, its summary and its files.
"""

import json
import math
import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb

MAX_ROWS = 200_000  # of a table; the limit of W&B
PAGE = 100  # runs per query
WORKERS = 4  # runs at a time; each of them mostly waits


def settings(timeout: float | None = None) -> wandb.Settings:
    """Return settings under which a run holds the record only: nothing of this process, machine or folder.

    With a timeout in seconds, starting and finishing a run raise an error after it, and a failing service is
    given up soon. wandb has no documented setting for the latter: by default it tries for hours.
    """
    limits: dict[str, Any] = {}
    if timeout is not None:
        limits = {"init_timeout": timeout, "finish_timeout": timeout, "finish_timeout_raises": True}
        for channel, most in (("file_stream", 3), ("file_transfer", 3), ("graphql", 1)):
            retries = {"retry_max": most, "retry_wait_min_seconds": 1, "retry_wait_max_seconds": 4}
            limits |= {f"x_{channel}_{name}": value for name, value in retries.items()}
    return wandb.Settings(
        console="off",
        silent=True,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        table_raise_on_max_row_limit_exceeded=True,
        symlink=False,
        **limits,
    )


def begin(payload: dict[str, Any], timeout: float | None = None) -> Any:
    """Start a W&B run, or resume the stored one; without resuming, its rows would be stored twice.

    The environment names the project, WANDB_PROJECT, and its entity.
    """
    run = wandb.init(
        **{name: payload[name] for name in ("id", "name", "group", "job_type", "tags", "config")},
        reinit="create_new",
        dir=os.getcwd(),
        settings=settings(timeout),
        resume=None if os.environ["WANDB_MODE"] == "offline" else "allow",
    )
    run.define_metric("global_step")
    run.define_metric("*", step_metric="global_step")
    return run


def log(run: Any, rows: list[dict[str, Any]]) -> None:
    """Add the rows that the history does not have yet."""
    first = run.step  # of a new row; behind the last one that is sent or stored
    for row in rows:
        if row["global_step"] >= first:
            run.log(row, step=row["global_step"], commit=True)


def send(payload: dict[str, Any], timeout: float) -> dict[str, int]:
    """Hand a whole run to wandb. Return the sizes in bytes of its files, by name."""
    run = begin(payload, timeout)
    log(run, payload["rows"])
    media: dict[str, Any] = {
        name: wandb.Table(columns=columns, data=data, allow_mixed_types=True)
        for name, (columns, data) in payload["tables"].items()
    }
    media |= {name: wandb.Image(path) for name, path in payload["images"].items()}
    if payload["html"]:
        media["report"] = wandb.Html(Path(payload["html"]).read_text(encoding="utf-8"), inject=False)
    if media:
        run.log(media)
    for path in payload["files"]:
        run.save(path, base_path=payload["base"], policy="now")
    run.summary.update(payload["summary"])
    folder = Path(run.dir)
    run.finish()
    names = [path.relative_to(folder).as_posix() for path in (folder / "media").rglob("*") if path.is_file()]
    names += [Path(path).relative_to(payload["base"]).as_posix() for path in payload["files"]]
    return {name: (folder / name).stat().st_size for name in names}


class Project:
    """What W&B stores of the runs of the project, by wandb's public API. Errors are those of wandb."""

    def __init__(self, timeout: float) -> None:
        wandb.setup(settings=settings(timeout))  # the limits hold for the public API, too
        self.api = wandb.Api(timeout=math.ceil(timeout))
        self.lock = threading.Lock()  # `flush` empties the API's only cache

    def runs(self, ids: Sequence[str]) -> dict[str, Any]:
        """Return the stored runs among these ids, by id."""
        found: dict[str, Any] = {}
        for start in range(0, len(ids), PAGE):
            wanted = {"name": {"$in": list(ids[start : start + PAGE])}}
            with self.lock:
                self.api.flush()
                try:
                    page = list(self.api.runs(filters=wanted, per_page=PAGE, lazy=False))
                except ValueError as error:
                    if "Could not find project" not in str(error):
                        raise
                    page = []  # the first run creates it
            found |= {run.id: run for run in page}
        return found

    def wait(self, payload: dict[str, Any], sizes: dict[str, int], deadline: float) -> Any:
        """Return the run once the service, which may store with a delay, has all rows and files of it.

        Raises RuntimeError after `deadline`, a value of time.monotonic(), or once wandb has given up.
        """
        pause = 0.1
        while True:
            run = self.runs([payload["id"]]).get(payload["id"])
            stored = {file.name: file.size for file in run.files(per_page=PAGE)} if run and sizes else {}
            missing = [name for name, size in sizes.items() if stored.get(name) != size]
            if is_complete(payload, run) and not missing:
                return run
            if refusal(payload)[1] or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
        text = f"W&B has {run.historyLineCount if run else 0} of {payload['row_count']} rows"
        if missing:
            text += f" and {len(sizes) - len(missing)} of {len(sizes)} files"
        raise RuntimeError(text)


def is_complete(payload: dict[str, Any], run: Any) -> bool:
    """Return whether a stored run is the whole one; the digest reaches the summary last."""
    if run is None or run.state != "finished":
        return False
    count = run.historyLineCount
    # A second attempt at a report stores its single row twice.
    rows = count == payload["row_count"] if payload["rows"] else bool(count)
    return rows and all(run.summary_metrics.get(key) == value for key, value in payload["summary"].items())


def refuse_other(payload: dict[str, Any], run: Any, known: str | None) -> None:
    """Raise RuntimeError if another result is stored under the id of a run, or if the run was deleted."""
    named = f"{payload['name']} ({payload['id']})"
    digest = payload["summary"]["digest"]
    if run is None and known:
        raise RuntimeError(
            f"{named} was pushed before but is no longer in {os.environ['WANDB_PROJECT']}. W&B does not "
            "accept a deleted run again: push to another project. If W&B has lost the run, delete "
            "pushed.json in the folder --out"
        )
    stored = run.summary_metrics.get("digest") if run else None
    if stored not in (None, digest):
        raise RuntimeError(
            f"{named}: W&B has another result under this id, with digest {stored}, not {digest}: push to "
            "another project"
        )
    if run and payload["rows"] and run.historyLineCount > payload["row_count"]:
        count = f"{run.historyLineCount} rows, the record only {payload['row_count']}"
        raise RuntimeError(f"{named}: W&B has {count}")


def refusal(payload: dict[str, Any]) -> tuple[str, bool]:
    """Return the last failed upload of a run, like "HTTP 500 from /files/...", and whether wandb gave up.

    The public API does not tell: wandb writes failed uploads of rows and files to its log alone.
    """
    failure, given_up = "", False
    for path in sorted(Path("wandb").glob(f"*run-*-{payload['id']}/logs/debug-internal.log"))[-1:]:
        for line in path.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                entry: dict[str, Any] = json.loads(line)
                given_up |= entry.get("level", "").startswith("ERROR")
                if isinstance(entry.get("status"), int) and entry["status"] >= 400:
                    address = "/" + entry.get("url", "").partition("://")[2].partition("/")[2]
                    failure = f"HTTP {entry['status']} from {address}"
                elif "unexpected HTTP status" in entry.get("msg", ""):
                    failure = "HTTP" + entry["msg"].partition("unexpected HTTP status")[2].splitlines()[0]
    return failure, given_up


def push(job: dict[str, Any], answer: Any) -> None:
    """Send the runs of a job that the service lacks. Raises RuntimeError at the first that fails."""
    payloads, known = job["payloads"], job["known"]
    project, stored = None, {}
    if os.environ["WANDB_MODE"] == "online":
        try:
            project = Project(job["timeout"])
            stored = project.runs([payload["id"] for payload in payloads])
        except Exception as error:  # wandb raises many types
            raise RuntimeError(f"W&B at {os.environ['WANDB_BASE_URL']}: {_one_line(error)}") from error
    missing = []
    for payload in payloads:
        run, before = stored.get(payload["id"]), known.get(payload["id"])
        if project:
            refuse_other(payload, run, before)
        if is_complete(payload, run) if project else before == payload["summary"]["digest"]:
            answer(id=payload["id"], present=True, page=_page(run))
        else:
            missing.append(payload)

    pool = ThreadPoolExecutor(WORKERS)  # not waited for after an error
    futures = {pool.submit(deliver, payload, project, job["timeout"]): payload for payload in missing}
    for future in as_completed(futures):
        answer(id=futures[future]["id"], present=False, page=_page(future.result()))


def deliver(payload: dict[str, Any], project: Project | None, timeout: float) -> Any:
    """Send a run, and return it as it is stored; None if it is offline. Raises RuntimeError if it fails."""
    deadline = time.monotonic() + timeout
    run = None
    try:
        sizes = send(payload, timeout)
        if project:
            run = project.wait(payload, sizes, deadline)
    except Exception as error:  # of any kind: a run that is not acknowledged has failed
        late = f"the upload did not finish within {timeout:g} s"
        text = late if isinstance(error, TimeoutError) else _one_line(error)
        reason = refusal(payload)[0]
        cause = f" ({reason})" if reason else ""
        raise RuntimeError(f"{payload['name']} ({payload['id']}): {text}{cause}") from error
    for copy in Path("wandb").glob(f"run-*-{payload['id']}"):  # local copies, no longer needed
        shutil.rmtree(copy, ignore_errors=True)
    return run


def _page(run: Any) -> str:
    """Return the address of the project of a stored run, for a browser."""
    return run.url.partition("/runs/")[0] if run else ""


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, RuntimeError) else f"{type(error).__name__}: {text}"


def main() -> None:
    """Do the job on standard input."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep other output off the answers
    wandb.Table.MAX_ROWS = MAX_ROWS

    def answer(**content: Any) -> None:
        print(json.dumps(content), file=answers, flush=True)

    try:
        push(json.load(sys.stdin), answer)
    except Exception as error:  # the parent process reports it
        answer(error=_one_line(error))
        os._exit(1)  # without waiting for the other runs
    wandb.teardown()


if __name__ == "__main__":
    main()
