"""`ascent runs tensorboard`: what TensorBoard reads back is what the records say."""

import csv
import time
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ascent.records.seal import seal
from ascent.reports.mirror import tensorboard
from ascent.runners.train import train
from tests.command import call
from tests.reports import trained
from tests.reports.test_seal import contents
from tests.runners.test_faults import stopped

CELL = trained.cells()[0]


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def table(run: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((run / name).read_text().splitlines()))


def test_curves_are_the_records(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Of a finished run, and of one that was stopped; sealed runs give the same bytes."""
    stopped(CELL, runs, 60, [3])
    out = tmp_path / "events"
    code, said, err = call(capsys, "runs", "tensorboard", "--runs", str(runs), "--out", str(out))
    assert code == 0 and said == f"{out}: 7 runs\n", err
    for seed in (1, 3):
        run = CELL.run_folder(seed, runs)
        found = read(out / CELL.task / CELL.name / f"seed-{seed}")
        rows = [row for row in table(run, "eval.csv") if row["policy"] == "greedy"]
        steps = sorted({int(row["step"]) for row in rows})
        means = [
            np.mean([float(row["return"]) for row in rows if int(row["step"]) == step]) for step in steps
        ]
        assert [step for step, _ in found["eval/return"]] == steps
        assert np.allclose([value for _, value in found["eval/return"]], means, rtol=1e-6)
        metrics = table(run, "metrics.csv")
        name = next(name for name in metrics[0] if name != "step")
        assert [step for step, _ in found[f"metrics/{name}"]] == [int(row["step"]) for row in metrics]
        expected = [float(row[name]) for row in metrics]
        assert np.allclose([value for _, value in found[f"metrics/{name}"]], expected, rtol=1e-6)
        assert {"train/return", "train/length", "measures/value_states"} <= set(found)
        assert ("eval_sampled/return" in found) == (seed == 1), "only a finished run has it"
    before = contents(out)
    seal(CELL.folder(runs))
    code, _, _ = call(capsys, "runs", "tensorboard", CELL.digest, "--runs", str(runs), "--out", str(out))
    assert code == 0 and contents(out) == before


def test_training_is_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--tensorboard`: in the end there is what the records say, and these are the same as without."""
    monkeypatch.chdir(tmp_path)
    words = ["train", "a2c", "CartPole-v1", "--seeds", "0", "--steps", "400", "--evaluations", "4"]
    code, _, err = call(capsys, *words, "--tensorboard")
    assert code == 0, err
    assert call(capsys, "runs", "tensorboard", "--out", "again")[0] == 0
    assert contents(tmp_path / "out" / "tensorboard") == contents(tmp_path / "again") != {}
    assert call(capsys, *words, "--runs", "plain")[0] == 0
    (found,), (plain,) = (list(tmp_path.glob(f"{runs}/classic/*/*/seed-0")) for runs in ("runs", "plain"))
    for name in ("eval.csv", "metrics.csv", "policy.npz"):
        assert (found / name).read_bytes() == (plain / name).read_bytes()


def test_while_it_trains_the_files_grow(runs: Path, tmp_path: Path) -> None:
    stopped(CELL, runs, 60, [3])
    place = tmp_path / CELL.task / CELL.name / "seed-3"
    with tensorboard.following([CELL.folder(runs), runs / "not-yet"], tmp_path, seconds=0.05):
        deadline = time.monotonic() + 60
        while not list(place.glob("events.*")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        before = read(place)["eval/return"]
        assert train(CELL, [3], runs)
    after = read(place)["eval/return"]
    assert after[: len(before)] == before and len(after) > len(before)


def test_nothing_to_write(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, _, err = call(
        capsys, "runs", "tensorboard", "--runs", str(tmp_path), "--out", str(tmp_path / "out")
    )
    assert code == 2 and "there are no runs with evaluations" in err and not (tmp_path / "out").exists()
