"""The algorithms: one file each. This page is their list.

A *system* is a name on the list: an algorithm file plus settings of its own. A *preset* is a system's
settings for a suite or after a source, declared in the file's `PRESETS`.
"""

import ctypes
import os

# These must be set before torch and numpy load their matrix libraries; see the packing guarantee in
# seedwise.py.
os.environ.setdefault("MKL_CBWR", "AUTO")
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # a GPU's products the same each time

# The C library gives freed memory of a megabyte back at once, and taking it again costs page faults,
# thousands at every update of large networks: let it keep what it has.
for _option, _bytes in ((-3, 2**25), (-1, 2**30)):  # M_MMAP_THRESHOLD (its largest value), M_TRIM_THRESHOLD
    getattr(ctypes.CDLL(None), "mallopt", lambda *_: None)(_option, _bytes)

from dataclasses import dataclass, field  # noqa: E402
from importlib import import_module  # noqa: E402
from types import ModuleType  # noqa: E402


@dataclass(frozen=True)
class System:
    """An algorithm file and what this system changes in every preset of it."""

    algorithm: str
    overrides: dict[str, object] = field(default_factory=dict)

    def module(self) -> ModuleType:
        """The algorithm file: VERSION, Config, PRESETS, Agent."""
        return import_module(f"ascent.algorithms.{self.algorithm}")


SYSTEMS: dict[str, System] = {
    "reinforce": System("reinforce"),
    "a2c": System("a2c"),
    "a3c": System("a3c"),
    "trpo": System("trpo"),
    "ppo": System("ppo"),
    "dqn": System("dqn"),
    "ddpg": System("ddpg"),
    "td3": System("td3"),
    "sac": System("sac"),
    "sac-fixed": System("sac", {"tune": False, "alpha": 0.2}),
    "rpc": System("rpc"),
    "maddpg": System("maddpg"),
    "iddpg": System("maddpg", {"local_critic": True}),
    "mappo": System("mappo"),
    "ippo": System("mappo", {"local_value": True}),
}
