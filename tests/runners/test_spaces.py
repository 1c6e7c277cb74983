"""Spaces of hyperparameters: the default ones are valid, and every mistake in a file is one line."""

from pathlib import Path

import pytest

from ascent.algorithms import SYSTEMS
from ascent.records.errors import InputError
from ascent.runners import spaces
from ascent.runners.resolve import learnable, resolve


@pytest.mark.parametrize("system", SYSTEMS)
def test_default_spaces(system: str) -> None:
    """Every system has one, whose ends and choices its Config takes, one at a time, in the default preset."""
    space = spaces.default(system)
    cell = resolve(system, learnable(system)[0].id, steps=10**6)
    assert len(space) >= 4 and space.keys() <= cell.config.keys()
    for name, parameter in space.items():
        for value in parameter.choices or (parameter.low, parameter.high):
            resolve(system, cell.task, overrides={name: value}, steps=10**6)


@pytest.mark.parametrize(
    "text, error",
    [
        ("", "it has no hyperparameters"),
        ("gama = { low = 0.9, high = 0.99 }", "unknown hyperparameter of ppo 'gama'; did you mean 'gamma'?"),
        ("gamma = 0.9", "gamma: 0.9 must be a table such as"),
        ("gamma = { lo = 0.9, high = 1.0 }", "gamma: unknown key 'lo'; did you mean 'low'?"),
        ("gamma = { low = 0.9 }", "gamma: it needs low and high, or choices; missing key 'high'"),
        ("gamma = { low = 0.99, high = 0.9 }", "gamma: low = 0.99 must be below high = 0.9"),
        ("gamma = { low = 0.0, high = 0.9, log = true }", "gamma: low = 0.0 must be above 0, as log is true"),
        ("gamma = { low = 0.9, high = 1.5 }", "gamma: 1.5: Input should be less than or equal to 1"),
        ("gamma = { low = 0.9, high = nan }", "gamma: high must be a finite number, not nan"),
        ('gamma = { low = "0", high = 1 }', "gamma: low must be a finite number, not '0'"),
        ("gamma = { low = 0.9, high = 1.0, log = 1 }", "gamma: log must be true or false, not 1"),
        ("gamma = { choices = [0.9] }", "gamma: choices must be an array of 2 to 1,000 values"),
        ("gamma = { choices = [0.9, 0.9] }", "gamma: choices has 0.9 twice"),
        ("gamma = { choices = [0.9, 0.95], low = 0.8 }", "gamma: it has either choices, or low and high"),
        ("gamma = { choices = [0.9, 'x'] }", "gamma: 'x': Input should be a valid number"),
        ("epochs = { low = 1.0, high = 20 }", "epochs: 1.0: Input should be a valid integer"),
        ("epochs = { low = 0, high = 20 }", "epochs: 0: Input should be greater than or equal to 1"),
        ("gamma = {", "at end of document"),
    ],
)
def test_mistakes(text: str, error: str, tmp_path: Path) -> None:
    path = tmp_path / "space.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        spaces.load(path, "ppo")
    said = str(caught.value)
    assert error in said and said.startswith(str(path)) and "\n" not in said


def test_values_stay_in_their_range() -> None:
    """Also where four digits would leave it."""
    parameter = spaces.Parameter(0.123456, 0.2)
    assert parameter.rounded(0.123457) == 0.1235 and parameter.rounded(0.12344) == 0.123456
    assert parameter.rounded(0.17777777) == 0.1778


def test_an_own_algorithm_needs_a_space(tmp_path: Path) -> None:
    from ascent.runners import own

    own.begin(tmp_path / "mine.py", "seed_axis")
    name = own.name_of(str(tmp_path / "mine.py"))
    with pytest.raises(InputError, match="mine has no space of its own: give one with --space FILE"):
        spaces.default(name)
