"""What `ascent tune` searches: `algorithms/spaces/<algorithm>.toml`, or a user's file.

learning_rate = { low = 1e-5, high = 1e-2, log = true }  # a range; log: uniform in the logarithm
epochs = { low = 3, high = 20 }                          # between whole numbers: whole numbers
gamma = { choices = [0.95, 0.98, 0.99] }                 # some values, also texts, flags or lists

Values from a range of floats have four significant digits, so that they can be typed.
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from ascent import algorithms
from ascent.algorithms import SYSTEMS
from ascent.records import files
from ascent.records.errors import InputError, unknown

FOLDER = Path(algorithms.__file__).parent / "spaces"
MOST_BYTES = 100_000  # of a file
MOST_CHOICES = 1_000
KEYS = ("low", "high", "log", "choices")
DIGITS = 4  # of values from a range of floats


@dataclass(frozen=True)
class Parameter:
    """What is searched of one hyperparameter: a range, of whole numbers if both ends are, or choices."""

    low: float = 0
    high: float = 0
    log: bool = False
    choices: tuple[Any, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether it is a range of whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def contains(self, value: Any) -> bool:
        """Return whether a value is one of the choices, or in the range."""
        if self.choices:
            return value in self.choices
        number = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return number and self.low <= value <= self.high

    def rounded(self, value: float) -> float:
        """Return a value of a range of floats with four significant digits, within the range."""
        return float(min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high))

    def to_json(self) -> dict[str, Any]:
        """Return the table that the file has."""
        if self.choices:
            return {"choices": list(self.choices)}
        return {"low": self.low, "high": self.high, "log": self.log}


Space = dict[str, Parameter]


def default(system: str) -> Space:
    """Return the space of a system of the suite. Raises InputError for an algorithm from outside."""
    path = FOLDER / f"{SYSTEMS[system].algorithm}.toml"
    if SYSTEMS[system].own or not path.exists():
        raise InputError(f"{system} has no space of its own: give one with --space FILE (docs/tuning.md)")
    return load(path, system)


def load(path: Path, system: str) -> Space:
    """Return the space in a file, checked against the system's hyperparameters.

    Raises:
        InputError: it names the file, and what is wrong with it.
    """
    try:
        content = tomllib.loads(files.read(path.resolve(), MOST_BYTES).decode("utf-8-sig"))
        return parse(content, system)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (InputError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from error


def parse(content: Mapping[str, Any], system: str) -> Space:
    """Return the space in a table of hyperparameters. Raises InputError that names the culprit."""
    if not content:
        raise InputError("it has no hyperparameters")
    config = SYSTEMS[system].module().Config
    types = get_type_hints(config, include_extras=True)
    space = {}
    for name, table in content.items():
        if name not in types:
            raise unknown(f"hyperparameter of {system}", name, types)
        try:
            space[name] = _parameter(table)
            for value in space[name].choices or (space[name].low, space[name].high):
                _check(value, types[name])
        except InputError as error:
            raise InputError(f"{name}: {error}") from error
    return space


def _parameter(table: Any) -> Parameter:
    if not isinstance(table, Mapping):
        raise InputError(f"{table!r} must be a table such as {{ low = 1e-5, high = 1e-2, log = true }}")
    for key in table:
        if key not in KEYS:
            raise unknown("key", key, KEYS)
    if "choices" in table:
        return _choices(table)
    for key in ("low", "high"):
        if key not in table:
            raise InputError(f"it needs low and high, or choices; missing key {key!r}")
        value = table[key]
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise InputError(f"{key} must be a finite number, not {value!r}")
    low, high, log = table["low"], table["high"], table.get("log", False)
    if not isinstance(log, bool):
        raise InputError(f"log must be true or false, not {log!r}")
    if low >= high:
        raise InputError(f"low = {low} must be below high = {high}")
    if log and low <= 0:
        raise InputError(f"low = {low} must be above 0, as log is true")
    if isinstance(low, int) != isinstance(high, int):
        low, high = float(low), float(high)
    return Parameter(low, high, log)


def _choices(table: Mapping[str, Any]) -> Parameter:
    choices = table["choices"]
    if len(table) > 1:
        raise InputError("it has either choices, or low and high")
    if not isinstance(choices, list) or not 2 <= len(choices) <= MOST_CHOICES:
        raise InputError(f"choices must be an array of 2 to {MOST_CHOICES:,} values, not {choices!r}")
    for value in choices:
        if choices.count(value) > 1:
            raise InputError(f"choices has {value!r} twice")
    return Parameter(choices=tuple(choices))


def _check(value: Any, kind: Any) -> None:
    """Raise InputError unless a value is valid for a hyperparameter of this type."""
    try:
        TypeAdapter(kind).validate_json(json.dumps(value, default=str), strict=True)
    except ValidationError as error:
        raise InputError(f"{value!r}: {error.errors()[0]['msg']}") from error
