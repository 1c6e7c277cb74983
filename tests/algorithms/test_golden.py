"""A change of results or of a default shows here, and must be deliberate: raise the file's VERSION and run
`make golden`.
"""

from copy import deepcopy

import pytest

from ascent.runners.platform import platform_key
from tests.algorithms.golden import conflicts, defaults, digests, recorded, recorded_defaults


@pytest.mark.usefixtures("either_path")
def test_first_updates() -> None:
    known = recorded()
    if platform_key() not in known:
        pytest.skip(f"no golden digests for {platform_key()}: record them with `make golden`")
    known, found = known[platform_key()], digests()
    # A new system has no digests on platforms that it was not recorded on.
    same = {name: found.get(name) for name in known} == known
    assert same, "results have changed: raise VERSION, then `make golden`"


def test_defaults() -> None:
    """Those of the recorded version; a new hyperparameter is recorded, too."""
    known, found = recorded_defaults(), defaults()
    assert conflicts(known, found) == [], "another default gives a cell another meaning: raise VERSION"
    assert known == found, "run `make golden`"


def test_a_changed_default_is_found() -> None:
    before = defaults()
    after = deepcopy(before)
    after["ppo"]["defaults"]["gamma"] = 0.5
    del after["dqn"]["defaults"]["envs"]
    after["a2c"]["defaults"]["novelty"] = 1.0
    assert conflicts(before, after) == ["ppo: gamma", "dqn: envs"]
    after["ppo"]["version"] += 1
    assert conflicts(before, after) == ["dqn: envs"]
