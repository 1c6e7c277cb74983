"""Seeds in stages: decisions, family-wise error by simulation, and the runs that a design saves.

`make statistics` prints the tables of docs/statistics.md, over the shapes of scores of `test_edges.py`.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from ascent.records.declared import Design
from ascent.records.errors import InputError
from ascent.reports.statistics.comparisons import both_tests
from ascent.reports.statistics.stages import Decision, chance, decide, false_alarm_rate, looks_of
from tests.reports.statistics.test_edges import PAIRS, SHAPES, superiority_shift, table

DESIGN = Design((5, 5, 5, 5))
Family = tuple[list[list[np.ndarray]], list[tuple[int, int]]]


def in_stages(scores: Sequence[np.ndarray], design: Design = DESIGN) -> list[list[np.ndarray]]:
    """Return the scores (n,) of each cell as those at the end of each stage."""
    return [[cell[:end] for end in design.ends] for cell in scores]


def all_pairs(systems: int, tasks: int) -> list[tuple[int, int]]:
    """Return the pairs of systems on each task; cells are numbered task by task."""
    return [
        (task * systems + i, task * systems + j)
        for task in range(tasks)
        for i, j in combinations(range(systems), 2)
    ]


def test_false_alarm_rate_of_looks() -> None:
    """Armitage, McPherson and Rowe (1969), table 2, and a simulation at unequal distances."""
    for looks, rate in ((1, 0.05), (2, 0.083), (3, 0.107), (4, 0.126), (5, 0.142), (10, 0.193)):
        assert false_alarm_rate(range(10, 10 * looks + 1, 10)) == pytest.approx(rate, abs=0.001)
    sizes = (3, 10, 12, 30)
    sums = np.random.default_rng(0).normal(size=(200_000, 30)).cumsum(axis=1)
    beyond = [abs(sums[:, n - 1]) / np.sqrt(n) > scipy_stats.norm.isf(0.025) for n in sizes]
    assert false_alarm_rate(sizes) == pytest.approx(np.any(beyond, axis=0).mean(), abs=0.002)


def test_looks_that_cannot_claim_are_none() -> None:
    """Five seeds reach p = 1/126: enough for one pair at four looks, not for three pairs."""
    assert looks_of(DESIGN, 1) == (1, 2, 3, 4)
    assert looks_of(DESIGN, 3) == (2, 3, 4)
    assert looks_of(Design((2, 2)), 66) == ()


def test_decisions_are_the_suites_tests_with_a_family_of_looks() -> None:
    """By hand: a pair is claimed at the first look where both tests reject in (pairs left) x looks."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(4, 20)) + np.array([0.0, 0.4, 1.4, 3.0])[:, None]
    pairs = all_pairs(4, 1)
    decisions, complete = decide(in_stages(scores), pairs, 6, DESIGN)
    assert complete == 4
    expected: dict[int, int] = {}
    for stage, n in ((2, 10), (3, 15), (4, 20)):
        before = -1
        while before != len(expected):
            before = len(expected)
            left = [k for k in range(6) if k not in expected]
            tested = both_tests(
                [(scores[x][:n], scores[y][:n]) for x, y in np.array(pairs)[left]], (6 - before) * 3
            )
            expected |= {k: stage for k, each in zip(left, tested, strict=True) if each.differs}
    claimed = {k: found.stage for k, found in enumerate(decisions) if found and found.tested.differs}
    assert claimed == expected and len(set(claimed.values())) > 1 and len(claimed) < 6
    assert all(found and found.stage == 4 for k, found in enumerate(decisions) if k not in claimed)
    assert [len(found.x) for found in decisions if found] == [
        DESIGN.ends[found.stage - 1] for found in decisions if found
    ]


