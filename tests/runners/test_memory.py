"""Memory for replay is asked for before anything is trained."""

from pathlib import Path

import pytest

import ascent.cli
import ascent.runners
import ascent.runners.memory
from ascent.records.errors import InputError
from ascent.runners.memory import GIB, check_memory, group_limits, memory, replay_bytes
from ascent.runners.resolve import resolve
from tests.small import small_cell


def test_replay_bytes() -> None:
    """Rows of two observations, action, reward and flag in float32; never more rows than the budget fills."""
    cheetah = resolve("sac", "HalfCheetah-v5", steps=2_000_000)
    assert replay_bytes(cheetah, 10) == 10 * 1_000_000 * (17 + 6 + 1 + 1 + 17) * 4
    short = resolve("sac", "HalfCheetah-v5", steps=1_000, overrides={"learning_starts": 100})
    assert replay_bytes(short, 3) == 3 * 1_000 * 42 * 4
    assert replay_bytes(small_cell("dqn", "CartPole-v1", steps=41, envs=2), 2) == 2 * 42 * (4 + 3 + 4) * 4
    assert replay_bytes(small_cell("dqn", "CartPole-v1", steps=4_000, capacity=99), 2) == 2 * 99 * 11 * 4
    assert replay_bytes(resolve("ppo", "HalfCheetah-v5"), 10) == 0


def test_memory_of_the_machine() -> None:
    """No more than the kernel says there is."""
    kernel = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert GIB / 4 < memory("cpu") <= kernel


def test_limits_of_control_groups(tmp_path: Path) -> None:
    """A cluster's job may use what its group and all groups above it may; "max" is no limit."""
    (tmp_path / "root" / "slurm" / "job").mkdir(parents=True)
    (tmp_path / "own").write_text("0::/slurm/job\n")
    for group, limit in (("slurm/job", "max"), ("slurm", "5000"), ("", "7000")):
        (tmp_path / "root" / group / "memory.max").write_text(limit + "\n")
    assert sorted(group_limits(tmp_path / "root", tmp_path / "own")) == [5000, 7000]
    assert group_limits(tmp_path / "root", tmp_path / "nowhere") == []


def test_processes_at_once_count_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest of those that may run at the same time."""
    small, large = (resolve("td3", "Hopper-v5", steps=steps) for steps in (50_000, 100_000))
    need = replay_bytes(large, 4) + replay_bytes(small, 4)
    packs = [(small, 4), (small, 4), (large, 4)]
    monkeypatch.setattr(ascent.runners.memory, "memory", lambda device: need)
    check_memory(packs, "cpu", workers=2)
    monkeypatch.setattr(ascent.runners.memory, "memory", lambda device: need - 1)
    check_memory(packs, "cpu", workers=1)
    with pytest.raises(
        InputError, match=r"td3 on Hopper-v5 with 4 seeds .* the 2 largest processes together"
    ):
        check_memory(packs, "cpu", workers=2)


def test_too_much_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """Exit code 2, the culprit named, nothing written."""
    monkeypatch.setattr(ascent.runners.memory, "memory", lambda device: GIB)
    words = ["ascent", "train", "sac", "HalfCheetah-v5", "--seeds", "0-9", "--runs", str(tmp_path / "runs")]
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as stopped:
        ascent.cli.main()
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(
        "error: memory: the replay of sac on HalfCheetah-v5 with 10 seeds in a process needs"
    )
    assert "1.6 GiB" in error and "this machine has 1.0 GiB" in error and "--pack" in error
    assert not (tmp_path / "runs").exists()
