"""Conversions of the settings in `algorithms/sources/sac.toml` to the fields of SAC's Config."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascent.algorithms import sac

SOURCES = tomllib.loads(Path(sac.__file__).with_name("sources").joinpath("sac.toml").read_text())
PLAIN = {
    "envs": 1,
    "train_every": 1,
    "updates": 1,
    "adam_eps": 1e-8,
    "reward_scale": 1.0,
    "target_entropy_per_dim": -1.0,
    "log_alpha_loss": True,
    "resample_for_alpha": False,
    "environment_units": False,
    "tanh_log_std": False,
    "delay": 1,
}


def rates(policy: float, critics: float, alpha: float) -> dict[str, float]:
    return {"actor_learning_rate": policy, "critic_learning_rate": critics, "alpha_learning_rate": alpha}


def code(settings: dict[str, Any]) -> dict[str, Any]:
    s = SOURCES["code"]["settings"]["default"] | settings
    assert s["target_update_interval"] == 1 and s["target_entropy"] == "auto"
    return {
        **PLAIN,
        **rates(s["lr"], s["lr"], s["lr"]),
        "capacity": s["max_size"],
        "batch": s["batch_size"],
        "learning_starts": s["n_initial_exploration_steps"],
        "train_every": s["train_every_n_steps"],
        "updates": s["n_train_repeat"],
        "gamma": s["discount"],
        "tau": s["tau"],
        "reward_scale": s["reward_scale"],
        "tune_alpha": True,
        "alpha": 1.0,
        "hidden": tuple(s["hidden_layer_sizes"]),
    }


def paper(s: dict[str, Any]) -> dict[str, Any]:
    assert s["target_update_interval"] == 1 and s["entropy_target"] == "-dim(A)"
    return {
        **PLAIN,
        **rates(s["learning_rate"], s["learning_rate"], s["learning_rate"]),
        "capacity": s["replay_buffer_size"],
        "batch": s["number_of_samples_per_minibatch"],
        "learning_starts": 1_000,
        "updates": s["gradient_steps"],
        "gamma": s["discount"],
        "tau": s["target_smoothing_coefficient"],
        "tune_alpha": True,
        "alpha": 1.0,
        "log_alpha_loss": False,
        "hidden": (s["number_of_hidden_units_per_layer"],) * s["number_of_hidden_layers"],
    }


def haarnoja(settings: dict[str, Any]) -> dict[str, Any]:
    s = SOURCES["haarnoja-2018a"]["settings"]["default"] | settings
    assert s["target_update_interval"] == 1
    return {
        **PLAIN,
        **rates(s["lr"], s["lr"], s["lr"]),
        "capacity": int(s["max_replay_buffer_size"]),
        "batch": s["batch_size"],
        "learning_starts": s["n_initial_exploration_steps"],
        "updates": s["n_train_repeat"],
        "gamma": s["discount"],
        "tau": s["tau"],
        "reward_scale": s["scale_reward"],
        "tune_alpha": False,
        "alpha": 1.0,
        "hidden": (s["layer_size"],) * 2,
    }


def cleanrl(s: dict[str, Any]) -> dict[str, Any]:
    assert s["autotune"] and s["target_network_frequency"] == 1
    assert (s["LOG_STD_MIN"], s["LOG_STD_MAX"]) == (-5, 2), "the range of `tanh_log_std`"
    return {
        **PLAIN,
        **rates(s["policy_lr"], s["q_lr"], s["q_lr"]),
        "envs": s["num_envs"],
        "capacity": s["buffer_size"],
        "batch": s["batch_size"],
        "learning_starts": s["learning_starts"],
        "gamma": s["gamma"],
        "tau": s["tau"],
        "tune_alpha": s["autotune"],
        "alpha": 1.0,  # log_alpha begins at 0
        "log_alpha_loss": False,
        "resample_for_alpha": True,
        "environment_units": True,
        "tanh_log_std": True,
        "delay": s["policy_frequency"],
        "hidden": tuple(s["hidden"]),
    }


def zoo(settings: dict[str, Any]) -> dict[str, Any]:
    s = SOURCES["zoo"]["settings"]["default"] | settings
    assert s["target_update_interval"] == 1 and s["target_entropy"] == "auto"
    tuned = s["ent_coef"] == "auto"
    return {
        **PLAIN,
        **rates(s["learning_rate"], s["learning_rate"], s["learning_rate"]),
        "envs": s["n_envs"],
        "capacity": s["buffer_size"],
        "batch": s["batch_size"],
        "learning_starts": max(1, s["learning_starts"]),
        "train_every": s["train_freq"],
        "updates": s["gradient_steps"],
        "gamma": s["gamma"],
        "tau": s["tau"],
        "tune_alpha": tuned,
        "alpha": 1.0 if tuned else s["ent_coef"],
        "hidden": tuple(s["net_arch"]),
    }


def tianshou(s: dict[str, Any]) -> dict[str, Any]:
    assert s["n_step"] == 1
    return {
        **PLAIN,
        **rates(s["actor_lr"], s["critic_lr"], s["alpha_lr"]),
        "envs": s["num_training_envs"],
        "capacity": s["buffer_size"],
        "batch": s["batch_size"],
        "learning_starts": s["start_timesteps"],
        "train_every": s["collection_step_num_env_steps"],
        "updates": s["update_per_step"],
        "gamma": s["gamma"],
        "tau": s["tau"],
        "tune_alpha": s["auto_alpha"],
        "alpha": s["alpha"],
        "hidden": tuple(s["hidden_sizes"]),
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "code": code,
    "paper": paper,
    "haarnoja-2018a": haarnoja,
    "cleanrl": cleanrl,
    "zoo": zoo,
    "tianshou": tianshou,
}
