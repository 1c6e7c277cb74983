"""The recorded sources are what trains a run, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from ascent import kernels
from ascent.algorithms import SYSTEMS
from ascent.runners.platform import training_sources
from tests.small import rest_slow


@pytest.mark.parametrize("system", rest_slow(["sac", "ppo", "maddpg"]))
def test_sources_are_what_a_training_process_loads(system: str) -> None:
    """In a process that is ready to train: no module is missing, and none is superfluous."""
    code = (
        f"import sys, ascent.runners.pack, ascent.algorithms.{SYSTEMS[system].algorithm}\n"
        "print(*(name for name in sys.modules if name.startswith('ascent.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    sources = training_sources(system)
    modules = {name.removesuffix(".py").replace("/", ".") for name in sources if name.endswith(".py")}
    assert {name.removesuffix(".__init__") for name in modules} == set(done.stdout.split())
    compiled = {
        path.name for path in Path(kernels.__file__).parent.iterdir() if path.suffix in (".cpp", ".h")
    }
    assert {name.rpartition("/")[2] for name in sources if not name.endswith(".py")} == compiled


@pytest.mark.parametrize("module", rest_slow(["pack", "crossplay", "robustness", "watch"]))
def test_mathematical_functions_are_chosen_before_their_libraries_load(module: str) -> None:
    """In a process that nobody prepared: a variable set later would be in the platform key and do nothing."""
    code = f"import sys, ascent.runners.{module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert loaded.index("ascent.algorithms") < min(loaded.index("numpy"), loaded.index("torch"))
