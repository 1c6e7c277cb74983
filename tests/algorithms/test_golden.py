"""A change of results shows here, and must be deliberate: raise the file's VERSION and run `make golden`."""

import pytest

from ascent.runners.platform import platform_key
from tests.algorithms.golden import digests, recorded


def test_first_updates() -> None:
    known = recorded()
    if platform_key() not in known:
        pytest.skip(f"no golden digests for {platform_key()}: record them with `make golden`")
    known, found = known[platform_key()], digests()
    # A new system has no digests on platforms that it was not recorded on.
    same = {name: found.get(name) for name in known} == known
    assert same, "results have changed: raise VERSION, then `make golden`"
