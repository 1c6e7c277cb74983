"""A process that hands runs to W&B's own client. Only this imports wandb, and it imports nothing of ours.

First it says wandb's version. Then it reads one `mirrored.Mirrored` per line of standard input, as JSON, its
tables as [columns, rows], and answers each with a line on standard output: {"id", "error"} and, without one,
"files": the names and sizes of what was uploaded beside the history. What wandb itself has to say goes to
standard error. An answer does not mean that the service has anything: the client says that it is finished
even where nothing was uploaded.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import wandb

ROWS = 200_000  # of a table, as many as W&B takes


def settings(patient: bool = False) -> wandb.Settings:
    """The run is what the record says and nothing else: nothing of this process, machine or folder.

    Not `patient`, the client soon gives up on a service that fails.
    """
    options: dict[str, Any] = {} if patient else {
        f"x_{channel}_{name}": value
        for channel in ("file_stream", "file_transfer", "graphql")
        for name, value in {"retry_max": 3, "retry_wait_min_seconds": 1, "retry_wait_max_seconds": 4}.items()
    }  # fmt: skip
    return wandb.Settings(
        console="off", silent=True, disable_code=True, disable_git=True, disable_job_creation=True,
        save_code=False, x_disable_meta=True, x_disable_stats=True, x_disable_machine_info=True,
        x_save_requirements=False, table_raise_on_max_row_limit_exceeded=True,
        symlink=False, **options,
    )  # fmt: skip


def begin(mirrored: dict[str, Any], project: str, entity: str | None, patient: bool = False) -> Any:
    """Start a run of W&B, or go on with the one that is there: not resumed, its rows would be there twice."""
    run = wandb.init(
        **{name: mirrored[name] for name in ("id", "name", "group", "job_type", "tags", "config")},
        project=project, entity=entity, reinit="create_new", settings=settings(patient),
        resume=None if os.environ["WANDB_MODE"] == "offline" else "allow",
    )  # fmt: skip
    run.define_metric("global_step")
    run.define_metric("*", step_metric="global_step")
    return run


def log(run: Any, rows: list[dict[str, Any]]) -> None:
    """Add those rows to the history that it does not have."""
    for row in rows:
        if row["global_step"] >= run.starting_step:
            run.log(row, step=row["global_step"], commit=True)


def send(mirrored: dict[str, Any], project: str, entity: str | None) -> list[list[Any]]:
    """Hand over a whole run; returns [name, bytes] of its files."""
    run = begin(mirrored, project, entity)
    log(run, mirrored["rows"])
    media: dict[str, Any] = {
        name: wandb.Table(columns=columns, data=data, allow_mixed_types=True)
        for name, (columns, data) in mirrored["tables"].items()
    }
    media |= {name: wandb.Image(path) for name, path in mirrored["images"].items()}
    if mirrored["html"]:
        media["report"] = wandb.Html(Path(mirrored["html"]).read_text(encoding="utf-8"), inject=False)
    if media:
        run.log(media)
    for path in mirrored["files"]:
        run.save(path, base_path=mirrored["base"], policy="now")
    run.summary.update(mirrored["summary"])
    folder = Path(run.dir)
    run.finish()
    names = [path.relative_to(folder).as_posix() for path in (folder / "media").rglob("*") if path.is_file()]
    names += [Path(path).relative_to(mirrored["base"]).as_posix() for path in mirrored["files"]]
    return [[name, (folder / name).stat().st_size] for name in names]


def main() -> None:
    project, entity = sys.argv[1], sys.argv[2] or None
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints
    wandb.Table.MAX_ROWS = ROWS
    print(wandb.__version__, file=answers, flush=True)  # it has started
    for line in sys.stdin:
        mirrored = json.loads(line)
        try:
            answer = {"id": mirrored["id"], "error": None, "files": send(mirrored, project, entity)}
        except Exception as error:  # of wandb's many kinds; the parent says it and stops
            answer = {"id": mirrored["id"], "error": " ".join(f"{type(error).__name__}: {error}".split())}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