def test_decisions_do_not_change_with_later_runs() -> None:
    """A sweep that was stopped and started again decides the same from fewer or more runs."""
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(5, 20)) + np.array([0.0, 0.5, 1.0, 2.0, 4.0])[:, None]
    pairs, cells = all_pairs(5, 1), in_stages(scores)
    whole, _ = decide(cells, pairs, 10, DESIGN)
    for known in range(5):
        part, complete = decide([cell[:known] for cell in cells], pairs, 10, DESIGN)
        assert complete == known or None not in part
        for found, final in zip(part, whole, strict=True):
            assert final is not None
            assert (found is None) == (final.stage > known)
            if found:
                assert found.stage == final.stage and found.tested == final.tested
    one_lacks = [cell[:2] if k == 4 else cell for k, cell in enumerate(cells)]
    part, complete = decide(one_lacks, pairs, 10, DESIGN)
    if any(final and final.stage > 2 and 4 in pair for final, pair in zip(whole, pairs, strict=True)):
        assert complete == 2
    else:  # the cell was not needed
        assert [found and found.stage for found in part] == [found and found.stage for found in whole]


def test_chance_by_simulation() -> None:
    """The conditional power, if the standardised difference goes on as it is."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=10) + 0.9, rng.normal(size=10)
    (tested,) = both_tests([(x, y)], 1)
    found = Decision(2, tested, x, y)
    z = scipy_stats.norm.isf(max(tested.p_permutation, tested.welch.p) / 2)
    half = z / np.sqrt(2)  # of the sum of differences, in units of its spread at the end
    final = half + half + rng.normal(size=400_000) * np.sqrt(0.5)
    assert chance(found, DESIGN, 0.01) == pytest.approx(
        np.mean(final > scipy_stats.norm.isf(0.005)), abs=0.005
    )


def test_given_up_pairs_stay_so() -> None:
    """A pair without a trend is given up; one that others' claims would let in later stays out."""
    rng = np.random.default_rng(6)
    scores = rng.normal(size=(4, 20)) + np.array([0.0, 0.0, 3.0, 3.0])[:, None]
    decisions, _ = decide(in_stages(scores), all_pairs(4, 1), 6, Design((5, 5, 5, 5), futility=0.2))
    given_up = [found for found in decisions if found and found.given_up]
    assert given_up and not any(found.tested.differs for found in given_up)
    assert all(found.stage < 4 for found in given_up)
    patient, _ = decide(in_stages(scores), all_pairs(4, 1), 6, DESIGN)
    assert not any(found.given_up for found in patient if found)


