"""Streams of random numbers: reproducible, resumable, and distributed as stated."""

import copy
from collections.abc import Callable
from itertools import chain, combinations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

from ascent.algorithms.seedwise import Streams, derive_seed, generator_words, set_generator_words
from ascent.algorithms.seedwise.random import _Blocks
from tests.algorithms.seedwise.tools import ALL, bits

Draw = Callable[[Streams], Tensor]
DRAWS: list[Draw] = [
    lambda s: s.uniform(3),
    lambda s: s.normal(2, 3),
    lambda s: s.integers(5, 4),
    lambda s: s.normal(),
    lambda s: s.uniform(37),
    lambda s: s.permutation(11),
    lambda s: s.normal(50),
    lambda s: s.uniform(1, 1),
    lambda s: s.integers(1000, 2, 2),
    lambda s: s.normal(1),
]
BLOCK_SIZES = (1, 4, 7, 16, 4096)  # the draws above straddle all but the last, and some are larger


def test_streams_shapes_and_types() -> None:
    s = Streams([3, 4], "act")
    assert s.uniform(2, 5).shape == s.normal(2, 5).shape == s.integers(3, 2, 5).shape == (2, 2, 5)
    assert s.uniform().shape == (2,)
    assert s.permutation(7).shape == (2, 7)
    assert (s.uniform(1).dtype, s.normal(1).dtype) == (torch.float64, torch.float32)
    assert s.integers(3, 1).dtype == s.permutation(3).dtype == torch.int64


def test_streams_repeat() -> None:
    a, b = Streams([3, 4], "act"), Streams([3, 4], "act")
    for draw in DRAWS:
        assert torch.equal(draw(a), draw(b))


@pytest.mark.parametrize("block", BLOCK_SIZES)
def test_block_size_does_not_change_numbers(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In small blocks, straddled by draws and smaller than one, against one block that holds everything."""
    expected = [draw(s) for s in [Streams([3, 4], "act")] for draw in DRAWS * 3]
    monkeypatch.setattr(_Blocks, "BLOCK", block)
    s = Streams([3, 4], "act")
    for i, draw in enumerate(DRAWS * 3):
        assert torch.equal(draw(s), expected[i])


def test_one_large_draw_is_many_small_ones() -> None:
    """With the true block size: 10000 numbers at once, or in threes."""
    a, b = Streams([3, 4], "act"), Streams([3, 4], "act")
    for kind in ("uniform", "normal"):
        large = getattr(a, kind)(9999)
        small = torch.cat([getattr(b, kind)(3) for _ in range(3333)], 1)
        assert torch.equal(large, small)
        assert torch.equal(getattr(a, kind)(5), getattr(b, kind)(5))


@pytest.mark.parametrize("block", BLOCK_SIZES)
@pytest.mark.parametrize("spent", [0, 1, 3, 5, 8, len(DRAWS)])
def test_streams_continue(block: int, spent: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved in the middle of a block and loaded: in the same pack, for some rows, joined from two packs."""
    monkeypatch.setattr(_Blocks, "BLOCK", block)
    seeds = [3, 4, 5]
    whole, first, second = Streams(seeds, "act"), Streams([3, 4], "act"), Streams([5], "act")
    for draw in DRAWS[:spent]:
        for s in (whole, first, second):
            draw(s)
    saved = copy.deepcopy(whole.state_dict())
    assert all(len(value) == len(seeds) for value in saved.values())
    pieces = [copy.deepcopy(s.state_dict()) for s in (second, first)]
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in saved}
    expected = [draw(whole) for draw in DRAWS]

    for rows, state in (([0, 1, 2], saved), ([2, 0], saved), ([1], saved), ([2, 0, 1], joined)):
        into = Streams([seeds[r] for r in rows], "act")
        into.uniform(2)  # what it did before being loaded does not matter
        into.normal(1)
        take = rows if state is saved else [0, 1, 2]
        into.load_state_dict({name: value[take].copy() for name, value in state.items()})
        for i, draw in enumerate(DRAWS):
            assert torch.equal(draw(into), expected[i][rows])


def test_saving_does_not_disturb() -> None:
    a, b = Streams([3], "act"), Streams([3], "act")
    for draw in DRAWS:
        a.state_dict()
        assert torch.equal(draw(a), draw(b))


def test_normals_do_not_shift_uniforms() -> None:
    a, b = Streams([3], "act"), Streams([3], "act")
    a.normal(5000)
    assert torch.equal(a.uniform(9), b.uniform(9))
    b.uniform(5000)
    a.normal(4)
    b.normal(5004)
    assert torch.equal(a.normal(9), b.normal(9))


