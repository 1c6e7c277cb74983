"""What every system promises, checked over the registry. A new algorithm joins by being registered."""

from pathlib import Path
from typing import Any

import pytest

from ascent.algorithms.seedwise import Streams
from ascent.runners.conform_algorithm import beside_nan, parameters, unmoved
from ascent.runners.resolve import make_agent, resolve
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from tests.small import KINDS, kind_of, others_slow, results, small_cell, statuses, systems_and_tasks

SEEDS = list(range(10))
PAIRS = systems_and_tasks(KINDS)


def as_params(pairs: list[Any]) -> list[Any]:
    """Each pair as the one parameter of a fixture."""
    return [pytest.param(pair.values, id=pair.id, marks=pair.marks) for pair in pairs]


@pytest.fixture(scope="module", params=as_params(others_slow(PAIRS)))
def reference(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """Ten seeds of a cell, trained in one process: (cell, folder, result bytes)."""
    cell, out = small_cell(*request.param), tmp_path_factory.mktemp("reference")
    assert train(cell, SEEDS, out)
    assert statuses(cell, out, SEEDS) == ["done"] * 10
    return cell, out, results(cell, out, SEEDS)


def ladder(record: dict[str, bytes]) -> list[list[str]]:
    return [line.split(",") for line in record["ladder.csv"].decode().splitlines()[1:]]


def test_learns_at_all(reference: tuple) -> None:
    """Several updates happen in these small runs, or the tests below would show nothing."""
    record = reference[2][0]
    assert [event for _, event, _ in ladder(record)].count("first update") == 1
    assert len(record["metrics.csv"].splitlines()) >= 3
    assert len(record["train.csv"].splitlines()) >= 2


@pytest.mark.slow  # the packs below are trained once more as well
def test_same_command_twice(reference: tuple, tmp_path: Path) -> None:
    cell, _, expected = reference
    train(cell, SEEDS, tmp_path)
    assert results(cell, tmp_path, SEEDS) == expected


@pytest.mark.parametrize(
    "packs",
    [
        pytest.param([[0], [9]], id="1"),
        pytest.param([[7, 5, 3]], id="3", marks=pytest.mark.slow),
        pytest.param([[5, 6, 7, 8, 9]], id="5"),
    ],
)
def test_packing(reference: tuple, packs: list[list[int]], tmp_path: Path) -> None:
    """A seed alone, in packs of 3 and 5, has the bytes it has in the pack of 10."""
    cell, _, expected = reference
    for pack in packs:
        train(cell, pack, tmp_path)
        assert results(cell, tmp_path, pack) == {seed: expected[seed] for seed in pack}


@pytest.mark.parametrize("reference", as_params(others_slow(PAIRS, kind_of)), indirect=True, scope="module")
def test_evaluating_twice_as_often(reference: tuple, tmp_path: Path) -> None:
    """Evaluation consumes nothing of training's: the same learner, the same scores at common steps."""
    cell, _, expected = reference
    often = small_cell(cell.system, cell.task, points=6)
    train(often, SEEDS, tmp_path)
    for seed, record in results(often, tmp_path, SEEDS).items():
        digests = {(step, event): digest for step, event, digest in ladder(record)}
        assert all(digests[step, event] == digest for step, event, digest in ladder(expected[seed]))
        rows = set(record["eval.csv"].splitlines())
        assert rows > set(expected[seed]["eval.csv"].splitlines())
        assert record["train.csv"] == expected[seed]["train.csv"]


def test_corrupt_seed_harms_no_other(reference: tuple, tmp_path: Path) -> None:
    """One seed's rewards become NaN: its run diverges, and is recorded as that; the others do not notice."""
    cell, _, expected = reference
    pack = [0, 1, 2]
    assert beside_nan(cell, tmp_path, expected) == ""
    assert statuses(cell, tmp_path, pack) == ["done", "diverged", "done"]
    others = [0, 2]
    assert results(cell, tmp_path, others) == {seed: expected[seed] for seed in others}
    assert (cell.folder(tmp_path) / "seed-1" / "result.json").exists()
    assert train(cell, pack, tmp_path), "a diverged run is a result and is not retried"


@pytest.mark.parametrize(("system", "task"), others_slow(PAIRS, kind_of))
def test_every_parameter_moves(system: str, task: str) -> None:
    """Each layer of each seed changes, and most numbers do (not those of units that are off, say)."""
    cell = small_cell(system, task, steps=1000)
    assert parameters(make_agent(cell, Streams([0], "init"), "cpu"))
    assert unmoved(cell) == ""


def test_distinct_seeds_differ(reference: tuple) -> None:
    """Parameters at the start, and everything recorded after."""
    records = reference[2].values()
    for name in ("ladder.csv", "eval.csv", "policy.npz"):
        assert len({record[name] for record in records}) == len(SEEDS)
    assert len({ladder(record)[0][2] for record in records}) == len(SEEDS)


@pytest.mark.parametrize(("system", "task"), others_slow(PAIRS, kind_of))
def test_packing_at_full_size(system: str, task: str) -> None:
    """The first update with a preset's own windows, widths and normalisers, alone and in other packs."""
    sooner = {"learning_starts": 1_000} if "learning_starts" in resolve(system, task).config else {}
    cell, found = resolve(system, task, overrides=sooner), {}
    for pack in ([0, 1, 2], [2], [1, 0]):
        trainer = Trainer(cell, pack)
        while trainer.updates < 2:
            trainer.advance()
        for seed, digest in zip(pack, trainer.digests(), strict=True):
            assert found.setdefault(seed, digest) == digest
