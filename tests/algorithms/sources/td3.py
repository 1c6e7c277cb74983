"""Conversions of the settings in `algorithms/sources/td3.toml` to the fields of TD3's Config."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascent.algorithms import td3

SOURCES = tomllib.loads(Path(td3.__file__).with_name("sources").joinpath("td3.toml").read_text())
PLAIN = {"envs": 1, "train_every": 1, "updates": 1, "adam_eps": 1e-8, "noise_decay": 1.0, "critics": 2}


def sfujim(preset: str, settings: dict[str, Any]) -> dict[str, Any]:
    s = SOURCES[preset]["settings"]["default"] | settings
    return {
        **PLAIN,
        "capacity": s.get("max_size", 1_000_000),
        "batch": s["batch_size"],
        "learning_starts": s["start_timesteps"],
        "learning_rate": s["lr"],
        "gamma": s["discount"],
        "tau": s["tau"],
        "noise": s["expl_noise"],
        "target_noise": s["policy_noise"],
        "target_clip": s["noise_clip"],
        "delay": s["policy_freq"],
        "hidden": tuple(s["hidden"]),
    }


def code(settings: dict[str, Any]) -> dict[str, Any]:
    return sfujim("code", settings)


def paper(settings: dict[str, Any]) -> dict[str, Any]:
    return sfujim("paper", settings)


def cleanrl(s: dict[str, Any]) -> dict[str, Any]:
    return {
        **PLAIN,
        "envs": s["num_envs"],
        "capacity": s["buffer_size"],
        "batch": s["batch_size"],
        "learning_starts": s["learning_starts"],
        "learning_rate": s["learning_rate"],
        "gamma": s["gamma"],
        "tau": s["tau"],
        "noise": s["exploration_noise"],
        "target_noise": s["policy_noise"],
        "target_clip": s["noise_clip"],
        "delay": s["policy_frequency"],
        "hidden": tuple(s["hidden"]),
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
        "learning_rate": s["learning_rate"],
        "gamma": s["gamma"],
        "tau": s["tau"],
        "noise": s["noise_std"] * s["dt"] ** 0.5 if correlated else s["noise_std"],
        "noise_decay": s["theta"] * s["dt"] if correlated else 1.0,
        "target_noise": s["target_policy_noise"],
        "target_clip": s["target_noise_clip"],
        "delay": s["policy_delay"],
        "critics": s["n_critics"],
        "hidden": tuple(s["net_arch"]),
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "code": code,
    "paper": paper,
    "cleanrl": cleanrl,
    "zoo": zoo,
}
