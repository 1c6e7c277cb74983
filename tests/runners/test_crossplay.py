"""Crossplay: who plays whom is what the table says, the same bytes again, and what cannot play is refused."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from ascent import suites
from ascent.algorithms.seedwise import Streams
from ascent.records import files
from ascent.records.cell import Cell
from ascent.reports.statistics import crossplay as statistics
from ascent.reports.statistics.crossplay_table import read
from ascent.runners import crossplay
from ascent.runners.play import env_seeds
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from ascent.suites.spec import leaves
from tests.command import call
from tests.small import small_cell

TASK, SOFT = "simple_adversary_v3", "simple_world_comm-openai"
SYSTEMS, SEEDS, EPISODES = ("ippo", "maddpg"), [0, 1, 2], 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems on two tasks, three seeds."""
    folder = tmp_path_factory.mktemp("runs")
    for task in (TASK, SOFT):
        for system in SYSTEMS:
            assert train(small_cell(system, task, points=1), SEEDS, folder)
    return folder


@pytest.fixture
def copied(runs: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(runs, tmp_path / "runs")


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def finished(cell: Cell) -> object:
    """The cell's agent at the end of its training."""
    trainer = Trainer(cell, SEEDS)
    while trainer.step < cell.steps:
        trainer.advance()
    return trainer.agent


def returns(task: str, teams: dict[str, object]) -> np.ndarray:
    """(S, episodes, N): what the agents of each side get where each acts as a team of its own would."""
    spec, seeds = suites.TASKS[task], env_seeds(SEEDS, EPISODES, "crossplay")
    env, rng = suites.make(task, seeds), Streams(SEEDS, "test")
    obs, total = torch.from_numpy(env.reset()), 0.0
    for _ in range(spec.horizon):
        acted, parts, end = {side: team.act(obs, rng, False, 1.0)[0] for side, team in teams.items()}, [], 0
        for side, space in zip(spec.team.sides, spec.action_space, strict=True):
            start = end
            end += 1 if spec.choices is not None else sum(leaf.shape[0] for leaf in leaves(space))
            parts.append(acted[side][..., start:end])
        action = torch.cat(parts, -1).numpy()
        step = env.step(action if spec.bounds is None else action.clip(0, 1))
        obs, total = torch.from_numpy(step.obs), total + step.reward
    return total


@pytest.mark.parametrize("task", [TASK, SOFT])
def test_each_side_plays_its_own_policy(task: str, runs: Path) -> None:
    """Every pair and seed against episodes played by the trained agents themselves, one agent's part of the
    actions after the other.
    """
    trained = crossplay.find(task, runs)
    assert [one.name for one in trained] == list(SYSTEMS)
    team, agents = suites.TASKS[task].team, {one.name: finished(one.cell) for one in trained}
    hostile = np.array([side == "adversary" for side in team.sides])
    found, different = rows(crossplay.record(trained, EPISODES)), set()
    assert len(found) == 4 * len(SEEDS)
    for row in found:
        played = returns(task, {"adversary": agents[row["adversaries"]], "agent": agents[row["agents"]]})
        own = played[SEEDS.index(int(row["seed"]))]
        assert float(row["adversaries_return"]) == pytest.approx(own[:, hostile].mean(), rel=1e-12)
        assert float(row["agents_return"]) == pytest.approx(own[:, ~hostile].mean(), rel=1e-12)
        assert row["episodes"] == str(EPISODES)
        assert {name for name, _ in team.measures} < row.keys()
        different.add((row["adversaries_return"], row["agents_return"]))
    assert len(different) == len(found)
    cells = {one.name: one.cell.digest for one in trained}
    assert all(row["adversaries_cell"] == cells[row["adversaries"]] for row in found)
    assert all(row["agents_cell"] == cells[row["agents"]] for row in found)


def test_a_seed_plays_by_itself(runs: Path, copied: Path) -> None:
    """The same bytes again, and for a seed whose fellows are not there."""
    whole = crossplay.record(crossplay.find(TASK, runs), EPISODES)
    assert crossplay.record(crossplay.find(TASK, runs), EPISODES) == whole
    for folder in (copied / "particle" / TASK).glob("*/seed-[02]"):
        shutil.rmtree(folder)
    alone = crossplay.record(crossplay.find(TASK, copied), EPISODES).splitlines()
    assert alone == [line for line in whole.splitlines() if b",1,3," in line or b"seed" in line]
    assert len(alone) == 5


def test_command(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Table, records and figure, and the same bytes again."""
    words = ["crossplay", TASK, "--runs", str(copied), "--episodes", "2", "--out"]
    code, out, _ = call(capsys, *words, str(tmp_path / "a"))
    assert code == 0 and out.splitlines()[-1] == str(tmp_path / "a") and "\N{HORIZONTAL ELLIPSIS}" not in out
    assert "seed k against seed k, seeds 0-2" in out and "fewer than 10 seeds" in out
    call(capsys, *words, str(tmp_path / "b"), "--systems", "ippo,maddpg")
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {"crossplay.csv", "crossplay.png", "crossplay.pdf"}
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    content = (tmp_path / "a" / "crossplay.csv").read_bytes()
    assert content == crossplay.record(crossplay.find(TASK, copied), 2)
    for matrix in statistics.matrices(read(content)):
        column = matrix.title.replace(" ", "_")
        for i, adversaries in enumerate(SYSTEMS):
            for j, agents in enumerate(SYSTEMS):
                pair = [r for r in rows(content) if (r["adversaries"], r["agents"]) == (adversaries, agents)]
                sample = np.array([float(row[column]) for row in pair])
                assert matrix.mean[i, j] == pytest.approx(sample.mean())
                if sample.std() > 0:
                    limits = stats.t.interval(0.95, 2, sample.mean(), stats.sem(sample))
                    assert (matrix.low[i, j], matrix.high[i, j]) == pytest.approx(limits)


def seed(runs: Path, system: str = "ippo") -> Path:
    return small_cell(system, TASK, points=1).folder(runs) / "seed-1"


def unfinished(runs: Path) -> None:
    (seed(runs) / "result.json").unlink()


def without_policy(runs: Path) -> None:
    (seed(runs) / "policy.npz").unlink()


def damaged(runs: Path) -> None:
    path = seed(runs) / "policy.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def diverged(runs: Path) -> None:
    path = seed(runs) / "result.json"
    files.write_json(path, files.read_json(path) | {"status": "diverged"})


def without_digests(runs: Path) -> None:
    path = seed(runs) / "result.json"
    files.write_json(path, files.read_json(path) | {"digests": None})


def without_suite(runs: Path) -> None:
    path = seed(runs).parent / "cell.json"
    files.write_json(path, files.read_json(path) | {"suite": 5})


def fewer_seeds(runs: Path) -> None:
    shutil.rmtree(seed(runs))


def second_cell(runs: Path) -> None:
    train(small_cell("ippo", TASK, points=1, gamma=0.5), SEEDS[:1], runs)


def of_other_versions(runs: Path) -> None:
    cell = small_cell("ippo", TASK, points=1)
    older = Cell.from_json({**vars(cell), "evaluation": vars(cell.evaluation), "versions": {"algorithm": 0}})
    cell.folder(runs).rename(older.folder(runs))
    path = older.folder(runs) / "cell.json"
    files.write_json(path, files.read_json(path) | {"versions": older.versions, "digest": older.digest})


def renamed(runs: Path) -> None:
    folder = seed(runs).parent
    folder.rename(folder.with_name("ippo-code-0123456789"))


def nothing(runs: Path) -> None:
    pass


IPPO = small_cell("ippo", TASK, points=1).label()
BAD = {
    "cooperative": (
        nothing,
        ["simple_spread_v3"],
        "has no adversaries; tasks with adversaries:",
    ),
    "one agent": (nothing, ["CartPole-v1"], "has no adversaries"),
    "unknown task": (nothing, ["simple_tga_v3"], "did you mean 'simple_tag_v3'?"),
    "no runs": (nothing, ["simple_tag_v3"], "there are no runs of simple_tag_v3 in"),
    "unknown system": (nothing, [TASK, "--systems", "ippo,madpg"], "did you mean 'maddpg'?"),
    "not trained": (nothing, [TASK, "--systems", "ippo,mappo"], "there are no runs of mappo on"),
    "one system": (nothing, [TASK, "--systems", "ippo"], f"cross-play needs two cells; only {IPPO} is named"),
    "twice": (nothing, [TASK, "--systems", "ippo,ippo"], "is named twice"),
    "episodes": (nothing, [TASK, "--episodes", "0"], "episodes must be at least 1, not 0"),
    "unfinished": (unfinished, [TASK], "seed 1 is not finished"),
    "diverged": (diverged, [TASK], "have different seeds ("),
    "diverged, named": (diverged, [TASK, "--seeds", "0-1"], "has no policy of seed 1"),
    "no digests": (without_digests, [TASK], "result.json is damaged: digests"),
    "no suite": (without_suite, [TASK], "cell.json is damaged"),
    "no policy": (without_policy, [TASK], "policy.npz is missing"),
    "damaged": (damaged, [TASK], "policy.npz is damaged"),
    "other seeds": (fewer_seeds, [TASK], "have different seeds ("),
    "two cells": (
        second_cell,
        [TASK],
        "ippo: 2 cells match, choose one by its digest (--systems): ippo-code-",
    ),
    "two cells of one named": (second_cell, [TASK, "--systems", "ippo,maddpg"], "ippo: 2 cells match"),
    "other versions": (of_other_versions, [TASK], "was trained with other versions"),
    "renamed": (renamed, [TASK], "cell.json is damaged: it describes"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name: str, copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One line, exit code 2, nothing written."""
    spoil, words, message = BAD[name]
    spoil(copied)
    target = tmp_path / "out"
    code, out, err = call(capsys, "crossplay", *words, "--runs", str(copied), "--out", str(target))
    assert code == 2 and out == ""
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert not target.exists() and not list(copied.rglob("crossplay.csv"))


def test_a_digest_tells_two_cells_apart(copied: Path) -> None:
    """One of a system's two cells by its digest, or both, under names that differ."""
    second_cell(copied)
    cells = [small_cell("ippo", TASK, points=1, **other) for other in ({}, {"gamma": 0.5})]
    found = crossplay.find(TASK, copied, ["maddpg", cells[1].digest[:6]])
    assert [(one.name, one.cell) for one in found][1] == ("ippo", cells[1])
    both = crossplay.find(TASK, copied, [cell.digest for cell in cells])
    assert [one.name for one in both] == [f"ippo {cell.digest}" for cell in cells]


def test_chosen_seeds(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Where one has diverged, the others can still play; of one seed there is no interval."""
    whole = crossplay.record(crossplay.find(TASK, copied), EPISODES).splitlines()
    diverged(copied)
    words = ["--runs", str(copied), "--out", str(tmp_path), "--episodes", "3", "--seeds", "0"]
    code, out, _ = call(capsys, "crossplay", TASK, *words)
    assert code == 0 and "[" not in out.split("rows:")[0]
    content = (tmp_path / "crossplay.csv").read_bytes().splitlines()
    assert content == [line for line in whole if b",0,3," in line or b"seed" in line]


def test_a_wide_table_is_whole(copied: Path, capsys: pytest.CaptureFixture) -> None:
    """Every interval is there, or that there is none, however many cells there are."""
    for gamma in (0.5, 0.6, 0.7, 0.8, 0.9):
        train(small_cell("ippo", TASK, points=1, gamma=gamma), SEEDS, copied)
    names = ",".join(cell.name.rpartition("-")[2] for cell in (copied / "particle" / TASK).glob("*"))
    code, out, _ = call(
        capsys, "crossplay", TASK, "--runs", str(copied), "--systems", names, "--episodes", "1",
        "--out", str(copied / "out"),
    )  # fmt: skip
    assert code == 0 and "\N{HORIZONTAL ELLIPSIS}" not in out
    entries = 7 * 7 * len(statistics.matrices(read((copied / "out/crossplay.csv").read_bytes())))
    shown, _, caption = out.partition("rows:")
    assert shown.count("]") + shown.count("no interval") == entries and caption.count("]") == 1
