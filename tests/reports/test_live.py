"""`ascent train --wandb live`: what is streamed is the record, the same whatever becomes of the stream."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import ascent
import ascent.cli
from ascent.reports.mirror import live
from ascent.runners.train import train
from tests.reports.test_mirror import PROJECT, READ_ONLY, assert_about, assert_history, online, push
from tests.reports.wandb_server import HANG, StandIn
from tests.small import rest_slow, results, small_cell

pytest.importorskip("wandb", reason="wandb is not installed")

CELL = small_cell("ppo", "CartPole-v1", steps=160, points=5)
SEEDS = [0, 1]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, bytes]]:
    """The results of the runs that nobody follows."""
    out = tmp_path_factory.mktemp("plain")
    train(CELL, SEEDS, out)
    return results(CELL, out, SEEDS)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """A server that the environment names."""
    with StandIn() as standing:
        for name, value in online(standing).items():
            monkeypatch.setenv(name, value)
        yield standing


def followed(out: Path, step: Callable[[live.Stream], object] = lambda stream: None) -> tuple[bool, float]:
    """Train with a stream, and `step` after every step, which stops the training with True. Returns whether
    it came to its end, and the seconds from then until the stream was over.
    """
    with live.Stream(CELL, SEEDS, out, PROJECT) as stream:
        whole = train(CELL, SEEDS, out, stop=lambda: bool(step(stream)))
        ended = time.monotonic()
    return whole, time.monotonic() - ended


def assert_streamed(server: StandIn, out: Path) -> None:
    assert len(server.runs) == len(SEEDS)
    for run in server.runs.values():
        config = {key: value["value"] for key, value in run.config.items()}
        folder = CELL.folder(out) / f"seed-{config['seed']}"
        assert_history(run.history, folder)
        assert_about(folder, config, run.group, run.tags, run.job_type, run.summary)
        assert (run.project, run.state) == (PROJECT, "finished")


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def begun(server: StandIn, rows: int) -> bool:
    """Whether each run has as many rows on the server."""
    runs = list(server.runs.values())
    return len(runs) == len(SEEDS) and all(len(run.history) >= rows for run in runs)


def kill(stream: live.Stream) -> None:
    os.kill(stream.process.pid, signal.SIGKILL)
    stream.process.wait()


def at(step: int, act: Callable[[live.Stream], object]) -> Callable[[live.Stream], object]:
    """Act once, after that many steps of the trainer."""
    steps = iter(range(1, 10**9))
    return lambda stream: act(stream) if next(steps) == step else None


def test_a_stream_is_the_record(server: StandIn, plain: dict, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    assert followed(out)[0]
    assert results(CELL, out, SEEDS) == plain
    assert_streamed(server, out)
    server.requests.clear()
    before = server.state()
    done = push(tmp_path, str(out), "--project", PROJECT, **online(server))
    assert done.code == 0, done.err
    assert set(server.operations()) == READ_ONLY
    assert server.state() == before


def test_killed_while_it_streams(
    server: StandIn, plain: dict, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    """Rows come before the end; kill -9 changes no byte; push completes the same runs."""
    out = tmp_path / "runs"

    def half_way(stream: live.Stream) -> None:
        wait(lambda: begun(server, 2))
        kill(stream)

    whole, seconds = followed(out, at(50, half_way))
    assert whole and seconds < 1.0
    assert results(CELL, out, SEEDS) == plain
    assert "W&B: streaming failed" in capfd.readouterr().err
    there = set(server.runs)
    assert all(2 <= len(run.history) < 6 for run in server.runs.values())
    done = push(tmp_path, str(out), "--project", PROJECT, **online(server))
    assert done.code == 0, done.err
    assert set(server.runs) == there
    assert_streamed(server, out)


@pytest.mark.slow
def test_training_that_stops_and_goes_on(server: StandIn, plain: dict, tmp_path: Path) -> None:
    out = tmp_path / "runs"

    def stop(stream: live.Stream) -> bool:
        wait(lambda: begun(server, 0))
        return True

    assert not followed(out, at(50, stop))[0]
    assert {run.state for run in server.runs.values()} == {"failed"}
    assert all(1 <= len(run.history) < 6 for run in server.runs.values())
    there = set(server.runs)
    assert followed(out)[0]
    assert results(CELL, out, SEEDS) == plain
    assert set(server.runs) == there
    assert_streamed(server, out)


@pytest.mark.parametrize("failure", rest_slow([HANG, 401, 500]))
def test_a_service_that_fails(
    failure: int | str,
    server: StandIn,
    plain: dict,
    tmp_path: Path,
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No byte changes, and the end comes in bounded time."""
    monkeypatch.setattr(live, "FLUSH_SECONDS", 2.0)
    server.fail["graphql"] = failure
    whole, seconds = followed(tmp_path, at(50, lambda stream: wait(lambda: bool(server.requests))))
    assert whole and seconds < 4.0
    assert results(CELL, tmp_path, SEEDS) == plain
    assert "`ascent wandb push` sends the missing rows" in capfd.readouterr().err


def test_killed_before_it_began(server: StandIn, plain: dict, tmp_path: Path) -> None:
    assert followed(tmp_path, at(1, kill))[0]
    assert results(CELL, tmp_path, SEEDS) == plain
    assert not server.runs


WORDS = [
    "ascent", "train", "a2c", "CartPole-v1", "--seeds", "0", "--steps", "64", "--evaluations", "2",
    "--episodes", "1", "--set", "steps=16", "--set", "envs=2", "--jobs", "1",
]  # fmt: skip


@pytest.mark.parametrize("lacking", rest_slow(["key", "wandb", "project"]))
def test_what_is_lacking_is_told_and_training_goes_on(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    if lacking == "wandb":
        monkeypatch.setitem(sys.modules, "wandb", None)
    if lacking != "project":
        monkeypatch.setenv("WANDB_PROJECT", PROJECT)
    monkeypatch.setattr(sys, "argv", [*WORDS, "--runs", str(tmp_path / "runs"), "--wandb", "live"])
    with pytest.raises(SystemExit) as stop:
        ascent.cli.main()
    assert not stop.value.code
    said = {
        "wandb": "pip install 'ascent-rl[wandb]'",
        "key": "set WANDB_API_KEY",
        "project": "give --wandb-project",
    }
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("W&B")]
    assert line.startswith("W&B: streaming is disabled: ") and said[lacking] in line
    assert len(list(tmp_path.glob("runs/*/*/*/seed-0/result.json"))) == 1


def test_another_word_than_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(sys, "argv", [*WORDS, "--runs", str(tmp_path), "--wandb", "life"])
    with pytest.raises(SystemExit) as stop:
        ascent.cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: unknown value of --wandb 'life'; did you mean 'live'?\n"
    assert not list(tmp_path.iterdir())


def test_training_imports_no_wandb(tmp_path: Path) -> None:
    """Neither the process that trains nor the one that has the display; nor what reports import."""
    code = f"""
import sys
import ascent.cli, ascent.reports.mirror.live, ascent.reports.mirror.push, ascent.reports.mirror.folders
from pathlib import Path
from ascent.runners.train import train
from tests.small import small_cell
train(small_cell("ppo", "CartPole-v1"), [0], Path({str(tmp_path)!r}))
sys.argv = {[*WORDS, "--runs", str(tmp_path)]!r}
try:
    ascent.cli.main()
except SystemExit as stop:
    assert not stop.code
print([name for name in sys.modules if name.partition(".")[0] == "wandb"])
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr
