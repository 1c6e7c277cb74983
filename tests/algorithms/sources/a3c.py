"""Conversions of the settings in `algorithms/sources/a3c.toml` to the fields of A3C's Config."""

from collections.abc import Callable
from typing import Any


def pfrl(s: dict[str, Any]) -> dict[str, Any]:
    assert s["pi_loss_coef"] == 1 and not s["keep_loss_scale_same"]
    return {
        "workers": s["processes"],
        "steps": s["t_max"],
        "learning_rate": s["lr"],
        "anneal": True,  # to zero over `steps`
        "rmsprop": "tensorflow",
        "rms_decay": s["alpha"],
        "rms_eps": s["eps"],
        "gamma": s["gamma"],
        "lam": 1.0,
        "reduction": "mean" if s["normalize_grad_by_t_max"] else "sum",
        "value_coef": s["v_loss_coef"] / 2,  # of half the squared error
        "entropy_coef": s["beta"],
        "max_grad_norm": s["max_grad_norm"],
        "hidden": (64, 64),
        "init": "orthogonal",
        "normalise": False,
    }


CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {"pfrl": pfrl}
