"""The results that ship with the suite: whole, the same when they are generated again, cited in seconds."""

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import ascent
from ascent.records import shelf
from ascent.reports.checking import check
from ascent.reports.checking.grades import RETRAINED
from ascent.reports.checking.setting import Allowed
from ascent.reports.checking.verify import verify
from ascent.reports.shelf import tables
from ascent.reports.shelf.proofs import proofs
from ascent.runners.platform import platform_key


def test_every_rule_holds() -> None:
    checked = check.check(shelf.current().folder)
    assert [outcome.rule for outcome in checked.outcomes if not outcome.passed] == []
    assert set(checked.grades) == {cell.folder for cell in shelf.current().present}


def test_generated_files_come_out_again(tmp_path: Path) -> None:
    shipped = shelf.current()
    copy = shelf.Shelf(Path(shutil.copytree(shipped.folder, tmp_path / shipped.name)))
    for name in tables.GENERATED:
        (copy.folder / name).unlink()
    tables.build(copy)
    for name in tables.GENERATED:
        assert (copy.folder / name).read_bytes() == (shipped.folder / name).read_bytes(), name


def test_croissant() -> None:
    """The metadata are valid, and by them the tables can be read."""
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    dataset = croissant.Dataset(jsonld=str(shelf.current().folder / "croissant.json"))
    first = next(iter(dataset.records(record_set="scores")))
    assert first["scores/n"] == 10 and first["scores/system"]
    described = {field.name for field in dataset.metadata.record_sets[1].fields}
    assert described == set(pd.read_csv(shelf.current().folder / shelf.SCORES).columns)
    assert not dataset.metadata.ctx.issues.errors


def test_every_cell_has_a_proof() -> None:
    proven = {proof.cell for proof in proofs(shelf.current())}
    assert proven == {cell.folder for cell in shelf.current().present}


def test_the_data_frame() -> None:
    curves = ascent.results()
    one = curves[(curves.system == "ppo") & (curves.task == "CartPole-v1") & (curves.policy == "greedy")]
    assert set(one.seed) == set(range(10)) and one.step.max() == 100_000


def test_a_citation_takes_seconds(tmp_path: Path) -> None:
    """From any folder, without runs."""
    begun = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        sys.executable,
        "-P",
        "-c",
        "from ascent.cli import main; main()",
        "cite",
        "ppo",
        "CartPole-v1",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime - begun.ru_utime - begun.ru_stime
    assert done.returncode == 0 and "ppo (preset cleanrl) on CartPole-v1" in done.stdout, done.stderr
    assert "@misc{ascent," in done.stdout
    assert seconds < 10  # of a core: 3 s where nothing else runs


@pytest.mark.slow
def test_a_cell_is_retrained_to_the_same_bytes() -> None:
    """The cheapest: two seconds a seed."""
    folder = shelf.choose("a2c", "CartPole-v1")
    keys = set(proof.platform for proof in proofs(shelf.current()) if folder.as_posix().endswith(proof.cell))
    if platform_key() not in keys:
        pytest.skip(f"the cell was made on {', '.join(sorted(keys))}, this is {platform_key()}")
    outcomes = verify(folder, "whole", allowed=Allowed(False, True))
    assert {outcome.verdict for outcome in outcomes} == {RETRAINED}, outcomes