@pytest.mark.parametrize(
    ("table_", "words"),
    [
        ({}, "needs stages"),
        ({"stages": 5}, "needs stages"),
        ({"stages": [5]}, "two or more"),
        ({"stages": [5, 0]}, "whole numbers from 1"),
        ({"stages": [5, True]}, "whole numbers from 1"),
        ({"stages": [1, 5]}, "at least two seeds"),
        ({"stages": [5, 10**12]}, "at most 1,000 seeds"),
        ({"stages": [5, 5], "futility": 0.7}, "below 0.5"),
        ({"stages": [5, 5], "futility": "no"}, "must be a number"),
        ({"stages": [5, 5], "futlity": 0.1}, "did you mean 'futility'"),
    ],
)
def test_wrong_designs(table_: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Design.of({"design": table_})


def families(shape: str, systems: int, tasks: int, repeats: int) -> Iterator[Family]:
    """Yield families without a true difference: P(X > Y) + P(X = Y) / 2 is 1/2; shapes take turns."""
    x, y = PAIRS[shape]
    shift = 0.0 if x is y else superiority_shift(x, y)
    rng = np.random.default_rng([systems, tasks, len(shape), 20])
    pairs = all_pairs(systems, tasks)
    for _ in range(repeats):
        scores = [
            y(rng, 20) + shift if system % 2 else x(rng, 20)
            for _ in range(tasks)
            for system in range(systems)
        ]
        yield in_stages(scores), pairs


def family_error(shape: str, systems: int, tasks: int, repeats: int) -> float:
    """Return the share of families with a claim at any stage."""
    claims = [
        any(found and found.tested.differs for found in decide(cells, pairs, len(pairs), DESIGN)[0])
        for cells, pairs in families(shape, systems, tasks, repeats)
    ]
    return float(np.mean(claims))


def looking_error(shape: str, systems: int, tasks: int, repeats: int) -> float:
    """Return the same for whoever tests at 5% after 5, 10, 15 and 20 seeds, and stops at a claim."""
    claims = [
        any(
            found.differs
            for stage in range(4)
            for found in both_tests([(cells[x][stage], cells[y][stage]) for x, y in pairs], len(pairs))
        )
        for cells, pairs in families(shape, systems, tasks, repeats)
    ]
    return float(np.mean(claims))


def test_family_wise_error_short() -> None:
    """One pair: 5% at all four looks together; looks without a design exceed it."""
    repeats = 300
    within, looking = (error("normal, all alike", 2, 1, repeats) for error in (family_error, looking_error))
    assert within < 0.05 + 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert looking > 0.07
    for shape in ("normal and bimodal, 30% fail", "normal and five times wider"):
        assert family_error(shape, 4, 2, 40) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


FAMILIES = ((2, 1), (4, 2), (12, 1))  # systems and tasks: 1, 12 and 66 pairs


@pytest.mark.slow
@pytest.mark.parametrize("shape", PAIRS)
def test_family_wise_error(shape: str) -> None:
    """Nominal, within two points and three errors of the simulation."""
    values = []
    for systems, tasks in FAMILIES:
        repeats = {1: 1_000, 12: 300, 66: 100}[len(all_pairs(systems, tasks))]
        if "ceiling" in shape:  # every pattern of ties has its own distribution of the statistic
            repeats //= 5
        error = family_error(shape, systems, tasks, repeats)
        assert error < 0.07 + 3 * np.sqrt(0.05 * 0.95 / repeats)
        values.append(f"{error:.1%}")
        if systems == 2:
            values.insert(0, f"{looking_error(shape, systems, tasks, repeats):.1%}")
    heads = ["1 pair, looks without a design", "1 pair", "12 pairs", "66 pairs"]
    table("false claims at any stage, 5 + 5 + 5 + 5 seeds", heads, {shape: values})


def savings(shape: str, step: float, design: Design, repeats: int) -> tuple[float, float, float]:
    """Four systems on two tasks, each shifted by `step` from the one before.

    Returns:
        The share of runs saved, that of pairs that are claimed, and the latter with all 20 seeds at once.
    """
    rng = np.random.default_rng([len(shape), int(10 * step)])
    pairs, saved, claimed, at_once = all_pairs(4, 2), [], [], []
    for _ in range(repeats):
        scores = [SHAPES[shape](rng, 20) + step * system for _ in range(2) for system in range(4)]
        decisions, _ = decide(in_stages(scores), pairs, 12, design)
        last = [
            max(found.stage for pair, found in zip(pairs, decisions, strict=True) if found and cell in pair)
            for cell in range(8)
        ]
        saved.append(1 - np.mean([design.ends[stage - 1] for stage in last]) / 20)
        claimed.append(np.mean([found.tested.differs for found in decisions if found]))
        at_once.append(
            np.mean([each.differs for each in both_tests([(scores[x], scores[y]) for x, y in pairs], 12)])
        )
    return float(np.mean(saved)), float(np.mean(claimed)), float(np.mean(at_once))


def test_savings_short() -> None:
    saved, claimed, at_once = savings("normal", 3.0, DESIGN, 10)
    assert saved > 0.4 and claimed > 0.95 and at_once > 0.95
    assert savings("normal", 0.0, DESIGN, 5)[0] < 0.05
    assert savings("normal", 0.0, Design((5, 5, 5, 5), 0.1), 10)[0] > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_savings(shape: str) -> None:
    rows: dict[str, list[str]] = {}
    repeats = 10 if "ceiling" in shape else 40
    for step in (0.0, 1.0, 2.0, 4.0):
        for name, design in (("", DESIGN), (", futility 0.1", Design((5, 5, 5, 5), 0.1))):
            saved, claimed, at_once = savings(shape, step, design, repeats)
            rows[f"{shape}, {step:g} apart{name}"] = [f"{saved:.0%}", f"{claimed:.0%}", f"{at_once:.0%}"]
            assert claimed > at_once - (0.25 if design.futility else 0.15)
    table("5 + 5 + 5 + 5 seeds", ["runs saved", "pairs claimed", "with 20 seeds at once"], rows)
