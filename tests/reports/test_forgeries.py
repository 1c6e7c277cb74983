"""Forgeries: what a careful forger would do, with every digest made to fit.

Each is refused by a rule of `check`, or found when something is played or trained again, or told in words by
the commands that a reader uses. What only accidents leave behind is in test_check.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ascent.records import files, layout, ledger, provenance
from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.records.plan import Plan, Planned
from ascent.reports.checking import bundle, check, verify
from ascent.reports.checking.grades import NO_GRADE
from ascent.reports.checking.outcome import DIFFERS
from ascent.reports.cite import cite
from ascent.reports.report import build
from tests.reports import trained
from tests.reports.trained import UNKNOWN, as_seed, copy_run, edit, forge, rows
from tests.small import rest_slow, small_cell

Forgery = Callable[[Path], object]  # of the folder of the cell a2c on CartPole


def cell_of(runs: Path) -> Path:
    (found,) = runs.glob("*/*/a2c-*")
    return found


# ---- another program under an honest commit


def other_source(module: str, old: str = "", new: str = "") -> Forgery:
    """Records as if a changed module had trained them, with its digest in every place."""

    def forge_sources(cell: Path) -> None:
        (path,) = cell.glob("sources-*.zip")
        _, sources = check.folder.sources(cell, path.stem.partition("-")[2])
        text = sources[module].decode()
        assert old in text, old
        if new:
            sources[module] = text.replace(old, new, 1).encode()
        else:
            del sources[module]
        digest = provenance.source_digest(sources)
        path.unlink()
        (cell / layout.sources(digest)).write_bytes(files.zip_files(sources))
        for run in cell.glob("seed-*"):
            edit(run / "run.json", lambda about: about.update(source_digest=digest))

    return forge_sources


def every_run(**changes: object) -> Forgery:
    def change(cell: Path) -> None:
        for run in cell.glob("seed-*"):
            edit(run / "run.json", lambda about: about.update(changes))

    return change


OTHER_PROGRAMS = {
    "environment": other_source("ascent/suites/classic.py", "2.4", "24.0"),
    "algorithm": other_source("ascent/algorithms/a2c.py", "error.square()", "2.0 * error.square()"),
    "kernel": other_source("ascent/kernels/ppo.h", "clip", "clap"),
    "runner": other_source("ascent/runners/play.py", "self.lengths += 1", "self.lengths += 2"),
    "a module left out": other_source("ascent/suites/spec.py"),
    "a kernel left out": other_source("ascent/kernels/ppo.h"),
    "lock": every_run(lock_digest="0" * 64),
}


@pytest.mark.parametrize("name", OTHER_PROGRAMS)
def test_another_program_under_an_honest_commit(name: str, runs: Path) -> None:
    """No grade, no citation, and nothing of it runs."""
    cell = cell_of(runs)
    OTHER_PROGRAMS[name](cell)
    forge(cell)
    checked = check.check(cell)
    assert {outcome.rule for outcome in checked.outcomes if not outcome.passed} == {"named-commit"}
    assert list(checked.grades.values()) == [NO_GRADE]
    for depth in verify.DEPTHS:
        (outcome,) = verify.verify(cell, depth)
        assert outcome.verdict == DIFFERS and "named-commit: " in outcome.reason
    with pytest.raises(Exception, match="rule named-commit"):
        cite(cell)


@pytest.mark.parametrize(
    "changes", rest_slow([{"commit": UNKNOWN}, {"commit": UNKNOWN[:12]}, {"commit": "--help"}])
)
def test_a_commit_that_nobody_has(changes: dict, runs: Path) -> None:
    """It may exist elsewhere: the grade says that nothing was compared, and so does the citation."""
    cell = cell_of(runs)
    every_run(**changes)(cell)
    forge(cell)
    assert list(check.check(cell).grades.values()) == ["recorded (origin unknown)"]
    assert {outcome.words for outcome in verify.verify(cell)} == {"replayed (origin unknown)"}
    cited = cite(cell)
    assert "not compared with that commit." in cited and "grade     recorded (origin unknown): " in cited


def test_a_run_that_another_program_began(runs: Path) -> None:
    """And that the program of an honest commit ended: each attempt names its sources."""
    cell = cell_of(runs)
    edit(
        cell / "seed-1" / "run.json", lambda about: about["attempts"][0].update(source_digest="0123456789ab")
    )
    assert list(check.check(cell).grades.values()) == ["recorded (origin unknown)"]
    outcomes = {outcome.where[-6:]: outcome for outcome in verify.verify(cell)}
    assert [outcomes[f"seed-{k}"].words for k in (0, 1)] == ["replayed", "replayed (origin unknown)"]
    assert "earlier attempts ran other sources: 0123456789ab" in outcomes["seed-1"].unknown


def test_other_versions_of_packages_are_told(runs: Path) -> None:
    cell = cell_of(runs)
    every_run(packages=files.read_json(cell / "seed-0" / "run.json")["packages"] | {"numpy": "9.9.9"})(cell)
    forge(cell)
    (rule,) = (outcome for outcome in check.check(cell).outcomes if outcome.findings)
    assert rule.rule == "named-commit" and "numpy 9.9.9, where the lock of commit" in rule.findings[0].what


# ---- other seeds


def drop(cell: Path) -> None:
    """Without the worst seed."""
    shutil.rmtree(cell / "seed-1")


def drop_and_rename(cell: Path) -> None:
    """Without the worst seed, and without the gap."""
    shutil.rmtree(cell / "seed-1")
    as_seed(cell / "seed-2", 1)


def without_packs(cell: Path) -> None:
    """Without a trace of the worst seed in the records of the others."""
    drop(cell)
    for run in cell.glob("seed-*"):
        edit(run / "run.json", lambda about: [a.update(pack=[about["seed"]]) for a in about["attempts"]])


@pytest.mark.parametrize("act,words", [
    (drop, "0,2; of 3 started, seeds chosen"), (drop_and_rename, "0-1; of 3 started"),
    (without_packs, "0,2; of 3 started, seeds chosen"),
])  # fmt: skip
def test_seeds_that_were_left_out(act: Forgery, words: str, runs: Path, tmp_path: Path) -> None:
    """The ledger and the packs of the others remember them; check, the citation and the page say so."""
    cell = cell_of(runs)
    act(cell)
    assert words in cite(cell)
    notes = [outcome for outcome in check.check(cell).outcomes if outcome.rule == "started-seeds"]
    assert "of 3 seeds that were started have no record here" in notes[0].findings[0].what
    page = build(runs, tmp_path / "report").read_text()
    assert "Not all seeds that were started are here" in page and words.partition("; ")[2] in page


def test_a_renamed_seed_plays_other_episodes(runs: Path) -> None:
    cell = cell_of(runs)
    drop_and_rename(cell)
    outcomes = {outcome.where[-6:]: outcome.verdict for outcome in verify.verify(cell)}
    assert outcomes == {"seed-0": "replayed", "seed-1": DIFFERS}


def test_without_a_ledger_a_gap_is_still_a_choice(runs: Path) -> None:
    cell = cell_of(runs)
    without_packs(cell)
    shutil.rmtree(runs / layout.LEDGER)
    assert "0,2; seeds chosen" in cite(cell)


# ---- other numbers


def column(table: str, number: int, value: str) -> Forgery:
    """Another value in a column of every row of seed 1."""

    def change(lines: list[str]) -> None:
        for k, words in enumerate(line.split(",") for line in lines):
            lines[k] = ",".join([*words[:number], value, *words[number + 1 :]])

    return lambda cell: rows(cell / "seed-1" / table, change)


def best_evaluations(cell: Path) -> None:
    column("eval.csv", 3, "500.0")(cell)
    edit(cell / "seed-1" / "result.json", lambda result: result.update(score=500.0))


def anothers_policy(cell: Path) -> None:
    """The policy of a fourth seed, which is not in the folder."""
    other = trained.record(
        small_cell("a2c", "CartPole-v1", steps=400, points=4), cell.parents[2] / "other", [7]
    )
    shutil.copy(other / "seed-7" / "policy.npz", cell / "seed-1" / "policy.npz")


OTHER_NUMBERS = {
    "evaluations": (best_evaluations, "policy"),
    "a policy of another seed": (anothers_policy, "policy"),
    "training returns": (column("train.csv", 2, "500.0"), "start"),
    "metrics": (column("metrics.csv", 1, "0.5"), "start"),
}


@pytest.mark.parametrize("name", rest_slow(OTHER_NUMBERS))
def test_other_numbers(name: str, runs: Path) -> None:
    """They pass the rules; the first depth that can see them does, and only seed 1 is refused."""
    act, depth = OTHER_NUMBERS[name]
    cell = cell_of(runs)
    act(cell)
    forge(cell)
    assert list(check.check(cell).grades.values()) == ["recorded"]
    outcomes = {outcome.where[-6:]: outcome.verdict for outcome in verify.verify(cell, depth)}
    assert [seed for seed, verdict in outcomes.items() if verdict == DIFFERS] == ["seed-1"]


def test_a_copied_run_has_no_grade(runs: Path) -> None:
    cell = cell_of(runs)
    copy_run(cell / "seed-0", 3)
    forge(cell)
    assert list(check.check(cell).grades.values()) == [NO_GRADE]


# ---- declared afterwards


def test_a_sweep_that_is_younger_than_its_runs(runs: Path, tmp_path: Path) -> None:
    """The kindest estimator, chosen afterwards: the page names it, and so does the citation."""
    cell = trained.cells()[0]
    folder = cell_of(runs)
    name = ledger.declare(Plan((Planned(cell, trained.SEEDS),)), runs)
    every_run(plan=name)(folder)
    assert "declared  estimator and seeds, before the first run" in cite(folder)
    page = build(runs, tmp_path / "kind", declared=Declared("mean_of_per_seed_peaks")).read_text()
    assert "Not declared before the first run" in page
    assert "estimator was mean_of_last_ten, is now mean_of_per_seed_peaks" in page
    cited = cite(folder, "mean_of_per_seed_peaks")
    assert (
        f"by plan {name} of its runs, other settings were declared: estimator was mean_of_last_ten" in cited
    )
    drop(folder)
    assert "the seeds are 0-2, not 0,2" in cite(folder)


def test_a_plan_that_was_changed_is_none(runs: Path) -> None:
    folder = cell_of(runs)
    name = ledger.declare(Plan((Planned(trained.cells()[0], trained.SEEDS),)), runs)
    every_run(plan=name)(folder)
    edit(runs / layout.LEDGER / layout.plan(name), lambda plan: plan["report"].update(estimator="final"))
    assert f"its runs name plan {name}, which is not in the ledger" in cite(folder, "final")


def test_imported_curves_stay_imported(runs: Path) -> None:
    """Curves that were trained here, passed off as imported and back: the name of a system does not help."""
    folder = cell_of(runs)
    facts = json.loads((folder / "cell.json").read_text())
    edit(folder / "cell.json", lambda facts: facts.update(algorithm="imported"))
    assert list(check.check(folder).grades.values()) == [NO_GRADE]
    assert facts["algorithm"] == "a2c"


# ---- files that are none


def to_link(path: Path, secret: Path) -> None:
    path.unlink()
    path.symlink_to(secret)


def to_pipe(path: Path, secret: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("change", [to_link, to_pipe])
@pytest.mark.parametrize(
    "name",
    rest_slow(["cell.json", "sources-*.zip", "seed-1/eval.csv", "seed-1/run.json", "seed-1/result.json"]),
)
def test_links_and_pipes_are_not_read(
    name: str, change: Callable[[Path, Path], None], runs: Path, tmp_path: Path
) -> None:
    """A link may lead to a secret, and a pipe has no end: neither is read, checked or bundled."""
    page = build(runs, tmp_path / "out")
    cell = cell_of(runs)
    (path,) = cell.glob(name)
    secret = tmp_path / "secret"
    secret.write_bytes(path.read_bytes())  # even with the right content
    change(path, secret)
    assert [outcome.rule for outcome in check.check(runs).outcomes if not outcome.passed]
    with pytest.raises(InputError):
        cite(cell)
    with pytest.raises(InputError):
        bundle.pack(page.parent, runs, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()
