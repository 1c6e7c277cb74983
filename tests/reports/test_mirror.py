"""`ascent wandb push`, against a stand-in server and into offline runs: everything that arrives is compared
with the record, which is read here with `csv` and `json`.
"""

import csv
import hashlib
import io
import json
import math
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pytest

import ascent.cli
from ascent.reports.mirror.folders import report_payload
from ascent.runners.train import train
from tests.reports.conftest import Records, write_json
from tests.reports.wandb_server import ENTITY, HANG, KEY, StandIn
from tests.small import rest_slow, small_cell

pytest.importorskip("wandb", reason="wandb is not installed")
matplotlib.use("agg")

PROJECT = "benchmarks"
ODD = [  # cells that are easily spoilt on their way into a table
    ["system", "digest", "n", "mean", "done", "note", "odd", "commit"],
    ["ppo", "0123456789", "10", "-1.5", "True", 'a "quoted", comma', "1.5", "0000001"],
    ["sac", "12e4567890", "", "", "False", "Größe", "nan", "0000002"],
    ["td3", "1111111111", "-3", "1e-05", "True", "", "-inf", "0000003"],
]
TYPED = [
    ["ppo", "0123456789", 10, -1.5, True, 'a "quoted", comma', "1.5", "0000001"],
    ["sac", "12e4567890", None, None, False, "Größe", "nan", "0000002"],
    ["td3", "1111111111", -3, 1e-05, True, None, "-inf", "0000003"],
]
READ_ONLY = {"Viewer", "GetDefaultEntity", "Runs"}  # what is asked if nothing is missing
LONG = 10_050  # rows; wandb by itself cuts a table off at 10,000


@dataclass
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if line.strip()]


def push(folder: Path, *words: str, **variables: str) -> Done:
    """The command with its own variables for wandb, with `folder`/home for home and in `folder`/cwd."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name, value in (variables | {"HOME": str(folder / "home")}).items():
            patch.setenv(name, value)
        for name in ("home", "cwd"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        patch.chdir(folder / "cwd")
        patch.setattr(sys, "argv", ["ascent", "wandb", "push", *words])
        with pytest.raises(SystemExit) as stop:
            ascent.cli.main()
    return Done(stop.value.code or 0, out.getvalue(), err.getvalue())


def online(server: StandIn, **variables: str) -> dict[str, str]:
    return {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY} | variables


# ---- the record and where it goes


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Two seeds that were trained, one that diverged, one that is not finished; and a report's folder."""
    records = Records(tmp_path_factory.mktemp("record"))
    cell = small_cell("ppo", "CartPole-v1")
    train(cell, [0, 1], records.runs)
    other = records.cell("Pendulum-v1", "sac", points=4)
    records.run(other, 3, [-1200.0, -900.0, math.nan], status="diverged", spread=20.0)
    records.run(other, 4, [-1200.0, -900.0], status=None)
    report = records.out
    (report / "figures").mkdir(parents=True)
    matplotlib.figure.Figure().savefig(report / "figures" / "CartPole-v1.png")
    (report / "figures" / "CartPole-v1.pdf").write_bytes(b"%PDF-1.4\n")
    (report / "index.html").write_text("<!doctype html><title>Größe</title>", encoding="utf-8")
    write_json(report / "provenance.json", {"report": {"title": "Odd"}})
    with (report / "odd.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(ODD)
    (report / "long.csv").write_text("row\n" + "".join(f"{row}\n" for row in range(LONG)))
    return records


@pytest.fixture(scope="module")
def pushed(record: Records, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StandIn, Path, Done]]:
    """A server to which the record was pushed, from this folder, and how that went."""
    folder = tmp_path_factory.mktemp("online")
    with StandIn() as server:
        done = push(folder, *_words(record), **online(server, WANDB_MODE="disabled", WANDB_RUN_GROUP="mine"))
        yield server, folder, done


@pytest.fixture(scope="module")
def written(record: Records, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, StandIn]]:
    """The same, offline, with a server that nobody should ask."""
    folder = tmp_path_factory.mktemp("offline")
    with StandIn() as server:
        done = push(folder, *_words(record), "--offline", **online(server))
        assert done.code == 0, done.err
        yield folder, server


def _words(record: Records) -> list[str]:
    return [str(record.runs), "--report", str(record.out), "--project", PROJECT]


