"""Conversions of the settings in `algorithms/sources/trpo.toml` to the fields of TRPO's Config."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascent.algorithms import trpo

SOURCES = tomllib.loads(Path(trpo.__file__).with_name("sources").joinpath("trpo.toml").read_text())


def zoo(settings: dict[str, Any]) -> dict[str, Any]:
    s = SOURCES["zoo"]["settings"]["default"] | settings
    assert s["normalize_advantage"] and s["ortho_init"] and s["sub_sampling_factor"] == 1
    assert s["log_std_init"] == 0
    return {
        "envs": s["n_envs"],
        "steps": s["n_steps"],
        "gamma": s["gamma"],
        "lam": s["gae_lambda"],
        "kl": "new_old",  # kl_divergence(distribution, old_distribution)
        "per_dimension": True,  # and .mean() over samples and dimensions
        "delta": s["target_kl"],
        "cg_steps": s["cg_max_steps"],
        "damping": s["cg_damping"],
        "search_steps": s["line_search_max_iter"],
        "shrink": s["line_search_shrinking_factor"],
        "value_epochs": s["n_critic_updates"],
        "minibatch": s["batch_size"],
        "learning_rate": s["learning_rate"],
        "adam_eps": s["adam_eps"],
        "hidden": tuple(s["net_arch"]),
        "normalise": s["normalize"],
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"zoo": zoo}
