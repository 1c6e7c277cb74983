"""The presets of `algorithms/sources/reinforce.toml` have no public source."""

from collections.abc import Callable
from typing import Any

CONVERSIONS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
