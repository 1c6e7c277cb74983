"""A process that hands runs to the wandb library. Only this module imports wandb, and nothing of Ascent.

It first prints the version of wandb. Then it reads one `payload.Payload` per line of standard input, as JSON,
and answers each with one line of JSON on standard output: "id", "error" and, unless there was an error,
"files": the names and sizes of the files uploaded besides the history.
wandb's own output goes to standard error. An answer does not prove that the service stored anything: wandb
reports success even if no upload succeeded.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import wandb

MAX_ROWS = 200_000  # of a table; the limit of W&B


def settings(patient: bool = False) -> wandb.Settings:
    """Return settings under which a run holds the record only: nothing of this process, machine or folder.

    Unless `patient`, the client soon gives up on a failing service.
    """
    retries: dict[str, Any] = {
        f"x_{channel}_{name}": value
        for channel in ("file_stream", "file_transfer", "graphql")
        for name, value in {"retry_max": 3, "retry_wait_min_seconds": 1, "retry_wait_max_seconds": 4}.items()
    }
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
        **({} if patient else retries),
    )


def begin(payload: dict[str, Any], project: str, entity: str | None, patient: bool = False) -> Any:
    """Start a W&B run, or resume the stored one; without resuming, its rows would be stored twice."""
    run = wandb.init(
        **{name: payload[name] for name in ("id", "name", "group", "job_type", "tags", "config")},
        project=project,
        entity=entity,
        reinit="create_new",
        settings=settings(patient),
        resume=None if os.environ["WANDB_MODE"] == "offline" else "allow",
    )
    run.define_metric("global_step")
    run.define_metric("*", step_metric="global_step")
    return run


def log(run: Any, rows: list[dict[str, Any]]) -> None:
    """Add the rows that the history does not have yet."""
    for row in rows:
        if row["global_step"] >= run.starting_step:
            run.log(row, step=row["global_step"], commit=True)


def send(payload: dict[str, Any], project: str, entity: str | None) -> list[list[Any]]:
    """Hand a whole run to wandb. Return [name, bytes] of each of its files."""
    run = begin(payload, project, entity)
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
    return [[name, (folder / name).stat().st_size] for name in names]


def main() -> None:
    """Send every payload on standard input to the project and entity named by the arguments."""
    project, entity = sys.argv[1], sys.argv[2] or None
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # keep other output off the answers
    wandb.Table.MAX_ROWS = MAX_ROWS
    print(wandb.__version__, file=answers, flush=True)  # signals the start
    for line in sys.stdin:
        payload = json.loads(line)
        try:
            answer = {"id": payload["id"], "error": None, "files": send(payload, project, entity)}
        except Exception as error:  # wandb raises many types; the parent process reports it
            answer = {"id": payload["id"], "error": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
