"""Conversions of the settings in `algorithms/sources/ddpg.toml` to the fields of DDPG's Config."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascent.algorithms import ddpg

SOURCES = tomllib.loads(Path(ddpg.__file__).with_name("sources").joinpath("ddpg.toml").read_text())
PLAIN = {
    "envs": 1,
    "train_every": 1,
    "updates": 1,
    "adam_eps": 1e-8,
    "critic_decay": 0.0,
    "noise_decay": 1.0,
    "output_bound": 0.0,
}


def cleanrl(s: dict[str, Any]) -> dict[str, Any]:
    return {
        **PLAIN,
        "capacity": s["buffer_size"],
        "batch": s["batch_size"],
        "learning_starts": s["learning_starts"],
        "actor_learning_rate": s["learning_rate"],
        "critic_learning_rate": s["learning_rate"],
        "gamma": s["gamma"],
        "tau": s["tau"],
        "noise": s["exploration_noise"],
        "delay": s["policy_frequency"],
        "hidden": tuple(s["hidden"]),
    }


def ourddpg(s: dict[str, Any]) -> dict[str, Any]:
    return {
        **PLAIN,
        "capacity": s["max_size"],
        "batch": s["batch_size"],
        "learning_starts": s["start_timesteps"],
        "actor_learning_rate": s["lr"],
        "critic_learning_rate": s["lr"],
        "gamma": s["discount"],
        "tau": s["tau"],
        "noise": s["expl_noise"],
        "delay": 1,
        "hidden": tuple(s["hidden"]),
    }


def paper(s: dict[str, Any]) -> dict[str, Any]:
    return {
        **PLAIN,
        "capacity": s["replay_buffer"],
        "batch": s["minibatch"],
        "learning_starts": 1_000,
        "actor_learning_rate": s["actor_learning_rate"],
        "critic_learning_rate": s["critic_learning_rate"],
        "critic_decay": s["critic_weight_decay"],
        "gamma": s["discount"],
        "tau": s["tau"],
        "noise": s["sigma"],
        "noise_decay": s["theta"],
        "delay": 1,
        "hidden": tuple(s["hidden"]),
        "output_bound": s["final_layers"],
    }


def zoo(settings: dict[str, Any]) -> dict[str, Any]:
    s = SOURCES["zoo"]["settings"]["default"] | settings
    correlated = s["noise_type"] == "ornstein-uhlenbeck"
    return {
        **PLAIN,
        "envs": s["n_envs"],
        "capacity": s["buffer_size"],
        "batch": s["batch_size"],
        "learning_starts": s["learning_starts"],
        "train_every": s["train_freq"],
        "updates": s["gradient_steps"],
        "actor_learning_rate": s["learning_rate"],
        "critic_learning_rate": s["learning_rate"],
        "gamma": s["gamma"],
        "tau": s["tau"],
        "noise": s["noise_std"] * s["dt"] ** 0.5 if correlated else s["noise_std"],
        "noise_decay": s["theta"] * s["dt"] if correlated else 1.0,
        "delay": s["policy_delay"],
        "hidden": tuple(s["net_arch"]),
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "cleanrl": cleanrl,
    "ourddpg": ourddpg,
    "paper": paper,
    "zoo": zoo,
}
