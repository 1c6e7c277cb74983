"""Convert the settings of RPC's authors to `rpc.Config`."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ascent import algorithms

SOURCES = Path(algorithms.__file__).parent / "sources" / "rpc.toml"


def authors(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the Config's fields, from arguments of train_eval.py; missing ones are as in preset `code`."""
    s = tomllib.loads(SOURCES.read_text())["code"]["settings"]["default"] | settings
    (rate,) = {s[f"{part}_learning_rate"] for part in ("actor", "critic", "alpha", "dual")}
    assert (s["clip_mean"], s["clip_min_stddev"], s["clip_max_stddev"]) == (30.0, 0.1, 10.0)  # constants here
    assert (s["critic_loss_weight"], s["target_update_period"], s["actor_fc_layers"]) == (0.5, 1, [])
    assert not (s["use_recurrent_actor"] or s["use_identity_encoder"])  # not expressible
    assert s["log_prob_reward_scale"] in ("auto", 0.0)  # lambda or nothing
    assert s["encoder_layers"] == s["critic_joint_fc_layers"] and s["initial_log_alpha"] == 0.0
    return {
        "envs": 1,
        "capacity": s["replay_buffer_capacity"],
        "batch": s["batch_size"],
        "learning_starts": s["initial_collect_steps"],
        "train_every": s["collect_steps_per_iteration"],
        "updates": s["train_steps_per_iteration"],
        "learning_rate": rate,
        "adam_eps": s["adam_epsilon"],
        "gamma": s["gamma"],
        "tau": s["target_update_tau"],
        "alpha": 1.0,
        "target_entropy_per_dim": s["target_entropy_per_dimension"],
        "reward_scale": s["reward_scale_factor"],
        "bottleneck": True,
        "rate": s["kl_constraint"],
        "bits": False,
        "first_lambda": s["initial_kl_coefficient"],
        "cost_in_reward": s["log_prob_reward_scale"] == "auto",
        "learned_prior": s["predict_prior"],
        "latent": s["latent_dim"],
        "hidden": tuple(s["encoder_layers"]),
        "model_hidden": tuple(s["predictor_layers"]),
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = dict.fromkeys(
    ("code", "latent_space", "vib", "vib_reward"), authors
)
