"""Conversions of the settings in `algorithms/sources/vpg.toml` to the fields of VPG's Config."""

from collections.abc import Callable
from typing import Any


def spinningup(s: dict[str, Any]) -> dict[str, Any]:
    return {
        "envs": s["cpu"],
        "steps": s["steps_per_epoch"] // s["cpu"],
        "learning_rate": s["pi_lr"],
        "value_learning_rate": s["vf_lr"],
        "value_epochs": s["train_v_iters"],
        "adam_eps": 1e-8,
        "gamma": s["gamma"],
        "lam": s["lam"],
        "entropy_coef": 0.0,
        "hidden": tuple(s["hidden_sizes"]),
        "init": "torch",
        "log_std_init": s["log_std"],
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"spinningup": spinningup}
