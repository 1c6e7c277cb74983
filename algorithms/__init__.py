"""The algorithms: one file each, and the list of systems.

A *system* is a name on the list: an algorithm file plus hyperparameter overrides. A *preset* holds the
settings of one source, declared in the file's `PRESETS`; `DEFAULTS` names the preset that each suite takes.
"""

import ctypes
import os
from pathlib import Path

# All of these must be set before torch and numpy load their matrix libraries; see the packing guarantee in
# seedwise/__init__.py. On every x86-64 processor with AVX2, choose the same code: results shall depend
# neither on its maker nor on AVX-512. numpy ignores features that the processor does not have.
PORTABLE = {
    "MKL_CBWR": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
    "OPENBLAS_CORETYPE": "Haswell",
}
_processor = Path("/proc/cpuinfo")
MATH = PORTABLE if _processor.exists() and " avx2 " in _processor.read_text() else {"MKL_CBWR": "AUTO"}
for _name, _value in MATH.items():
    os.environ.setdefault(_name, _value)
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # makes a GPU's matrix products deterministic

# The C library returns freed blocks of a megabyte or more to the system at once. Allocating them again costs
# thousands of page faults at every update of large networks, so keep them.
for _option, _bytes in ((-3, 2**25), (-1, 2**30)):  # M_MMAP_THRESHOLD (its maximum), M_TRIM_THRESHOLD
    getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)(_option, _bytes)

from collections.abc import Callable, Mapping  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from hashlib import sha256  # noqa: E402
from importlib import import_module  # noqa: E402
from typing import TYPE_CHECKING, Any, Protocol, cast  # noqa: E402

if TYPE_CHECKING:
    from ascent.algorithms.seedwise import Agent


class Algorithm(Protocol):
    """What an algorithm file defines. Multi-agent algorithms also define `TEAM = True`.

    A preset is a Config, or a table of Configs where the source has settings for single tasks. The table's
    keys are task ids, the kinds of tasks "openai", "discrete" and "continuous", and "default".
    """

    VERSION: int
    Config: type[Any]
    PRESETS: Mapping[str, Any]
    DEFAULTS: Mapping[str, str]  # the preset of each suite
    Agent: Callable[..., "Agent"]


@dataclass(frozen=True)
class System:
    """An algorithm file with a one-line description and the overrides of all of the file's presets.

    A file from outside the suite (`runners/own.py`) is loaded already: `own` is what it defines.
    """

    algorithm: str
    about: str
    overrides: dict[str, object] = field(default_factory=dict)
    defaults: dict[str, str] = field(default_factory=dict)  # where they differ from the file's DEFAULTS
    own: Algorithm | None = None
    file: Path | None = None  # of `own`
    content: bytes = b""  # of `file`, as it was loaded

    @property
    def sha256(self) -> str:
        """The digest of a file from outside the suite; "" for the suite's own files."""
        return sha256(self.content).hexdigest() if self.own else ""

    def module(self) -> Algorithm:
        """Return the algorithm file, imported."""
        if self.own:
            return self.own
        return cast(Algorithm, import_module(f"ascent.algorithms.{self.algorithm}"))

    def default_preset(self, suite: str) -> str:
        """Return the preset for a suite's tasks; that of a file from outside may be its first."""
        if self.own and suite not in self.own.DEFAULTS:
            return next(iter(self.own.PRESETS))
        return self.defaults.get(suite) or self.module().DEFAULTS[suite]


SYSTEMS: dict[str, System] = {
    "reinforce": System("reinforce", "REINFORCE: Monte Carlo policy gradient (Williams 1992)"),
    "vpg": System("vpg", "VPG: vanilla policy gradient with GAE (Schulman et al. 2016, OpenAI Spinning Up)"),
    "a2c": System("a2c", "A2C: advantage actor-critic (Mnih et al. 2016)"),
    "a3c": System("a3c", "A3C: asynchronous advantage actor-critic, simulated (Mnih et al. 2016)"),
    "trpo": System("trpo", "TRPO: trust region policy optimisation (Schulman et al. 2015)"),
    "ppo": System("ppo", "PPO with the clipped objective (Schulman et al. 2017)"),
    "dqn": System("dqn", "DQN: deep Q-learning (Mnih et al. 2015)"),
    "ddpg": System("ddpg", "DDPG: deep deterministic policy gradient (Lillicrap et al. 2016)"),
    "td3": System("td3", "TD3: twin delayed DDPG (Fujimoto et al. 2018)"),
    "sac": System("sac", "SAC, with a tuned temperature unless the preset fixes it (Haarnoja et al. 2018b)"),
    "sac-fixed": System(
        "sac",
        "SAC with a fixed temperature: the preset's initial one (Haarnoja et al. 2018a)",
        {"tune_alpha": False},
        {"mujoco": "haarnoja-2018a"},
    ),
    "rpc": System("rpc", "RPC: robust predictable control (Eysenbach et al. 2021)"),
    "maddpg": System("maddpg", "MADDPG: multi-agent DDPG, centralised critics (Lowe et al. 2017)"),
    "iddpg": System("maddpg", "Independent DDPG: MADDPG with local critics", {"local_critic": True}),
    "mappo": System("mappo", "MAPPO: multi-agent PPO, centralised values (Yu et al. 2022)"),
    "ippo": System(
        "mappo", "Independent PPO: MAPPO with local values (de Witt et al. 2020)", {"local_value": True}
    ),
}
