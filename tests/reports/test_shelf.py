"""A shelf: what goes onto it, what is refused, and how its cells are found, compared and cited."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ascent.records import layout, shelf
from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.records.ledger import declare, digest
from ascent.records.plan import Plan, Planned
from ascent.records.read import load
from ascent.records.shelf import Shelf, ShelfCell
from ascent.records.store import Store, read_seal, seals
from ascent.reports.checking import bundle, check
from ascent.reports.checking.outcome import DIFFERS, Outcome
from ascent.reports.checking.verify import verify
from ascent.reports.report import build
from ascent.reports.shelf import add as adding
from ascent.reports.shelf import proofs, tables
from ascent.reports.shelf.baselines import baselines
from ascent.reports.shelf.release import release
from ascent.runners import campaign
from tests.command import call
from tests.reports import trained
from tests.reports.test_seal import killed_at
from tests.reports.trained import SEEDS, edit, forge, rows
from tests.small import rest_slow, small_cell


def planned(cell: Cell, policies: int = 1) -> ShelfCell:
    one = campaign._shelf_cell(Planned(cell, SEEDS), 1, ())
    return ShelfCell(**{**vars(one), "policies": policies, "default": True})


def cells() -> list[ShelfCell]:
    first, second = trained.cells()
    never = small_cell("a2c", "Acrobot-v1", steps=400, points=4)
    return [planned(first), planned(second, policies=len(SEEDS)), planned(never)]


@pytest.fixture
def runs(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "runs"))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    monkeypatch.setattr(shelf, "HOME", tmp_path / "results")
    return shelf.write(tmp_path / "results" / "2026.12-draft", trained.clean_commit()["commit"], cells())


@pytest.fixture(scope="module")
def full(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """Two of three cells are there; not to be changed."""
    home = tmp_path_factory.mktemp("shelf") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "HOME", home)
        made = shelf.write(home / "2026.12-draft", trained.clean_commit()["commit"], cells())
        complete, begun = adding.ready(made, whole)
        assert [cell.system for cell in complete] == ["a2c", "td3"] and begun == []
        adding.add(made, whole, complete)
        tables.build(made)
        yield made


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def broken(folder: Path) -> set[str]:
    return {outcome.rule for outcome in check.check(folder).outcomes if not outcome.passed}


# ---- adding


def test_cells_on_a_shelf(full: Shelf, whole: Path) -> None:
    """One compact seal a cell, sources once, proofs, and of some cells one policy, chosen by the digest."""
    assert [cell.system for cell in full.present] == ["a2c", "td3"] and [c.task for c in full.missing] == [
        "Acrobot-v1"
    ]
    assert broken(full.folder) == set()
    one, all_seeds, _ = full.planned
    for cell, kept in ((one, [int(one.digest, 16) % 3]), (all_seeds, list(SEEDS))):
        (seal,) = seals(full.folder / cell.folder)
        runs = read_seal(seal)
        assert [seed for seed in runs if layout.POLICY in runs[seed]] == kept
        assert all(layout.TRAIN not in names and layout.TRAIN_LAST in names for names in runs.values())
        for seed in SEEDS:
            original = whole / cell.folder / layout.seed_folder(seed)
            assert runs[seed][layout.EVAL] == (original / layout.EVAL).read_bytes()
    assert not list(full.folder.glob("*/*/*/sources-*.zip")) and list(
        full.folder.glob("sources/sources-*.zip")
    )
    known = proofs.proofs(full)
    assert [(proof.grade, proof.seeds) for proof in known] == [("replayed", "0-2")] * 2
    assert proofs.grade_of(full, one, known) == "replayed, 3 of 3"


def test_generated_files_are_the_same_again(full: Shelf, tmp_path: Path) -> None:
    copy = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    before = contents(copy.folder)
    for name in tables.GENERATED:
        (copy.folder / name).unlink()
    tables.build(copy)
    assert contents(copy.folder) == before
    board = (copy.folder / "leaderboard.md").read_text()
    assert "a2c (zoo with" in board and "Acrobot-v1" in board.partition("## Missing")[2]


def test_any_changed_byte_is_noticed(full: Shelf, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(full.folder, tmp_path / full.name))
    for path in sorted(path for path in copy.rglob("*") if path.is_file()):
        original = path.read_bytes()
        path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
        try:
            assert broken(copy), path
        except InputError as error:
            assert path.name in str(error)
        path.write_bytes(original)
    (copy / "more.csv").write_text("x\n")
    assert broken(copy) == {"shelf-checksums"}


FAULTS = {
    "incomplete": (lambda cell: shutil.rmtree(cell / "seed-1"), "seeds 0,2 of 0-2 are finished"),
    "dirty": (
        lambda cell: edit(cell / "seed-1" / layout.RUN, lambda about: about.update(dirty=True)),
        "uncommitted changes",
    ),
    "damaged": (lambda cell: (cell / "seed-1" / layout.LADDER).write_text("x\n"), "seed-1"),
    "edited": (
        lambda cell: (rows(cell / "seed-1" / layout.EVAL, lambda lines: best(lines)), forge(cell)),
        "DIFFERS: eval.csv at step 400",
    ),
}


def best(lines: list[str]) -> None:
    """Give the last evaluation's first episode a return of 499."""
    step, policy, episode, _, *rest = lines[-1].split(",")
    lines[-1] = ",".join([step, policy, episode, "499.0", *rest])


