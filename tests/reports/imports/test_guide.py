"""docs/importing.md: its commands work as they stand there, and its table has every format."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter

from ascent.records.read import load
from ascent.reports.imports.recognise import FORMATS
from tests.command import call

GUIDE = (Path(__file__).parents[3] / "docs" / "importing.md").read_text()
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the files that the commands name."""
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        folder = tmp_path / "logs" / f"seed_{seed}"
        folder.mkdir(parents=True)
        arrays = {"timesteps": np.array([500, 1000]), "results": np.full((2, 5), 9.0 + seed)}
        np.savez(folder / "evaluations.npz", **arrays, ep_lengths=np.full((2, 5), 9))
        run = tmp_path / "cleanrl" / "runs" / f"CartPole-v1__ppo__{seed}__1700000000"
        with SummaryWriter(str(run)) as writer:
            for step in range(500 + seed, 40_001, 500):
                writer.add_scalar("charts/episodic_return", step / 100, step)
    np.save(tmp_path / "returns.npy", np.arange(12.0).reshape(2, 6))
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str, place: Path, capsys: pytest.CaptureFixture) -> None:
    words = []
    for word in shlex.split(command)[1:]:
        words += sorted(str(path.relative_to(place)) for path in place.glob(word)) if "*" in word else [word]
    code, out, err = call(capsys, *words)
    assert code == 0, err
    (cell,) = load(place / "runs")
    assert out.strip() == f"runs/{cell.name.folder}" and cell.complete and len(cell.runs) == 2


def test_formats() -> None:
    table = GUIDE.partition("## Formats")[2].partition("## One grid")[0]
    assert re.findall(r"^\| `([a-z0-9-]+)` \| ", table, re.MULTILINE)[1:] == [*FORMATS]
