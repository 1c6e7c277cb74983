"""`ascent serve`: what the page shows while a sweep runs, and that it gives nothing else away."""

import http.client
import re
import signal
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ascent.records import ledger
from ascent.records.errors import InputError
from ascent.records.ownership import Ownership
from ascent.records.plan import Plan, Planned
from ascent.reports.live import page
from ascent.reports.live.serve import server
from tests.command import call
from tests.reports import trained
from tests.reports.page.test_report_tools import browser, in_browser, needs_browser
from tests.reports.test_seal import contents
from tests.runners.test_faults import stopped
from tests.small import small_cell

CELL = trained.cells()[0]


@contextmanager
def serving(make: Callable[[], str]) -> Iterator[ThreadingHTTPServer]:
    with server(make, page.STYLE, 0) as served:
        thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield served
        finally:
            served.shutdown()
            thread.join()


def ask(
    served: ThreadingHTTPServer, path: str = "/", method: str = "GET", host: str = ""
) -> tuple[int, http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", served.server_port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"127.0.0.1:{served.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer, answer.read().decode()


def test_one_page_and_nothing_else(runs: Path) -> None:
    """No path, no method, no other name of this machine: read-only, and bound to this machine alone."""
    made = []
    before = contents(runs)

    def make() -> str:
        made.append(1)
        return page.render("Mine", *page.in_folder(runs)[:1], runs)

    with serving(make) as served:
        assert served.server_address[0] == "127.0.0.1"
        code, answer, text = ask(served)
        assert code == 200 and "<h1>Mine</h1>" in text and "6 done" in text
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-") and "unsafe" not in policy
        style = text.partition("<style>")[2].partition("</style>")[0]
        assert b64encode(sha256(style.encode()).digest()).decode() in policy, "else it is not applied"
        assert ask(served, host=f"localhost:{served.server_port}")[0] == 200
        for host in ("evil.example", f"evil.example:{served.server_port}", "127.0.0.1", "127.0.0.1:1"):
            code, _, text = ask(served, host=host)
            assert code == 421 and "Mine" not in text
        for path in ("/runs", "/../../etc/passwd", "/%2e%2e/", "//evil.example/", "/?x=1", "/ledger/"):
            assert ask(served, path)[0] == 404, path
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
            code, answer, _ = ask(served, method=method)
            assert code == 405 and answer.headers["Allow"] == "GET", method
        assert ask(served, method="BREW")[0] == 501
        assert len(made) <= 2, "many readers do not read the records as often"
        with pytest.raises(InputError, match=r"cannot be used: .*choose another with --port"):
            server(make, page.STYLE, served.server_port)
    assert contents(runs) == before
    with pytest.raises(InputError, match="port must be from 0 to 65,535"):
        server(make, page.STYLE, 70_000)


def test_records_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    def make() -> str:
        raise InputError("the ledger is damaged")

    with serving(make) as served:
        code, _, text = ask(served)
    assert code == 500 and "the ledger is damaged" in text


def test_the_page_asks_for_nothing(runs: Path) -> None:
    """No script, no address; names of records are text, whatever is in them."""
    planned, _ = page.in_folder(runs)
    named = [Planned(planned[0].cell, (0,), "<script>alert(1)</script>"), *planned[1:]]
    text = page.render("<b>bold", named, runs, ["it & <i>"])
    assert (
        "<script" not in text and "&lt;script&gt;" in text and "&lt;b&gt;bold" in text and "&lt;i&gt;" in text
    )
    assert not re.search(r"(src|href|action|@import|url\()", text) and "http:" not in text


def test_progress_and_problems(runs: Path) -> None:
    """Steps, states, time left, curves of finished and of begun runs, and what went wrong."""
    folder = CELL.folder(runs)
    stopped(CELL, runs, 25, [3, 4, 5])
    ledger.declare(Plan((Planned(CELL, tuple(range(8))),)), runs)
    trained.edit(
        folder / "seed-3" / "run.json", lambda about: about["attempts"][0].update(failure="it burnt")
    )
    Ownership(folder / "seed-4").acquire()
    trained.edit(
        folder / "seed-4" / "progress.json", lambda told: told.update(steps_per_second=10.0, step=200)
    )
    (folder / "seed-5" / "eval.csv").write_bytes((folder / "seed-5" / "eval.csv").read_bytes()[:-7])
    planned, problems = page.in_folder(runs)
    text = page.render("Mine", planned, runs, problems)
    assert {len(plan.seeds) for plan in planned} == {8, 3}, "planned seeds count, too"
    assert "3 done, 1 running, 2 interrupted, 2 planned" in text
    assert "seed 3: interrupted: it burnt" in text and "seed 5: interrupted at step" in text
    assert 'http-equiv="refresh"' in text and "0:20" in text, "200 steps at 10 steps/s"
    assert text.count("<polyline") == 3 + 3 + 3, "finished, begun, and those of the other task"
    (folder / "cell.json").write_text("{")
    planned, problems = page.in_folder(runs)
    assert len(planned) == 1 and len(problems) == 1 and "cell.json" in problems[0]
    shown = page.render("Mine", planned, runs, problems)
    assert "cell.json" in shown and "all runs are finished" in shown and 'http-equiv="refresh"' not in shown


def test_a_running_sweep_is_shown(tmp_path: Path) -> None:
    """Both as processes, as a user has them. The page changes as the sweep goes on; Ctrl-C ends it."""
    sweep = tmp_path / "mine.toml"
    sweep.write_text(
        'title = "Mine"\nseeds = "0"\nevaluations = 40\nepisodes = 2\n[[cells]]\nalgorithms = ["a2c"]\n'
        'tasks = ["CartPole-v1"]\nsteps = 2_000_000\n'
    )
    runs = ["--runs", str(tmp_path / "runs")]
    code = "import sys; from ascent.cli import main; sys.argv[0] = 'ascent'; main()"
    ascent = [sys.executable, "-c", code]
    training = subprocess.Popen(
        [*ascent, "sweep", str(sweep), *runs, "--jobs", "1"], stderr=subprocess.DEVNULL
    )
    watching = subprocess.Popen(
        [*ascent, "serve", str(sweep), *runs, "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert watching.stdout is not None
        port = int(watching.stdout.readline().rpartition(":")[2].strip(" /\n"))
        seen: list[str] = []
        until = time.monotonic() + 120
        while time.monotonic() < until and len(seen) < 2:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/")
            text = connection.getresponse().read().decode()
            points = re.findall(r'<polyline points="([^"]*)"', text)
            if "1 running" in text and points and points[0] not in seen:
                seen.append(points[0])
            time.sleep(0.5)
        assert len(seen) == 2
        first, second = (np.array([point.split(",") for point in one.split()], float) for one in seen)
        known = second[: len(first)]
        assert len(second) > len(first) and (known[:, 0] == first[:, 0]).all(), "the curve grows"
        assert (known[:, 1].argsort(kind="stable") == first[:, 1].argsort(kind="stable")).all(), "as it was"
        assert "at this speed" in text
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 130
    finally:
        for process in (training, watching):
            process.send_signal(signal.SIGINT)
            process.wait(60)


@needs_browser
def test_the_page_fits_a_phone(runs: Path, tmp_path: Path) -> None:
    """In a browser: nothing is wider than a narrow window, and its own policy forbids none of it."""
    text = page.render("Mine", page.in_folder(runs)[0], runs)
    wide = "document.title = document.documentElement.scrollWidth + ' of ' + innerWidth"
    title = in_browser(text, tmp_path, wide, 500).partition("<title>")[2].partition("</title>")[0]
    width, of = map(int, title.split(" of "))
    assert 0 < width <= of <= 500
    with serving(lambda: text) as served:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        shot = tmp_path / "page.png"
        done = subprocess.run(
            [str(browser), *flags, "--window-size=500,900", f"--screenshot={shot}",
             f"http://127.0.0.1:{served.server_port}/"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0 and shot.stat().st_size > 10_000, done.stderr
    assert "Content Security Policy" not in done.stderr


def test_command_refuses(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, _, err = call(capsys, "serve", "--runs", str(tmp_path))
    assert code == 2 and "there are no cells in" in err
    code, _, err = call(capsys, "serve", "demmo", "--runs", str(tmp_path))
    assert code == 2 and "did you mean 'demo'?" in err


def test_small_values(tmp_path: Path) -> None:
    """A cell without any run yet."""
    cell = small_cell("a2c", "CartPole-v1")
    text = page.render("Mine", [Planned(cell, (0, 1))], tmp_path)
    assert "2 planned" in text and "<polyline" not in text
