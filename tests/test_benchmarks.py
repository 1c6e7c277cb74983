"""The benchmarks, which the tests do not run: what they compare exists, and a missed promise is told."""

from dataclasses import replace

import pytest

from ascent.runners.resolve import resolve
from tests.benchmarks import peers
from tests.benchmarks.peers import RACES, Race, Ratio
from tests.benchmarks.speed import COMPARISONS


@pytest.mark.parametrize("name", COMPARISONS)
def test_our_side_of_a_comparison_is_a_cell(name: str) -> None:
    comparison = COMPARISONS[name]
    cell = resolve(comparison.system, comparison.task, overrides=comparison.ours, steps=10_000_000)
    assert cell.task == comparison.task


@pytest.mark.parametrize("name", RACES)
def test_a_race_has_the_sides_that_it_compares(name: str) -> None:
    race = RACES[name]
    assert {side for line in race.ratios for side in (line.ours, line.theirs)} == set(race.sides)


def work(steps: int) -> peers.Work:
    """Return a work that always takes the same time, whatever steps it claims."""

    def loop() -> int:
        sum(range(300_000))
        return steps

    return loop


def test_a_missed_promise_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    sides = {"ours": lambda: work(100_000), "theirs": lambda: work(1000)}  # a hundred times as fast
    race = Race("a task", sides, [Ratio("ours", "theirs", 20.0)])
    assert peers.report(race)
    assert "missed" not in capsys.readouterr().out
    assert not peers.report(replace(race, ratios=[*race.ratios, Ratio("ours", "theirs", 500.0)]))
    assert capsys.readouterr().out.count("500: missed") == 1


def test_an_unknown_race_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["ppo", "chess"]) == 2
    assert "no race 'chess'" in capsys.readouterr().err
