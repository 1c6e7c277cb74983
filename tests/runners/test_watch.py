"""Watch and kept policies: the film is of the episode that was played; what cannot be filmed is refused."""

import shutil
from pathlib import Path

import imageio.v2 as imageio
import numpy as np
import pytest

from ascent import suites
from ascent.runners import policies, robustness
from ascent.runners.train import train
from ascent.suites.perturb import NOMINAL, Perturbation
from ascent.suites.render import Camera
from tests.command import call
from tests.small import results, small_cell

SEEDS = [0, 1]


def cell(task: str):
    system = {"particle": "ippo", "classic": "a2c", "mujoco": "td3"}[suites.TASKS[task].suite]
    return small_cell(system, task, points=4)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each suite, with the policies of every second evaluation."""
    folder = tmp_path_factory.mktemp("runs")
    for task in ("CartPole-v1", "Hopper-v5", "simple_tag_v3"):
        assert train(cell(task), SEEDS, folder, keep_policies=2)
    return folder


def run(runs: Path, task: str = "CartPole-v1") -> Path:
    return cell(task).folder(runs) / "seed-1"


def test_kept_policies(runs: Path, tmp_path: Path) -> None:
    """Those of every second evaluation; the last is the final one; killed and resumed, the same bytes; and
    the results are those of a run that kept none.
    """
    small = cell("CartPole-v1")
    kept = sorted(path.name for path in run(runs).glob("policy-*.npz"))
    assert kept == ["policy-0.npz", "policy-120.npz", "policy-60.npz"]
    assert (run(runs) / "policy-120.npz").read_bytes() == (run(runs) / "policy.npz").read_bytes()
    assert (run(runs) / "policy-0.npz").read_bytes() != (run(runs) / "policy-60.npz").read_bytes()
    countdown = iter(range(1000))
    out = tmp_path / "stopped"
    while not train(small, SEEDS, out, stop=lambda: next(countdown) % 20 == 19, keep_policies=2):
        pass
    for name in kept:
        assert (run(out) / name).read_bytes() == (run(runs) / name).read_bytes()
    assert train(small, SEEDS, tmp_path / "none")
    assert not list(run(tmp_path / "none").glob("policy-*.npz"))
    assert (
        results(small, runs, SEEDS) == results(small, out, SEEDS) == results(small, tmp_path / "none", SEEDS)
    )


@pytest.mark.parametrize("task", ["CartPole-v1", "Hopper-v5", "simple_tag_v3"])
def test_film(task: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """As many different pictures as the episode has, and its return."""
    try:
        Camera(suites.make(task, np.array([[0]])))
    except RuntimeError as error:
        pytest.skip(str(error))
    target = tmp_path / "new" / "a.gif"
    code, out, _ = call(capsys, "watch", str(run(runs, task)), "--out", str(target), "--episode", "2")
    score, _, length, _ = out.splitlines()[0].removeprefix("return ").split()
    assert code == 0 and out.splitlines()[1] == str(target)
    pictures = imageio.mimread(target)
    every = 5 if task == "Hopper-v5" else 2 if task == "CartPole-v1" else 1
    assert 1 < len(pictures) <= -(-int(length) // every)  # the same picture twice is one, longer
    assert all(picture.ndim == 3 and picture.std() > 1 for picture in pictures)
    assert (pictures[0] != pictures[-1]).any()
    assert [path.name for path in target.parent.iterdir()] == ["a.gif"]
    if not suites.TASKS[task].team:
        small, seeds = cell(task), [1]
        agent = policies.load(small, small.folder(runs), seeds)
        ((*_, played),) = robustness.play_level(agent, small, seeds, Perturbation(NOMINAL, 0.0), 3)
        assert float(score.replace(",", "")) == pytest.approx(played[0], abs=0.1) and int(length) == played[1]


def test_the_camera_follows() -> None:
    """However far a runner has come, it is in the picture."""
    batch = suites.make("HalfCheetah-v5", np.array([[0]]))
    try:
        camera = Camera(batch)
    except RuntimeError as error:
        pytest.skip(str(error))
    batch.reset()
    for place in (0.0, 60.0):
        batch._physics[0] = place
        picture = camera.picture().astype(int)
        assert (picture[..., 0] - picture[..., 2] > 30).sum() > 500  # its brown; the ground is grey and green


def test_perturbed_film_of_a_kept_policy(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Another policy plays another episode; so does one under a perturbation; an MP4 is a film, too."""
    told = set()
    for k, words in enumerate((["--step", "0"], ["--step", "120"], ["--perturb", "gravity=10"])):
        code, out, _ = call(capsys, "watch", str(run(runs)), "--out", str(tmp_path / f"{k}.mp4"), *words)
        assert code == 0
        told.add(out.splitlines()[0])
        with imageio.get_reader(tmp_path / f"{k}.mp4") as reader:
            assert reader.get_meta_data()["fps"] == 25 and reader.count_frames() > 1
    assert len(told) > 1


BAD = {
    "name": (["--out", "a.avi"], "a.avi: the name must end in .gif or .mp4"),
    "episode": (["--episode", "-1"], "episode must be at least 0, not -1"),
    "step": (
        ["--step", "100"],
        "policy-100.npz is missing: there is no policy to play; policies were kept",
    ),
    "kind": (["--perturb", "friction=2"], "CartPole-v1 has no 'friction' to perturb; it has: drop,"),
    "level": (["--perturb", "drop=2"], "drop: 2 must be a number from 0 to 1"),
    "levels": (["--perturb", "mass"], "--perturb mass: give one level, such as mass=0.5"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One line, exit code 2, nothing written."""
    words, message = BAD[name]
    if "--out" not in words:
        words = [*words, "--out", str(tmp_path / "x" / "a.gif")]
    code, out, err = call(capsys, "watch", str(run(runs)), *words)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_nominal_perturbation_is_none(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    told = [
        call(capsys, "watch", str(run(runs)), "--out", str(tmp_path / "a.gif"), *words)[1]
        for words in ([], ["--perturb", "nominal"])
    ]
    assert told[0] == told[1]


def test_refused_runs(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A folder that is no run's, a team under a perturbation, a damaged policy."""
    copied = shutil.copytree(runs, tmp_path / "runs")
    (run(copied) / "policy-60.npz").write_bytes(b"no archive")
    (run(copied) / "policy-0.npz").write_bytes((run(copied, "Hopper-v5") / "policy-0.npz").read_bytes())
    for folder, words, message in (
        (runs, [], "is not a run folder"),
        (run(runs).parent, [], "is not a run folder"),
        (run(runs, "simple_tag_v3"), ["--perturb", "mass=2"], "simple_tag_v3 has several agents"),
        (run(copied), ["--step", "60"], "policy-60.npz is damaged"),
        (run(copied), ["--step", "0"], "seed-1: the policy does not belong to CartPole-v1 a2c"),
        (run(copied).parent / "seed-9", [], "seed-9 is not a run folder"),
    ):
        code, _, err = call(capsys, "watch", str(folder), "--out", str(tmp_path / "a.gif"), *words)
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, (folder, err)
        assert message in err
    assert not (tmp_path / "a.gif").exists()


def test_what_cannot_be_drawn(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what draws is not installed, one line says what to install."""

    def make(*words: object, **options: object) -> None:
        raise ImportError("no pygame")

    monkeypatch.setattr("ascent.suites.render.gymnasium.make", make)
    code, _, err = call(capsys, "watch", str(run(runs)), "--out", str(tmp_path / "a.gif"))
    assert code == 2 and "cannot be drawn here (no pygame): pip install 'ascent[watch]'" in err
    assert not list(tmp_path.iterdir())
