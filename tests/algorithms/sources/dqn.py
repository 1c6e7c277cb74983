"""Conversions of the settings in `algorithms/sources/dqn.toml` to the fields of DQN's Config."""

from collections.abc import Callable
from typing import Any

PLAIN = {"envs": 1, "updates": 1, "anneal": False, "adam_eps": 1e-8, "double": False}
NONE = 1e9  # a threshold that nothing reaches


def cleanrl(s: dict[str, Any]) -> dict[str, Any]:
    assert s["tau"] == 1 and s["start_e"] == 1
    return {
        **PLAIN,
        "envs": s["num_envs"],
        "capacity": s["buffer_size"],
        "batch": s["batch_size"],
        "learning_starts": s["learning_starts"],
        "train_every": s["train_frequency"],
        "target_every": s["target_network_frequency"] // s["train_frequency"],
        "learning_rate": s["learning_rate"],
        "gamma": s["gamma"],
        "epsilon_end": s["end_e"],
        "exploration": s["exploration_fraction"],
        "huber": NONE,
        "max_grad_norm": NONE,
        "hidden": tuple(s["hidden"]),
    }


def zoo(s: dict[str, Any]) -> dict[str, Any]:
    updates = s["train_freq"] if s["gradient_steps"] == -1 else s["gradient_steps"]
    # Between two blocks of updates the network stands still, and all copies are alike.
    between = max(s["target_update_interval"], s["train_freq"])
    return {
        **PLAIN,
        "capacity": s["buffer_size"],
        "batch": s["batch_size"],
        "learning_starts": max(1, s["learning_starts"]),
        "train_every": s["train_freq"],
        "updates": updates,
        "target_every": between * updates // s["train_freq"],
        "learning_rate": s["learning_rate"],
        "gamma": s["gamma"],
        "epsilon_end": s["exploration_final_eps"],
        "exploration": s["exploration_fraction"],
        "huber": 1.0,
        "max_grad_norm": s["max_grad_norm"],
        "hidden": tuple(s["net_arch"]),
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"cleanrl": cleanrl, "zoo": zoo}
