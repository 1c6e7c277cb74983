"""The recorded sources are what trains a run, and nothing else."""

import subprocess
import sys

import pytest

from ascent.algorithms import SYSTEMS
from ascent.runners.platform import training_sources


@pytest.mark.parametrize("system", ["sac", "ppo", "maddpg"])
def test_sources_are_what_a_training_process_loads(system: str) -> None:
    """In a process that is ready to train: no module is missing, and none is superfluous."""
    code = (
        f"import sys, ascent.runners.pack, ascent.algorithms.{SYSTEMS[system].algorithm}\n"
        "print(*(name for name in sys.modules if name.startswith('ascent.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = (name.removesuffix(".py").replace("/", ".") for name in training_sources(system))
    assert {name.removesuffix(".__init__") for name in names} == set(done.stdout.split())
