"""The training process of one pack: some seeds of one cell.

    python -P -m ascent.runners.pack < job.json

A job is {"cell": {...}, "seeds": [...], "out": "runs", "device": "cpu", "checkpoint_seconds": 60, "threads":
1, "tell_seconds": 1, "keep_policies": 0, "plan": "0123456789ab", "keep_checkpoint": false}. The local pool
starts these processes, and so does an array task on a cluster. On SIGTERM, SIGINT, SIGUSR1 or SIGHUP (which
`nohup` ignores) the process writes a checkpoint at the next step boundary and exits with 128 + the signal's
number; the same job continues from there.
"""

import signal
import sys
import time

from ascent.records.errors import InputError, RunHeld
from ascent.records.plan import Job
from ascent.runners.train import train

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
PATIENCE = 15.0  # seconds for another process that holds a run: it may be writing its last checkpoint


def main() -> int:
    """Train the job on standard input and return the exit code."""
    job = Job.from_json(sys.stdin.read())
    received: list[int] = []
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: received.append(number))
    begun = time.monotonic()
    while True:
        try:
            done = train(
                job.cell,
                job.seeds,
                job.out,
                device=job.device,
                checkpoint_seconds=job.checkpoint_seconds,
                stop=lambda: bool(received),
                threads=job.threads,
                tell_seconds=job.tell_seconds,
                keep_policies=job.keep_policies,
                plan=job.plan,
                keep_checkpoint=job.keep_checkpoint,
            )
        except (InputError, OSError) as error:
            if isinstance(error, RunHeld) and not received and time.monotonic() < begun + PATIENCE:
                time.sleep(0.5)
                continue
            print(f"error: {error}", file=sys.stderr, flush=True)
            return 2
        except MemoryError:
            print(f"error: {job.cell.label()}: there is not enough memory", file=sys.stderr, flush=True)
            return 2
        return 0 if done else 128 + received[0]


if __name__ == "__main__":
    sys.exit(main())
