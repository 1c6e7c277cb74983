"""Conversions of the settings in `algorithms/sources/a2c.toml` to the fields of A2C's Config."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascent.algorithms import a2c

SOURCES = tomllib.loads(Path(a2c.__file__).with_name("sources").joinpath("a2c.toml").read_text())


def zoo(settings: dict[str, Any]) -> dict[str, Any]:
    s = SOURCES["zoo"]["settings"]["default"] | settings
    assert s["use_rms_prop"] and not s["normalize_advantage"]
    assert s["log_std_init"] == 0 or s["use_sde"], "of plain exploration it would have to be a field"
    rate = str(s["learning_rate"])
    return {
        "envs": s["n_envs"],
        "steps": s["n_steps"],
        "learning_rate": float(rate.removeprefix("lin_")),
        "anneal": rate.startswith("lin_"),
        "rmsprop": "torch",
        "rms_decay": s["rms_prop_alpha"],
        "rms_eps": s["rms_prop_eps"],
        "gamma": s["gamma"],
        "lam": s["gae_lambda"],
        "value_coef": s["vf_coef"],
        "entropy_coef": s["ent_coef"],
        "max_grad_norm": s["max_grad_norm"],
        "hidden": tuple(s["net_arch"]),
        "init": "orthogonal" if s["ortho_init"] else "torch",
        "normalise": s["normalize"],
    }


def baselines(s: dict[str, Any]) -> dict[str, Any]:
    assert s["network"] == "mlp" and s["lrschedule"] == "linear"
    return {
        "envs": 16,
        "steps": s["nsteps"],
        "learning_rate": s["lr"],
        "anneal": True,
        "rmsprop": "tensorflow",
        "rms_decay": s["alpha"],
        "rms_eps": s["epsilon"],
        "gamma": s["gamma"],
        "lam": 1.0,
        "value_coef": s["vf_coef"],
        "entropy_coef": s["ent_coef"],
        "max_grad_norm": s["max_grad_norm"],
        "hidden": (s["num_hidden"],) * s["num_layers"],
        "init": "orthogonal",
        "normalise": False,
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"zoo": zoo, "baselines": baselines}