def test_streams_are_all_different() -> None:
    """Seeds, purposes, indices and kinds: no two streams share a number, and none correlate."""
    purposes = ("init", "act", "learn", "replay", "env", "eval")
    streams = [Streams([0, 1, 2], p) for p in purposes]
    streams += [Streams([0, 1, 2], "eval", *i) for i in ((1,), (2,), (1, 2), (2, 1), (1, 1))]
    uniforms, normals = (torch.cat([getattr(s, k)(1000) for s in streams]) for k in ("uniform", "normal"))
    starts = np.concatenate([s.state_dict()[f"{k}/words"] for s in streams for k in ("uniform", "normal")])
    assert len(np.unique(starts, axis=0)) == len(starts) == 2 * len(uniforms)
    assert len(uniforms.unique()) == uniforms.numel()
    rows = np.concatenate([scipy.stats.norm.ppf(uniforms.numpy()), normals.numpy()])
    correlation = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlation).max() < 5 / 1000**0.5


def test_index_zero_is_an_index() -> None:
    drawn = [Streams([1], "eval", *index).uniform(4) for index in ((), (0,), (0, 0))]
    assert not any(torch.equal(a, b) for a, b in combinations(drawn, 2))


def test_distributions() -> None:
    """Uniforms and normals are what they are called, for each seed."""
    s = Streams([0, 1, 2], "act")
    u, z = s.uniform(20_000), s.normal(20_000)
    assert u.min() >= 0
    assert u.max() < 1
    for k in range(3):
        assert scipy.stats.kstest(u[k].numpy(), "uniform").pvalue > 1e-3
        assert scipy.stats.kstest(z[k].numpy(), "norm").pvalue > 1e-3


@pytest.mark.parametrize("high", [1, 2, 7, 50])
def test_integers_are_uniform(high: int) -> None:
    drawn = Streams([0, 1, 2], "replay").integers(high, 20_000)
    assert drawn.min() >= 0
    assert drawn.max() == high - 1
    for k in range(3):
        counts = drawn[k].bincount(minlength=high).numpy()
        assert high == 1 or scipy.stats.chisquare(counts).pvalue > 1e-3


def test_integers_cost_one_draw_whatever_the_bound() -> None:
    a, b = Streams([3], "replay"), Streams([3], "replay")
    a.integers(3, 5)
    b.integers(1_000_000, 5)
    assert torch.equal(a.uniform(4), b.uniform(4))


def test_permutations() -> None:
    """Every number once for every seed, in an order of the seed's own, each order equally often."""
    s = Streams(ALL, "learn")
    order = s.permutation(257)
    assert (order.sort(1).values == torch.arange(257)).all()
    assert len({bits(row) for row in chain(order, s.permutation(257))}) == 20
    orders = torch.cat([s.permutation(3) for _ in range(600)])
    counts = (orders[:, 0] * 3 + orders[:, 1]).bincount(minlength=9).numpy()
    assert (counts[[0, 4, 8]] == 0).all()
    assert scipy.stats.chisquare(counts[counts > 0]).pvalue > 1e-3


def test_derived_seeds() -> None:
    """In range, and different for every seed, purpose and index."""
    indices = [(), *((i,) for i in range(1, 20)), *((i, j) for i in range(20) for j in range(1, 5))]
    derived = [
        derive_seed(s, p, *i) for s in (*range(10), 2**32 - 1) for p in ("env", "eval") for i in indices
    ]
    assert len(set(derived)) == len(derived)
    assert all(0 <= d < 2**63 for d in derived)
    assert max(derived) > 2**62
    assert derive_seed(7, "env", 3) == derive_seed(7, "env", 3)


def test_generator_state_goes_through_words() -> None:
    """PCG64 continues exactly, the half of a word that it keeps for 32-bit draws included."""
    a = np.random.Generator(np.random.PCG64(5))
    a.integers(0, 10, dtype=np.int32)
    assert a.bit_generator.state["has_uint32"] == 1
    b = np.random.Generator(np.random.PCG64(6))
    set_generator_words(b, generator_words(a))
    assert a.bit_generator.state == b.bit_generator.state
    assert (a.integers(0, 10, 9, dtype=np.int32) == b.integers(0, 10, 9, dtype=np.int32)).all()
    assert (a.standard_normal(9) == b.standard_normal(9)).all()
