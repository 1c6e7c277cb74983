"""From the settings of ppo.py's sources, as they state them, to our hyperparameters."""

from typing import Any


def from_cleanrl(s: dict[str, Any]) -> dict[str, Any]:
    return {
        "envs": s["num_envs"],
        "steps": s["num_steps"],
        "epochs": s["update_epochs"],
        "minibatch": s["num_envs"] * s["num_steps"] // s["num_minibatches"],
        "learning_rate": s["learning_rate"],
        "anneal": s["anneal_lr"],
        "anneal_from": "start",  # frac = 1 - (iteration - 1) / num_iterations
        "anneal_steps": None,
        "adam_eps": s["adam_eps"],
        "gamma": s["gamma"],
        "lam": s["gae_lambda"],
        "bootstrap_time_limit": False,  # done is terminated or truncated
        "normalise_advantage": s["norm_adv"],
        "clip": s["clip_coef"],
        "clip_value": s["clip_vloss"],
        "value_coef": s["vf_coef"],  # its value loss has the half, too
        "entropy_coef": s["ent_coef"],
        "max_grad_norm": s["max_grad_norm"],
        "hidden": tuple(s["hidden"]),
        "activation": "tanh",
        "log_std_init": s["actor_logstd"],
        "normalise": s["normalize"],
        "return_scaling": False,
    }


def from_tianshou(s: dict[str, Any]) -> dict[str, Any]:
    updates = -(-s["step_per_epoch"] // s["step_per_collect"]) * s["epoch"]
    return {
        "envs": s["training_num"],
        "steps": s["step_per_collect"] // s["training_num"],
        "epochs": s["repeat_per_collect"],
        "minibatch": s["batch_size"],
        "learning_rate": s["lr"],
        "anneal": s["lr_decay"],
        "anneal_from": "start",  # the scheduler steps after the update
        "anneal_steps": updates * s["step_per_collect"],
        "adam_eps": s["adam_eps"],
        "gamma": s["gamma"],
        "lam": s["gae_lambda"],
        "bootstrap_time_limit": True,
        "normalise_advantage": bool(s["norm_adv"]),
        "clip": s["eps_clip"],
        "clip_value": bool(s["value_clip"]),
        "value_coef": 2 * s["vf_coef"],  # its value loss is the whole square
        "entropy_coef": s["ent_coef"],
        "max_grad_norm": s["max_grad_norm"],
        "hidden": tuple(s["hidden_sizes"]),
        "activation": "tanh",
        "log_std_init": s["log_std_init"],
        "normalise": s["norm_obs"],
        "return_scaling": s["rew_norm"],
    }


def from_zoo(s: dict[str, Any]) -> dict[str, Any]:
    """What a key leaves out is the default of Stable-Baselines3."""
    envs, steps = s.get("n_envs", 1), s.get("n_steps", 2048)
    rate, clip = s.get("learning_rate", 3e-4), s.get("clip_range", 0.2)
    linear = isinstance(rate, str)
    return {
        "envs": envs,
        "steps": steps,
        "epochs": s.get("n_epochs", 10),
        "minibatch": min(s.get("batch_size", 64), envs * steps),
        "learning_rate": float(rate.removeprefix("lin_")) if linear else rate,
        "anneal": linear,
        "anneal_from": "end" if linear else "start",  # progress is set between rollout and update
        "anneal_steps": None,
        "adam_eps": 1e-5,
        "gamma": s.get("gamma", 0.99),
        "lam": s.get("gae_lambda", 0.95),
        "bootstrap_time_limit": True,
        "normalise_advantage": True,
        "clip": float(clip.removeprefix("lin_")) if isinstance(clip, str) else clip,
        "clip_value": False,  # clip_range_vf is None
        "value_coef": 2 * s.get("vf_coef", 0.5),  # its value loss is the whole square
        "entropy_coef": s.get("ent_coef", 0.0),
        "max_grad_norm": s.get("max_grad_norm", 0.5),
        "hidden": tuple(s.get("net_arch", (64, 64))),
        "activation": s.get("activation_fn", "Tanh").lower(),
        "log_std_init": s.get("log_std_init", 0.0),
        "normalise": s.get("normalize", False),
        "return_scaling": False,
    }


CONVERSIONS = {"cleanrl": from_cleanrl, "tianshou": from_tianshou, "zoo": from_zoo}
