"""What a job of a sweep would meet on a node: run there by `ascent submit --check`.

    python -P -m ascent.runners.probe ANSWER.json INDEX

Writes the answer at once, and again when SLURM's warning comes before the time limit, or does not come.
"""

import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ascent.records import files, provenance

PATIENCE = 110  # seconds for the warning


def main(words: list[str]) -> int:
    """Write the answer; exit code 0."""
    path, start = Path(words[0]), time.monotonic()
    received: list[float] = []
    signal.signal(signal.SIGUSR1, lambda number, frame: received.append(time.monotonic() - start))
    answer = _answer()
    files.write(path, json.dumps(answer).encode())
    while not received and time.monotonic() - start < PATIENCE:
        time.sleep(0.2)
    answer["warned_after"] = round(received[0], 1) if received else None
    files.write(path, json.dumps(answer | {"done": True}).encode())
    return 0


def _answer() -> dict[str, Any]:
    return {
        "node": socket.gethostname(),
        "python": sys.executable,
        "version": platform.python_version(),
        **provenance.commit(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": _torch(),
        "mujoco": _version("mujoco"),
        "kernels": _kernels(),
        "scontrol": _scontrol(),
        "machine": f"{platform.machine()} {provenance.cpu()['name']}",
    }


def _torch() -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        return {"error": str(error)}
    return {"version": torch.__version__, "gpus": torch.cuda.device_count()}


def _version(module: str) -> str | None:
    try:
        return str(__import__(module).__version__)
    except ImportError:
        return None


def _kernels() -> bool:
    from ascent import kernels

    return kernels.enabled()


def _scontrol() -> str | None:
    """Return why the controller cannot be reached from here; None if it can."""
    try:
        done = subprocess.run(["scontrol", "ping"], capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"scontrol: {error}"
    return (done.stderr or done.stdout).strip() if done.returncode else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
