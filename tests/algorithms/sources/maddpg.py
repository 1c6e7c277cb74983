"""From the settings of maddpg.py's sources, as they state them, to our hyperparameters."""

from typing import Any


def from_code(s: dict[str, Any]) -> dict[str, Any]:
    return {
        "envs": s["num_env"],
        "capacity": int(s["buffer_size"]),
        "batch": s["batch_size"],
        "learning_starts": s["batch_size"] * s["max_episode_len"],  # max_replay_buffer_len
        "train_every": s["update_every"],
        "actor_learning_rate": s["lr"],
        "critic_learning_rate": s["lr"],
        "adam_eps": s["adam_epsilon"],
        "gamma": s["gamma"],
        "tau": round(1 - s["polyak"], 10),
        "max_grad_norm": s["grad_norm_clipping"],
        "penalty": s["regularisation"],
        "simplex": s.get("distribution") == "SoftCategoricalPdType",
        "noise": 0.1,  # theirs is the variance that the policy learns
        "local_critic": s["good_policy"] == "ddpg",
        "hidden": (s["num_units"], s["num_units"]),
    }


CONVERSIONS = {"code": from_code}
