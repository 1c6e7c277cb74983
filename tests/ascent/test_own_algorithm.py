"""docs/own-algorithm.md, followed to the letter, from an empty folder outside of the checkout."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ascent.records.files import read_json

PAGE = Path(__file__).parents[2] / "docs" / "own-algorithm.md"


def blocks(section: str) -> list[tuple[str, str]]:
    """The code blocks of a section of the page: language and content."""
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def run(folder: Path, commands: str) -> int:
    """Run the commands of a block, each of which must succeed. Returns how many there were."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    lines = commands.strip().splitlines()
    for line in lines:
        done = subprocess.run(
            ["bash", "-c", line], cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return len(lines)


@pytest.mark.slow
def test_the_tutorial(tmp_path: Path) -> None:
    ((_, begin),) = blocks("Begin")
    count = run(tmp_path, begin)
    (_, old), (_, new), (_, test) = blocks("Change it")
    text = (tmp_path / "mine.py").read_text()
    assert text.count(old) == 1
    (tmp_path / "mine.py").write_text(text.replace(old, new))
    count += run(tmp_path, test)
    (_, environment), (_, test) = blocks("Bring an environment")
    (tmp_path / "corridor.py").write_text(environment)
    count += run(tmp_path, test)
    (kind, sweep), (_, compare) = blocks("Compare it")
    assert kind == "toml"
    (tmp_path / "compare.toml").write_text(sweep)
    count += run(tmp_path, compare)
    assert count < 10
    about = read_json(tmp_path / "out" / "compare" / "provenance.json")["report"]
    assert {(cell["system"], cell["suite"]) for cell in about["expected"]} == {
        (system, suite) for system in ("mine", "a2c", "ppo") for suite in ("classic", "gym")
    }
    page = (tmp_path / "out" / "compare" / "index.html").read_text()
    assert "Across 2 tasks" in page
    assert about["left_out"] == {}
    assert (tmp_path / "out" / "compare.zip").is_file()
    assert (tmp_path / "out" / "compare" / "index.html").is_file()