def finished(record: Records) -> list[Path]:
    return sorted(path.parent for path in record.runs.glob("*/*/*/seed-*/result.json"))


# ---- what should arrive, from the files


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected_history(run: Path) -> dict[int, dict[str, float]]:
    """step -> row."""
    history: dict[int, dict[str, float]] = {}
    evaluations, metrics = table(run / "eval.csv"), table(run / "metrics.csv")
    for row in metrics:
        values = {f"train/{name}": float(value) for name, value in row.items() if name != "step"}
        history.setdefault(int(row["step"]), {}).update(values)
    for policy, prefix in (("greedy", "eval"), ("sampled", "eval_sampled")):
        for step in {int(row["step"]) for row in evaluations if row["policy"] == policy}:
            rows = [row for row in evaluations if row["policy"] == policy and int(row["step"]) == step]
            history.setdefault(step, {}).update(_statistics(prefix, rows))
    before = -1
    for step in sorted(history):
        rows = [row for row in table(run / "train.csv") if before < int(row["step"]) <= step]
        if rows:
            history[step].update(_statistics("episode", rows) | {"episode/count": len(rows)})
        before = step
    return history


def _statistics(prefix: str, rows: list[dict[str, str]]) -> dict[str, float]:
    returns = [float(row["return"]) for row in rows]
    known = all(map(math.isfinite, returns))
    return {
        f"{prefix}/return_mean": statistics.fmean(returns),
        f"{prefix}/return_std": statistics.pstdev(returns) if known else math.nan,
        f"{prefix}/length": statistics.fmean(float(row["length"]) for row in rows),
    }


def assert_history(history: list[dict[str, Any]], run: Path) -> None:
    expected = expected_history(run)
    assert [row["global_step"] for row in history] == sorted(expected)
    assert len(history) >= 3
    for row in history:
        sent = {key: value for key, value in row.items() if not key.startswith("_") and key != "global_step"}
        assert sent == pytest.approx(expected[row["global_step"]], rel=1e-12, abs=1e-12, nan_ok=True)


def assert_about(
    run: Path, config: dict[str, Any], group: str, tags: list[str], kind: str, summary: dict[str, Any]
) -> None:
    cell = json.loads((run.parent / "cell.json").read_bytes())
    about = json.loads((run / "run.json").read_bytes())
    result = json.loads((run / "result.json").read_bytes())
    for key in (
        "suite",
        "task",
        "system",
        "preset",
        "algorithm",
        "steps",
        "evaluation",
        "versions",
        "digest",
    ):
        assert config[key] == cell[key]
    assert config["hyperparameters"] == cell["config"]
    for key in ("commit", "dirty", "platform", "packages", "source_digest", "seed"):
        assert config[key] == about[key]
    assert group == run.parent.name
    assert kind == "train"
    diverged = ["diverged"] if result["status"] == "diverged" else []
    assert sorted(tags) == sorted(
        {*(cell[key] for key in ("suite", "task", "system", "preset", "algorithm")), *diverged}
    )
    assert {key: summary[key] for key in ("status", "digest", "steps")} == {
        key: result[key] for key in ("status", "digest", "steps")
    }
    greedy = [value["eval/return_mean"] for _, value in sorted(expected_history(run).items())
              if "eval/return_mean" in value]  # fmt: skip
    score = statistics.fmean(greedy[1:][-10:])
    if diverged:
        score = min([cell["spec"]["random_score"], *filter(math.isfinite, greedy)])
    assert summary["score/mean_of_last_ten"] == pytest.approx(score, rel=1e-12)


def assert_table(content: dict[str, Any], name: str) -> None:
    if name == "long":
        assert content["columns"] == ["row"]
        assert content["data"] == [[row] for row in range(LONG)]
        return
    assert content["columns"] == ODD[0]
    assert content["data"] == TYPED
    kinds = [[[type(cell) for cell in row] for row in rows] for rows in (content["data"], TYPED)]
    assert kinds[0] == kinds[1]


# ---- online


def test_all_rows_are_acknowledged(pushed: tuple, record: Records) -> None:
    server, _, done = pushed
    rows = sum(len(expected_history(run)) for run in finished(record)) + 1
    assert (done.code, done.out) == (0, f"{server.url}/{ENTITY}/{PROJECT}\n")
    assert done.lines == [
        "skipped runs: 1 unfinished",
        "variables without effect here: WANDB_MODE, WANDB_RUN_GROUP",
        f"acknowledged: {rows} of {rows} rows, 4 of 4 runs; 0 rows were already present",
    ]
    assert sum(len(run.history) for run in server.runs.values()) == rows


