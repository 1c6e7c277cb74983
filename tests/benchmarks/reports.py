"""Speed of reports: aggregates with intervals against rliable's, a large report from start to end, and how
long Chromium takes to open it.

`python -m tests.benchmarks.reports`, one core, processor time; Chromium has all cores, and is timed by the
clock. The comparison is of the same scores, the same four statistics and the same number of resamples, in one
run.
"""

import contextlib
import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
from rliable import metrics

from ascent.reports.report import build
from ascent.reports.statistics import bootstrap
from tests.reports.conftest import SPECS, Records, learning
from tests.reports.peer import rliable_library

SYSTEMS, TASKS, SEEDS, POINTS, RESAMPLES = 12, 20, 10, 100, 50_000
LIMIT_S = 60.0  # of a report
RATIO = 50.0  # to rliable
OPEN_LIMIT_S, OPENED = 2.0, 5  # of a page, the median of so many times
CORES = os.sched_getaffinity(0)
# Milliseconds from the start of navigation to the first frame after the load event. The policy of the page
# refuses requests, but not that another page is opened.
TELL = """<script>addEventListener("load", () => requestAnimationFrame(() => setTimeout(() => {
  const painted = performance.getEntriesByName("first-contentful-paint")[0].startTime;
  location = "http://127.0.0.1:%d/" + Math.round(performance.now()) + "/" + Math.round(painted);
})));</script></body>"""


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def compare_aggregates() -> bool:
    """Ours for all systems in turn, rliable's for the first one."""
    library = rliable_library()
    rng = np.random.default_rng(0)
    scores = {
        f"system-{k}": [rng.normal(0.5 + 0.02 * k, 0.2, size=SEEDS) for _ in range(TASKS)]
        for k in range(SYSTEMS)
    }
    first = next(iter(scores))
    ours = [
        seconds(lambda name=name: bootstrap.aggregates({name: scores[name]}, RESAMPLES)) for name in scores
    ]

    functions = [getattr(metrics, f"aggregate_{name}") for name in bootstrap.STATISTICS]

    def statistics(matrix: np.ndarray) -> np.ndarray:
        return np.array([function(matrix) for function in functions])

    matrices = {first: np.column_stack(scores[first])}
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = seconds(lambda: library.get_interval_estimates(matrices, statistics, reps=RESAMPLES))
    ratio = theirs / np.median(ours)
    print(
        f"aggregates of {TASKS} tasks x {SEEDS} seeds, {RESAMPLES:,} resamples, a system: ours "
        f"{np.median(ours):.2f} s, rliable {theirs:.1f} s, ratio {ratio:.0f} (asked {RATIO:.0f})",
        flush=True,
    )
    return bool(ratio >= RATIO)


def time_report() -> bool:
    """A report over SYSTEMS x TASKS x SEEDS runs of POINTS evaluations with ten episodes each."""
    with TemporaryDirectory() as folder:
        records = Records(Path(folder))
        tasks = {f"Task{k}-v0": SPECS["CartPole-v1"] for k in range(TASKS)}
        with patch.dict(SPECS, tasks):
            for task in tasks:
                for k in range(SYSTEMS):
                    cell = records.cell(task, f"system-{k}", points=POINTS, steps=1_000_000)
                    for seed in range(SEEDS):
                        rng = np.random.default_rng([int(task[4:-3]), k, seed])
                        means = np.interp(
                            np.arange(POINTS + 1) / 2, np.arange(51), learning(rng, 22.2, 300 + 15 * k, 4, 30)
                        )
                        records.run(cell, seed, means.tolist(), spread=10.0)
        used = seconds(lambda: build(records.runs, records.out))
        size = sum(path.stat().st_size for path in records.out.rglob("*") if path.is_file()) / 2**20
        opened = time_opening(records.out / "index.html")
    print(
        f"report over {SYSTEMS} x {TASKS} x {SEEDS} runs of {POINTS} evaluations: {used:.0f} s "
        f"(asked {LIMIT_S:.0f}), {size:.0f} MiB"
    )
    return used <= LIMIT_S and opened


def time_opening(page: Path) -> bool:
    """Open a page in a new headless Chromium, several times."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if not browser:
        print("Chromium is not installed: the time to open a page was not measured")
        return True
    os.sched_setaffinity(0, CORES)
    times: list[list[int]] = []  # until all is there, and until the first of it is seen

    class Clock(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path[1:].split("/")
            if all(part.isdigit() for part in parts):
                times.append([int(part) for part in parts])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Clock) as server:
        head, _, tail = page.read_text(encoding="utf-8").rpartition("</body>")
        timed = page.with_name("timed.html")
        timed.write_text(head + TELL % server.server_port + tail, encoding="utf-8")
        for k in range(1, OPENED + 1):
            with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
                flags = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1400,900"]
                flags += ["--remote-debugging-port=0", f"--user-data-dir={profile}"]  # it stays open
                process = subprocess.Popen([browser, *flags, timed.as_uri()], stderr=subprocess.DEVNULL)
                try:
                    while len(times) < k:
                        server.handle_request()
                finally:
                    process.terminate()
                    process.wait()
        timed.unlink()
    median, seen = np.median(times, axis=0) / 1000
    print(
        f"its page opens in {median:.1f} s (asked {OPEN_LIMIT_S:.0f}), its first screen in {seen:.1f} s, "
        f"median of {OPENED}; load of the machine: {os.getloadavg()[0]:.0f} on {len(CORES)} cores"
    )
    return bool(median <= OPEN_LIMIT_S)


def main() -> int:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return 0 if compare_aggregates() & time_report() else 1


if __name__ == "__main__":
    sys.exit(main())