@pytest.mark.parametrize("fault", rest_slow(FAULTS))
def test_nothing_is_written_if_a_cell_is_refused(fault: str, empty: Shelf, runs: Path) -> None:
    change, words = FAULTS[fault]
    first, second, _ = empty.planned
    change(runs / second.folder if fault != "edited" else runs / first.folder)
    before = contents(shelf.HOME)
    with pytest.raises(InputError, match=words):
        adding.add(empty, runs, [first, second])
    assert contents(shelf.HOME) == before


@pytest.mark.slow
def test_nothing_is_written_if_a_begun_cell_is_refused(empty: Shelf, runs: Path) -> None:
    first, second, _ = empty.planned
    shutil.rmtree(runs / second.folder / "seed-2")
    edit(runs / second.folder / "seed-1" / layout.RUN, lambda about: about.update(dirty=True))
    before = contents(shelf.HOME)
    with pytest.raises(InputError, match="uncommitted changes"):
        adding.add(empty, runs, [first], [second])
    assert contents(shelf.HOME) == before


def test_another_commit(empty: Shelf, runs: Path) -> None:
    other = shelf.write(shelf.HOME / "2027.1-draft", "f" * 40, empty.planned)
    with pytest.raises(InputError, match="not at ffff"):
        adding.add(other, runs, other.planned[:1])


def test_a_cell_that_is_there(full: Shelf, runs: Path) -> None:
    """The same records change nothing; others are refused."""
    before = contents(full.folder)
    first = full.planned[0]
    assert adding.add(full, runs, [first]).proofs == ()
    edit(runs / first.folder / "seed-0" / layout.RUN, lambda about: about.update(host="another"))
    with pytest.raises(InputError, match="with other bytes"):
        adding.add(full, runs, [first])
    assert contents(full.folder) == before


