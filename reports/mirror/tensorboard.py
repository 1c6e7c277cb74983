"""Write the curves of runs as event files of TensorBoard: a folder per run, made from the records alone.

    <out>/<task>/<cell>/seed-<k>/events.out.tfevents.0.ascent

| tag | from |
|---|---|
| eval/return, eval/length, eval/<measure> | means of the greedy policy's episodes of an evaluation |
| eval_sampled/... | the same of the sampled policy, at the end |
| train/return, train/length, train/<measure> | a training episode, at the step at which it ended |
| metrics/<name> | means of an update's metrics since the evaluation before |
| measures/<name> | what was measured at an evaluation |

Records have no times of evaluations: every event has the time 0, and the same records give the same bytes. Of
a running run, the files hold what is recorded so far; written again, they are replaced.
"""

import io
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ascent.records import files, layout
from ascent.records.errors import InputError
from ascent.records.store import Store
from ascent.reports.so_far import Point, evaluations, means, rows

FILE = "events.out.tfevents.0.ascent"
NO_CURVE = ("step", "policy", "episode", "env")  # columns
SECONDS = 15.0  # between two times at which a training is followed


def check_installed() -> None:
    """Raise InputError if the package tensorboard is not installed."""
    if find_spec("tensorboard") is None:
        raise InputError("the package tensorboard is not installed: pip install 'ascent-rl[tensorboard]'")


@contextmanager
def following(cells: Sequence[Path], out: Path, seconds: float = SECONDS) -> Iterator[None]:
    """Write the event files again and again while cells train in the body, and once more at its end.

    Training does not notice: a thread of this process reads the records. What it cannot write is told in a
    line on standard error.

    Raises:
        InputError: the package tensorboard is not installed.
    """
    check_installed()
    ended = threading.Event()

    def follow() -> None:
        while True:
            last = ended.wait(seconds)
            try:
                write([cell for cell in cells if cell.is_dir()], out)
            except (InputError, OSError) as error:
                print(f"--tensorboard: {error}", file=sys.stderr, flush=True)
            if last:
                return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def write(cells: Sequence[Path], out: Path) -> int:
    """Write the event files of all runs of some cells, and return how many runs have any.

    Args:
        cells: folders of cells.
        out: the folder for TensorBoard's `--logdir`.
    """
    written = 0
    for cell in cells:
        store = Store(cell)
        for seed in store.seeds():
            curves = dict(_curves(store, seed))
            if not any(curves.values()):
                continue
            place = out / Path(*cell.resolve().parts[-2:]) / layout.seed_folder(seed)
            place.mkdir(parents=True, exist_ok=True)
            files.write(place / FILE, events(curves), durable=False)
            written += 1
    return written


def _curves(store: Store, seed: int) -> Iterator[tuple[str, list[Point]]]:
    """Yield all curves of a run, by tag."""
    played = rows(store, seed, layout.EVAL)
    for policy, tag in (("greedy", "eval"), ("sampled", "eval_sampled")):
        for name in _columns(played):
            yield f"{tag}/{name}", evaluations(played, policy, name)
    for table, tag in ((layout.TRAIN, "train"), (layout.METRICS, "metrics")):
        found = rows(store, seed, table)
        for name in _columns(found):
            yield f"{tag}/{name}", means([(row["step"], row[name]) for row in found])
    by_measure: dict[str, list[tuple[str, str]]] = {}
    for row in rows(store, seed, layout.MEASURES):
        by_measure.setdefault(row.get("measure", ""), []).append((row.get("step", ""), row.get("value", "")))
    for name, pairs in by_measure.items():
        yield f"measures/{name}", means(pairs)


def _columns(table: list[dict[str, str]]) -> list[str]:
    """Return the columns of a table that are curves."""
    return [name for name in (table[0] if table else ()) if name not in NO_CURVE]


def events(curves: dict[str, list[Point]]) -> bytes:
    """Return an event file with these curves, by tag, in ascending steps."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    by_step: dict[int, dict[str, float]] = {}
    for tag, curve in curves.items():
        for point in curve:
            by_step.setdefault(point.step, {})[tag] = point.value
    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    writer.write(Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString())
    for step, values in sorted(by_step.items()):
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in sorted(values.items())]
        event = Event(wall_time=0.0, step=step, summary=Summary(value=scalars))
        writer.write(event.SerializeToString())
    return buffer.getvalue()