def test_every_run_arrives_as_recorded(pushed: tuple, record: Records) -> None:
    runs = [run for run in pushed[0].runs.values() if run.job_type != "report"]
    by_seed = {run.config["seed"]["value"]: run for run in runs}
    assert len(runs) == len(by_seed) == 3
    for path in finished(record):
        run = by_seed[int(path.name.removeprefix("seed-"))]
        assert_history(run.history, path)
        config = {key: value["value"] for key, value in run.config.items()}
        assert_about(path, config, run.group, run.tags, run.job_type, run.summary)
        assert (run.state, run.exit_code) == ("finished", 0)
        metrics = run.config["_wandb"]["value"]["m"]
        assert {"1": "global_step"}.items() <= metrics[0].items()
        assert metrics[1]["2"] == "*" and metrics[1]["5"] == 1  # whose axis is the first of these


def test_the_report_arrives_whole(pushed: tuple, record: Records) -> None:
    server = pushed[0]
    (run,) = [run for run in server.runs.values() if run.job_type == "report"]
    (row,) = run.history
    assert run.group is None and run.tags == ["report"]
    for name in ("odd", "long"):
        assert_table(json.loads(run.files[row[name]["path"]]), name)
        (artifact,) = [a for a in server.artifacts.values() if a.name == f"run-{run.id}-{name}"]
        assert artifact.state == "COMMITTED"
        assert_table(json.loads(artifact.files[f"{name}.table.json"]), name)
    page, image = run.files[row["report"]["path"]], run.files[row["figures/CartPole-v1"]["path"]]
    assert page == (record.out / "index.html").read_bytes()
    assert image == (record.out / "figures" / "CartPole-v1.png").read_bytes()
    paths = [path for path in record.out.rglob("*") if path.is_file()]
    assert len(paths) == 6
    for path in paths:
        assert run.files[path.relative_to(record.out).as_posix()] == path.read_bytes()
    assert run.state == "finished"