def test_command(empty: Shelf, runs: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, err = call(capsys, "results", "add", "--runs", str(runs))
    assert code == 0 and "2 cells added" in out, err
    code, out, _ = call(capsys, "results")
    assert code == 0 and "2 of 3 cells, 1 missing (1 of tier 1)" in out and "replayed, 3 of 3" in out
    code, _, err = call(capsys, "results", "add", "--depth", "polcy")
    assert code == 2 and "did you mean 'policy'?" in err
    code, _, err = call(capsys, "results", "add", "nothing", "--runs", str(runs))
    assert code == 2 and err.count("\n") == 1
    code, _, err = call(capsys, "results", "new", "first", "--commit", "f" * 40)
    assert code == 2 and "is no name of a new shelf" in err
    code, _, err = call(capsys, "results", "add", "--runs", str(runs / "nope"))
    assert code == 2 and "no such folder" in err
    code, _, err = call(capsys, "results", "campaign", "--minutes", "nan")
    assert code == 2 and "minutes must be positive" in err
    (empty.folder / shelf.SCORES).write_text("task\nx\n")
    code, _, err = call(capsys, "results")
    assert code == 2 and "run `ascent results build`" in err
    (empty.folder / shelf.FILE).write_text("{}")
    code, _, err = call(capsys, "results")
    assert code == 2 and "describes no shelf" in err


# ---- beside the shelf


def test_finished_runs_of_other_cells_are_kept(empty: Shelf, runs: Path, tmp_path: Path) -> None:
    """In `partial`, with their policies, for the campaign to go on from; gone once the cell is complete."""
    first, second, _ = empty.planned
    lost = tmp_path / "lost"
    (runs / second.folder / "seed-2").rename(lost)
    complete, begun = adding.ready(empty, runs)
    assert (complete, begun) == ([first], [second])
    assert [adding.add(empty, runs, [], begun).kept for _ in range(2)] == [(second,), ()]
    other = Path(shutil.copytree(runs, tmp_path / "other"))  # from a machine that did not go on from there
    shutil.rmtree(other / second.folder / "seed-1")
    lost_too = Path(shutil.copytree(lost, other / second.folder / "seed-2"))
    adding.add(empty, other, [], [second])
    assert Store(shelf.HOME / shelf.PARTIAL / second.folder).seeds() == [0, 1, 2] and lost_too.exists()
    for path in seals(shelf.HOME / shelf.PARTIAL / second.folder):
        if 2 in read_seal(path):
            path.unlink()
    elsewhere = tmp_path / "elsewhere"
    adding.restore(empty, elsewhere)
    assert Store(elsewhere / second.folder).seeds() == [0, 1]
    cell = trained.cells()[1]
    assert [cell.is_finished(seed, elsewhere) for seed in SEEDS] == [True, True, False]
    lost.rename(elsewhere / second.folder / "seed-2")
    adding.add(empty, elsewhere, [second])
    assert not (shelf.HOME / shelf.PARTIAL / second.folder).exists()
    (seal,) = seals(empty.folder / second.folder)
    assert {seed for seed, names in read_seal(seal).items() if layout.POLICY in names} == set(SEEDS)


def test_jobs_of_the_campaign(empty: Shelf, runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, in the shelf's order, in equal parts of at most the given minutes."""
    plan = Plan(
        tuple(
            Planned(cell, SEEDS)
            for cell in (*trained.cells(), small_cell("a2c", "Acrobot-v1", steps=400, points=4))
        )
    )
    declared = {one.cell.folder(Path()).as_posix(): (one, digest(plan)) for one in plan.planned}
    monkeypatch.setattr(campaign, "plans", lambda shelf, runs: declared)
    monkeypatch.setattr(campaign.estimate, "core_hours", lambda cell, seeds, replays, runs: seeds * 0.6)
    shutil.rmtree(runs / empty.planned[0].folder / "seed-1")
    listed = campaign.jobs(empty, runs, most=9, minutes=75.0)
    assert [(job.cell.task, job.seeds) for job in listed] == [
        ("CartPole-v1", (1,)), ("Acrobot-v1", (0, 1)), ("Acrobot-v1", (2,)),
    ]  # fmt: skip
    assert all(job.plan == digest(plan) for job in listed)
    assert len(campaign.jobs(empty, runs, most=2, minutes=75.0)) == 2


# ---- using it


def test_cells_are_found_by_name_and_digest(
    full: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    first, second, _ = full.planned
    assert shelf.choose("a2c", "CartPole-v1") == full.folder / first.folder
    assert shelf.find(second.digest[:6], tmp_path) == full.folder / second.folder
    for words, message in {
        ("a2c", "CartPole-v0"): "did you mean 'CartPole-v1'?",
        ("a3c", "CartPole-v1"): "did you mean 'a2c'?",
        ("a2c", "Acrobot-v1"): "planned and not yet on the shelf",
        ("a2c", "CartPole-v1", "zoo"): "unknown preset of a2c on CartPole-v1 on the shelf 'zoo'",
    }.items():
        with pytest.raises(InputError, match=message.replace("?", r"\?")):
            shelf.choose(*words)
    for end in ("x", "y"):  # what is ambiguous among one's own cells is not taken from the shelf
        (tmp_path / f"classic/CartPole-v1/a2c-zoo-{second.digest[:6]}{end}").mkdir(parents=True)
        (tmp_path / f"classic/CartPole-v1/a2c-zoo-{second.digest[:6]}{end}/cell.json").write_text("{}")
    with pytest.raises(InputError, match="ambiguous: it matches 2 cells"):
        shelf.find(second.digest[:6], tmp_path)
    code, out, err = call(capsys, "cite", "a2c", "CartPole-v1", "--estimator", "final")
    assert code == 0 and f"ascent verify {first.digest}" in out and "grade     recorded\n" in out, err
    code, out, _ = call(capsys, "verify", first.digest)
    assert code == 0 and "1 replayed, 2 recorded" not in out and "2 recorded, 1 replayed" in out
    code, _, err = call(capsys, "verify", "ffffffffff")
    assert code == 2 and err.count("\n") == 1


def test_a_report_beside_the_shelf(full: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A new setting with the shelf's cell in the same tables; rebuilt, bundled and verified as any report."""
    mine = tmp_path / "mine"
    cell = small_cell("a2c", "CartPole-v1", steps=400, points=4, gamma=0.9)
    plan = Plan((Planned(cell, SEEDS),))
    declare(plan, mine)
    trained.record(cell, mine)
    out = tmp_path / "out"
    words = ("report", str(mine), "--out", str(out), "--with-results", "a2c")
    code, _, err = call(capsys, *words)
    assert code == 0 and "check: 1 cell recorded" in err, err
    page = (out / "index.html").read_text()
    assert "gamma=0.9" in page and full.planned[0].digest in page
    outcomes = verify(out, runs=mine)
    assert [outcome.verdict for outcome in outcomes].count("recorded") == 2
    assert "rebuilt" in {outcome.verdict for outcome in outcomes}
    bundle.pack(out, mine, tmp_path / "mine.zip")
    with pytest.MonkeyPatch.context() as patch:  # somebody else has no such shelf
        patch.setattr(shelf, "HOME", tmp_path / "nothing")
        assert {outcome.verdict for outcome in verify(tmp_path / "mine.zip")} == {"recorded", "rebuilt"}
    assert call(capsys, *words[:-1], "a2d")[0] == 2
    longer = small_cell("a2c", "CartPole-v1", steps=480, points=4, gamma=0.9)
    trained.record(longer, tmp_path / "longer")
    (loaded,) = load(tmp_path / "longer")
    with pytest.raises(InputError, match="with 480 steps and 4 evaluations of 2 episodes: it has 400 steps"):
        baselines([loaded.name], tmp_path / "longer", ["a2c"])


def test_robustness_of_a_cell_of_the_shelf(
    full: Shelf, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Tables are written beside a copy: the shelf stays as it is."""
    before = contents(full.folder)
    second = full.planned[1]
    runs = tmp_path / "runs"
    words = ("robustness", second.digest, "--grid", "drop=0.5", "--episodes", "1", "--runs", str(runs))
    code, _, err = call(capsys, "robustness", full.planned[0].digest, *words[2:])
    assert code == 2 and "policies of 1 of 3 seeds, and this needs all" in err and not runs.exists()
    code, _, err = call(capsys, *words)
    assert code == 0, err
    assert list((runs / second.folder / layout.ROBUSTNESS).glob("*.csv"))
    assert contents(full.folder) == before
    assert broken(runs) == set()
    build(runs, tmp_path / "out")


def test_without_a_shelf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(shelf, "HOME", tmp_path)
    for words in (("results",), ("cite", "ppo", "CartPole-v1"), ("results", "build")):
        code, _, err = call(capsys, *words)
        expected = "no set of results is being filled" if "build" in words else "no results ship with this"
        assert code == 2 and expected in err and err.count("\n") == 1


def test_which_shelf_is_meant(full: Shelf) -> None:
    """Readers take the newest release, or else draft with cells; only a draft is filled; a draft's name leads
    to what it became.
    """
    later = [
        shelf.write(shelf.HOME / name, "f" * 40, full.planned) for name in ("2026.2-draft", "2027.1-draft")
    ]
    try:
        assert [one.name for one in shelf.shelves()] == ["2026.2-draft", "2026.12-draft", "2027.1-draft"]
        assert shelf.current() == full and shelf.draft() == later[1]
    finally:
        for one in later:
            shutil.rmtree(one.folder)
    released = full.folder.rename(shelf.HOME / "2026.12")
    try:
        assert shelf.named("2026.12-draft").folder == released == shelf.current().folder
        with pytest.raises(InputError, match="no set of results is being filled"):
            shelf.draft()
        later = Shelf(Path(shutil.copytree(released, shelf.HOME / "2027.1-draft")))
        assert shelf.draft() == later and shelf.current().folder == released
        shutil.rmtree(later.folder)
    finally:
        released.rename(full.folder)


def test_a_damaged_shelf_is_not_generated_again(full: Shelf, tmp_path: Path) -> None:
    """Else its checksums would cover the damage."""
    copy = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    (seal,) = seals(copy.folder / copy.planned[0].folder)
    data = seal.read_bytes()
    seal.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match="is damaged"):
        tables.build(copy)


def test_a_proof_is_of_one_seal(full: Shelf, tmp_path: Path) -> None:
    first = full.planned[0]
    (proof,) = (proof for proof in proofs.proofs(full) if proof.cell == first.folder)
    assert proofs.grade_of(full, first, [replace(proof, seal="sealed-0.zip")]) == "recorded"
    elsewhere = replace(proof, seeds="1", platform="another")  # one policy, played on another platform
    assert proofs.grade_of(full, first, [elsewhere, proof]) == "replayed, 3 of 3"
    copy = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    for old, new in (("replayed", "excellent"), ("0-2", "0-x")):
        text = (full.folder / shelf.PROOFS).read_text()
        (copy.folder / shelf.PROOFS).write_text(text.replace(old, new, 1))
        with pytest.raises(InputError, match=r"proofs.csv is damaged"):
            proofs.proofs(copy)


@pytest.mark.slow
def test_cells_are_proved_again(
    full: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The policy that is kept, then the whole training; what was trained again is not trained once more."""
    copy = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    monkeypatch.setattr(shelf, "HOME", tmp_path)
    before = proofs.proofs(copy)
    one, all_seeds, _ = copy.planned
    code, out, err = call(capsys, "results", "prove")
    assert code == 0 and "2 cells at depth policy: 2 verified now, 0 before" in out, err
    assert f"{one.folder}: replayed, seeds {int(one.digest, 16) % 3}" in out
    assert proofs.proofs(copy) == before, "a proof of fewer policies takes the place of one of all"
    for words in ("2 verified now, 0 before", "0 verified now, 2 before"):
        code, out, err = call(capsys, "results", "prove", "--depth", "whole", "--cheapest")
        assert code == 0 and words in out, err
    assert {proofs.grade_of(copy, cell, proofs.proofs(copy)) for cell in (one, all_seeds)} == {
        "retrained, 3 of 3"
    }
    assert "2 cells are retrained" in (copy.folder / tables.BOARD_MD).read_text()
    assert broken(copy.folder) == set()
    assert call(capsys, "results", "prove", one.digest, "--cheapest")[0] == 2
    code, _, err = call(capsys, "results", "prove", "--depth", "hole")
    assert code == 2 and "did you mean 'whole'?" in err


def test_a_draft_is_released(
    full: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """It has the same records and proofs, and tables with its final name; nothing writes to it again."""
    monkeypatch.setattr(shelf, "HOME", tmp_path)
    draft = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    (tmp_path / ".release" / "2026.12").mkdir(parents=True)  # half made, when it was killed
    (draft.folder / shelf.SCORES).write_text("other\n")
    code, _, err = call(capsys, "results", "release")
    assert code == 2 and "run `ascent results build`" in err and draft.present == full.present
    tables.build(draft)
    code, out, err = call(capsys, "results", "release")
    assert code == 0 and out == f"{tmp_path / '2026.12'}\n" and "2 cells are replayed" in err
    assert [path.name for path in tmp_path.iterdir()] == ["2026.12"]
    released = shelf.current()
    assert released.present == full.present and proofs.proofs(released) == proofs.proofs(full)
    assert broken(released.folder) == set()
    assert full.name not in (released.folder / tables.BOARD_MD).read_text()
    assert "no set of results is being filled" in call(capsys, "results", "release")[2]
    shutil.copytree(full.folder, tmp_path / full.name)
    assert "is released already" in call(capsys, "results", "release")[2]


@pytest.mark.parametrize(
    "stage",
    [
        ("ascent.reports.shelf.tables.files.write", 1, shelf.SCORES),
        ("pathlib.Path.rename", 1, "2026.12"),
        ("pathlib.Path.rename", 1, "2026.12-draft"),
        ("ascent.reports.shelf.release.shutil.rmtree", 2, ".release"),
    ],
    ids=["in the tables", "before the release", "before the draft goes", "before it is deleted"],
)
def test_a_killed_release(
    stage: tuple[str, int, str], full: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draft is there, and can be released, or the release is; both are whole."""
    monkeypatch.setattr(shelf, "HOME", tmp_path)
    draft = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    killed_at(stage[0], stage[1], lambda: release(draft), stage[2])
    for one in shelf.shelves():
        assert one.present == full.present and broken(one.folder) == set()
        assert (one.folder / tables.BOARD_MD).read_text().startswith(f"# Results {one.name}\n")
    if shelf.current() == draft:
        release(draft)
        assert [path.name for path in tmp_path.iterdir()] == ["2026.12"]
    assert shelf.current().name == "2026.12"


def test_the_next_shelf_begins_with_what_was_released(
    full: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the same commit; then its results can be cited at once, and only the others are trained."""
    monkeypatch.setattr(shelf, "HOME", tmp_path)
    released = Shelf(Path(shutil.copytree(full.folder, tmp_path / "2026.12")))
    tables.build(released)
    following = shelf.write(tmp_path / "2027.1-draft", released.commit, cells())
    assert shelf.carry_over(following) == released
    tables.build(following)
    assert following.present == released.present and following.missing == released.missing
    assert proofs.proofs(following) == proofs.proofs(released)
    assert broken(following.folder) == set()
    other = shelf.write(tmp_path / "2027.2-draft", "f" * 40, cells())
    assert shelf.carry_over(other) is None and other.present == []


def test_a_shelf_is_whole_after_each_proof(full: Shelf, tmp_path: Path) -> None:
    """Whenever `make proof` is stopped, the check that it begins with passes the next time."""
    copy = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    (copy.folder / shelf.SCORES).write_text("other\n")
    proofs.append(copy, [replace(proofs.proofs(copy)[0], grade="restarted")])
    (found,) = (one for one in check.check(copy.folder).outcomes if one.rule == "shelf-checksums")
    assert [Path(finding.where).name for finding in found.findings] == [shelf.SCORES]


def test_a_cell_that_differs_is_not_proved(
    full: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    copy = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    monkeypatch.setattr(shelf, "HOME", tmp_path)
    monkeypatch.setattr(proofs, "verify", lambda *_, **__: [Outcome("a/b/c/seed-1", DIFFERS, "at step 3")])
    before = (copy.folder / shelf.PROOFS).read_bytes()
    code, _, err = call(capsys, "results", "prove", "--depth", "start")
    assert code == 2 and "seed-1 DIFFERS: at step 3" in err
    assert (copy.folder / shelf.PROOFS).read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.update(commits=[]),
        lambda about: about["cells"][0].update(steps="400"),
        lambda about: about["cells"][0].update(folder="../../x"),
        lambda about: about["cells"][0].pop("tier"),
    ],
)
def test_a_damaged_plan(change: Callable[[dict], object], full: Shelf, tmp_path: Path) -> None:
    copy = Shelf(Path(shutil.copytree(full.folder, tmp_path / full.name)))
    edit(copy.folder / shelf.FILE, change)
    with pytest.raises(InputError, match="describes no shelf"):
        _ = copy.present


def test_code_of_the_campaign_is_a_clone(tmp_path: Path) -> None:
    """Else git would take the checkout around it."""
    (tmp_path / "code-ffffffffffff").mkdir()
    with pytest.raises(InputError, match="is no clone of this project"):
        campaign.code_of("f" * 40, tmp_path)
