"""From the settings of mappo.py's sources, as they state them, to our hyperparameters."""

from typing import Any


def from_code(s: dict[str, Any]) -> dict[str, Any]:
    assert s["lr"] == s["critic_lr"] and s["use_max_grad_norm"]
    return {
        "envs": s["n_rollout_threads"],
        "steps": s["episode_length"],
        "epochs": s["ppo_epoch"],
        "minibatch": s["n_rollout_threads"] * s["episode_length"] // s["num_mini_batch"],
        "learning_rate": s["lr"],
        "adam_eps": s["opti_eps"],
        "gamma": s["gamma"],
        "lam": s["gae_lambda"],
        "clip": s["clip_param"],
        "clip_value": s["use_clipped_value_loss"],
        "huber_delta": s["huber_delta"] if s["use_huber_loss"] else 0.0,
        "value_coef": float(s["value_loss_coef"]),  # its value loss has the half, too
        "entropy_coef": s["entropy_coef"],
        "max_grad_norm": s["max_grad_norm"],
        "bootstrap_time_limit": s["use_proper_time_limits"],
        "shared_reward": s.get("collaborative", False),
        "value_norm": s["use_valuenorm"],
        "local_value": not s["use_centralized_V"],
        "activation": "relu" if s["use_ReLU"] else "tanh",
        "hidden": (s["hidden_size"],) * (1 + s["layer_N"]),
    }


CONVERSIONS = {"code": from_code}