def test_wandbs_own_reader_finds_the_same(pushed: tuple, tmp_path: Path) -> None:
    """The stand-in is a W&B server to the public API too, whose queries are those that push counts with."""
    code = (
        "import wandb, json; runs = wandb.Api().runs('team/benchmarks', lazy=False);"
        "print(json.dumps({r.id: [r.state, r.group, sorted(f.name for f in r.files())] for r in runs}))"
    )
    environment = os.environ | online(pushed[0]) | {"HOME": str(tmp_path), "WANDB_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    expected = {run.id: [run.state, run.group, sorted(run.files)] for run in pushed[0].runs.values()}
    assert found == expected


def test_nothing_appears_elsewhere(pushed: tuple, written: tuple) -> None:
    for folder in (pushed[1], written[0]):
        assert not list((folder / "home").rglob("*"))
        assert [path.name for path in (folder / "cwd").iterdir()] == ["out"]
        assert [path.name for path in (folder / "cwd" / "out").iterdir()] == ["wandb"]


def test_pushing_again_changes_nothing(pushed: tuple, record: Records) -> None:
    server, folder, _ = pushed
    before = server.state()
    for ledger in ("remembered", "forgotten"):
        if ledger == "forgotten":
            (folder / "cwd" / "out" / "wandb" / "pushed.json").unlink()
        server.requests.clear()
        done = push(folder, *_words(record), **online(server))
        assert done.code == 0, done.err
        assert set(server.operations()) == READ_ONLY
        assert server.state() == before


def test_what_was_cut_off_is_completed(pushed: tuple, record: Records) -> None:
    """A run of which half had arrived, one that was not closed, and a report without its last file."""
    server, folder, _ = pushed
    first, second = [run for run in server.runs.values() if run.job_type != "report"][:2]
    (report,) = [run for run in server.runs.values() if run.job_type == "report"]
    whole = first.history
    del first.streams["wandb-history.jsonl"][len(whole) - 1]
    first.streams.pop("wandb-summary.json")
    second.state = report.state = "running"
    del report.files["odd.csv"]
    done = push(folder, *_words(record), **online(server))
    assert done.code == 0, done.err

    def numbers(rows: list[dict[str, Any]]) -> str:
        return repr([{key: row[key] for key in sorted(row) if key[0] != "_"} for row in rows])

    assert numbers(first.history) == numbers(whole)
    assert first.summary["status"] in ("done", "diverged")
    assert "odd.csv" in report.files
    assert {run.state for run in server.runs.values()} == {"finished"}
    assert len(server.runs) == 4


# ---- offline


def protocol_records(path: Path) -> list[Any]:
    """The records of a .wandb file: seven bytes, then LevelDB's log format with blocks of 32 KiB."""
    from wandb.proto import wandb_internal_pb2

    data = path.read_bytes()
    assert data[:4] == b":W&B"
    found, position, parts = [], 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack("<IHB", data[position : position + 7])
        parts += data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # a whole record, or its last part
            found.append(wandb_internal_pb2.Record.FromString(parts))
            parts = b""
    assert position == len(data) and not parts
    return found


def merged(items: Any) -> dict[str, Any]:
    """Items with a key or a nested key, and a value in JSON, as a dictionary."""
    found: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        place = found
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
    return found


def test_offline_runs_hold_the_record(written: tuple, record: Records) -> None:
    folder, _ = written
    paths = sorted((folder / "cwd" / "out" / "wandb").glob("wandb/offline-run-*/*.wandb"))
    assert len(paths) == 4
    seeds = {int(path.name.removeprefix("seed-")): path for path in finished(record)}
    for path in paths:
        records = protocol_records(path)
        kinds = [item.WhichOneof("record_type") for item in records]
        assert kinds[-1] == "exit" and kinds.count("run") == 1
        run = records[kinds.index("run")].run
        history = [merged(item.history.item) for item in records if item.HasField("history")]
        summary: dict[str, Any] = {}
        for item in records:
            if item.HasField("summary"):
                summary |= merged(item.summary.update)
        config = merged(run.config.update)
        assert run.project == PROJECT
        if run.job_type == "report":
            (row,) = history
            for name in ("odd", "long"):
                content = (path.parent / "files" / row[name]["path"]).read_bytes()
                assert hashlib.sha256(content).hexdigest() == row[name]["sha256"]
                assert_table(json.loads(content), name)
        else:
            source = seeds.pop(config["seed"])
            assert_history(history, source)
            assert_about(source, config, run.run_group, list(run.tags), run.job_type, summary)
    assert not seeds


def test_offline_asks_nobody_and_writes_once(written: tuple, record: Records) -> None:
    folder, server = written
    before = {path for path in (folder / "cwd").rglob("*.wandb")}
    done = push(folder, *_words(record), "--offline")
    assert done.code == 0 and "4 of 4 runs" in done.err
    assert {path for path in (folder / "cwd").rglob("*.wandb")} == before
    assert not server.requests


# ---- what fails


@pytest.fixture(scope="module")
def one(record: Records, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of a single run."""
    folder = tmp_path_factory.mktemp("one")
    cell = finished(record)[0].parent
    target = folder / "runs" / cell.relative_to(record.runs)
    shutil.copytree(cell, target)
    shutil.rmtree(target / "seed-1")
    return folder / "runs"


TIMEOUT = 6.0  # in which wandb's client must have met the failure, on a busy machine too


def refused(folder: Path, one: Path, **variables: str) -> str:
    """The one line of a push that fails in time."""
    begun = time.monotonic()
    done = push(folder, str(one), "--project", PROJECT, "--timeout", str(TIMEOUT), **variables)
    assert time.monotonic() - begun < TIMEOUT + 15  # with the start of a process on a busy machine
    assert (done.code, done.out) == (2, "")
    assert len(done.lines) == 1 and done.err.startswith("error: "), done.err
    return done.lines[0]


@pytest.mark.parametrize("failure", rest_slow([HANG, 401, 429, 400, 409, 500]))
@pytest.mark.parametrize("where", ["graphql", "file_stream"])
def test_a_failing_service_is_told(where: str, failure: int | str, one: Path, tmp_path: Path) -> None:
    with StandIn() as server:
        server.fail[where] = failure
        line = refused(tmp_path, one, **online(server))
        assert ("in time" in line or "within" in line) if failure == HANG else str(failure) in line
        if where == "file_stream":
            assert "acknowledged: 0 of 4 rows, 0 of 1 runs" in line
        assert not any(run.history for run in server.runs.values())


def test_an_id_that_was_deleted_is_told(one: Path, tmp_path: Path) -> None:
    with StandIn() as server:
        server.fail["UpsertBucket"] = 409
        assert "409" in refused(tmp_path, one, **online(server))


@pytest.mark.slow
def test_files_that_do_not_arrive_are_told(record: Records, tmp_path: Path) -> None:
    with StandIn() as server:
        server.fail["upload"] = 500
        done = push(tmp_path, *_words(record), "--timeout", "12", **online(server))
        assert done.code == 2
        assert "HTTP 500" in done.err and "of 4 runs" in done.err


@pytest.mark.slow
def test_a_file_that_is_lost_is_told(record: Records, tmp_path: Path) -> None:
    """Its upload was acknowledged, and then the service has it not: nobody but the service is believed."""
    with StandIn() as server:
        server.lost.add("odd.csv")
        done = push(tmp_path, *_words(record), "--timeout", "12", **online(server))
        assert done.code == 2
        assert "W&B has 1 of 1 rows and 9 of 10 files; acknowledged: " in done.err


def test_nobody_there_is_told(one: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    line = refused(tmp_path, one, WANDB_BASE_URL=address, WANDB_API_KEY=KEY)
    assert line.startswith(f"error: W&B at {address}: ") and "connection refused" in line


def test_another_key_is_told(one: Path, tmp_path: Path) -> None:
    with StandIn() as server:
        assert "401" in refused(tmp_path, one, **online(server, WANDB_API_KEY="f" * 40))


def test_another_result_under_the_same_id_is_told(one: Path, tmp_path: Path) -> None:
    with StandIn() as server:
        assert push(tmp_path, str(one), "--project", PROJECT, **online(server)).code == 0
        before = server.state()
        runs = tmp_path / "runs"
        shutil.copytree(one, runs)
        (path,) = runs.glob("*/*/*/seed-0/result.json")
        result = json.loads(path.read_bytes())
        write_json(path, result | {"digest": "0" * 64})
        assert f"digest {result['digest']}, not {'0' * 64}" in refused(tmp_path, runs, **online(server))
        assert server.state() == before
        server.runs.clear()
        assert "was pushed before but is no longer in" in refused(tmp_path, one, **online(server))
        assert not server.runs


def test_the_key_that_wandb_login_stored(one: Path, tmp_path: Path) -> None:
    """In ~/.netrc, by the name of the server; that of another server is no key."""
    with StandIn() as server:
        words = (str(one), "--project", PROJECT)
        netrc = tmp_path / "home" / ".netrc"
        netrc.parent.mkdir()
        netrc.write_text(f"machine api.wandb.ai login user password {KEY}\n")
        netrc.chmod(0o600)
        assert "no API key for W&B" in push(tmp_path, *words, WANDB_BASE_URL=server.url).err
        netrc.write_text(f"machine 127.0.0.1 login user password {KEY}\n")
        done = push(tmp_path, *words, WANDB_BASE_URL=server.url)
        assert done.code == 0, done.err
        assert len(server.runs) == 1


def test_words_that_are_missing(one: Path, tmp_path: Path) -> None:
    environment = {"WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = push(tmp_path, str(one), "--project", PROJECT, **environment)
    assert (done.code, len(done.lines)) == (2, 1)
    assert "no API key for W&B at http://127.0.0.1:9: set WANDB_API_KEY" in done.err
    done = push(tmp_path, str(one), **environment)
    assert (done.code, len(done.lines)) == (2, 1)
    assert "give --project NAME, or set WANDB_PROJECT" in done.err


def test_without_wandb(one: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(sys, "argv", ["ascent", "wandb", "push", str(one), "--project", PROJECT])
    with pytest.raises(SystemExit) as stop:
        ascent.cli.main()
    assert stop.value.code == 2
    expected = "error: wandb is not installed: pip install 'ascent-rl[wandb]'\n"
    assert capsys.readouterr().err == expected


def test_a_table_without_rows_is_no_table(tmp_path: Path) -> None:
    """A report on one system has no comparisons: its comparisons.csv is an empty line."""
    (tmp_path / "provenance.json").write_text("{}")
    (tmp_path / "comparisons.csv").write_text("\n")
    (tmp_path / "scores.csv").write_text("system,mean\nppo,1.0\n")
    report = report_payload(tmp_path)
    assert list(report.tables) == ["scores"]
    assert str(tmp_path / "comparisons.csv") in report.files
