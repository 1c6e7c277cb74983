"""A change of results shows here, and must be deliberate: raise the file's VERSION and run `make golden`."""

import pytest

from runners.provenance import platform_key
from tests.algorithms.golden import digests, recorded


def test_first_updates() -> None:
    known = recorded()
    if platform_key() not in known:
        pytest.skip(f"no golden digests for {platform_key()}: record them with `make golden`")
    assert digests() == known[platform_key()], "results have changed: raise VERSION, then `make golden`"
