"""Which systems a task takes, and which preset it gets where none is named."""

from pathlib import Path

import pytest

from ascent.runners.resolve import resolve
from tests.command import call

TEAM, ONE = "maddpg, iddpg, mappo, ippo", "reinforce, a2c, a3c, trpo, ppo, "
# Why, and who can do it.
REFUSED = {
    ("ppo", "simple_tag_v3"): ("ppo needs a single-agent task", TEAM),
    ("sac", "simple_spread_v3-continuous"): ("sac needs a single-agent task", TEAM),
    ("ddpg", "simple_world_comm-openai"): ("ddpg needs a single-agent task", TEAM),
    ("maddpg", "CartPole-v1"): ("maddpg needs a multi-agent task", f"{ONE}dqn"),
    ("ippo", "Pendulum-v1"): ("ippo needs a multi-agent task", f"{ONE}ddpg, td3, sac"),
    ("td3", "CartPole-v1"): ("td3 needs a continuous action space with bounds", f"{ONE}dqn"),
    ("dqn", "Hopper-v5"): ("dqn needs a discrete action space", f"{ONE}ddpg, td3, sac"),
}


@pytest.mark.parametrize(("system", "task"), REFUSED)
def test_refusal(
    system: str, task: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with all that can do it and no other, exit code 2, nothing written."""
    monkeypatch.chdir(tmp_path)
    reason, able = REFUSED[system, task]
    code, out, err = call(capsys, "train", system, task)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith(f"error: {task}: {reason}; supported algorithms: {able}")
    said = err.strip().split(": ")[-1].split(", ")
    assert system not in said and ("ppo" in said) != ("mappo" in said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("system", "task", "preset"),
    [
        ("maddpg", "simple_tag_v3", "code"),
        ("iddpg", "simple_tag-openai", "code"),
        ("mappo", "simple_tag-openai", "code"),
        ("ppo", "CartPole-v1", "classic"),
        ("ppo", "Pendulum-v1", "classic-continuous"),
        ("ddpg", "Hopper-v5", "mujoco"),
    ],
)
def test_preset_of_the_kind_of_task(system: str, task: str, preset: str) -> None:
    assert resolve(system, task).preset == preset
