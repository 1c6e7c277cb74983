"""Crossplay from its table beside the cells to a report, a bundle, `ascent check` and `ascent verify`."""

import json
import re
import shutil
from collections.abc import Callable
from hashlib import sha256
from html import escape
from pathlib import Path

import pandas as pd
import pytest

from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.records.read import load
from ascent.reports.checking import bundle
from ascent.reports.checking.grades import REPLAYED
from ascent.reports.checking.verify import verify
from ascent.reports.page.render import MINUS
from ascent.reports.report import build
from ascent.reports.statistics import crossplay as statistics
from ascent.reports.statistics import crossplay_table
from ascent.reports.statistics.aggregate import aggregate
from ascent.runners import crossplay
from tests.command import call
from tests.reports import trained
from tests.reports.page.test_report_page import Elements
from tests.reports.perturbed import text_of
from tests.small import small_cell

TASK, SYSTEMS = "simple_adversary_v3", ("ippo", "maddpg")
NAME = f"particle/{TASK}/crossplay.csv"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two systems on a competitive task, two seeds, and the report of a folder without crossplay."""
    folder = tmp_path_factory.mktemp("bare")
    for system in SYSTEMS:
        trained.record(small_cell(system, TASK, points=1), folder / "runs", [0, 1])
    build(folder / "runs", folder / "report", title="Two teams")
    return folder


@pytest.fixture(scope="module")
def made(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a table, as the command keeps it, and another report; not to be changed."""
    folder = Path(shutil.copytree(bare, tmp_path_factory.mktemp("made") / "made"))
    content = crossplay.record(crossplay.find(TASK, folder / "runs"), 2)
    assert crossplay.keep(content, TASK, folder / "runs") == folder / "runs" / NAME
    build(folder / "runs", folder / "report", title="Two teams")
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def built(home: Path) -> str:
    """The text of a new report."""
    page = build(home / "runs", home / "report", title="Two teams").read_text(encoding="utf-8")
    Elements(page)
    return text_of(page)


def about(home: Path) -> dict:
    return json.loads((home / "report" / "provenance.json").read_text())


def cell_of(home: Path, system: str = "ippo") -> Path:
    (cell,) = home.glob(f"runs/particle/{TASK}/{system}-*")
    return cell


def section(page: str) -> str:
    return page.partition('<h2 id="crossplay">')[2].partition("</section>")[0]


def test_without_a_table_there_is_nothing(bare: Path) -> None:
    """No section, no entry, no file: the bytes of reports of before."""
    page = text_of((bare / "report" / "index.html").read_text())
    assert "rossplay" not in page and "crossplay" not in about(bare)
    assert not [name for name in files_of(bare / "report") if "crossplay" in name]


def test_the_page_has_the_matrices(made: Path) -> None:
    """Every mean and limit, under the labels of the report; the files, and the digest of the table."""
    content = (made / "runs" / NAME).read_bytes()
    assert about(made)["crossplay"] == {NAME: sha256(content).hexdigest()}
    names = {name for name in files_of(made / "report") if "crossplay" in name}
    assert names == {
        *(f"tables/crossplay.{form}" for form in ("csv", "md", "tex")),
        *(f"figures/crossplay-{TASK}.{form}" for form in ("png", "pdf")),
    }
    page = (made / "report" / "index.html").read_text()
    shown = section(page)
    elements = Elements(page)
    assert {link.removeprefix("#") for link in elements.attributes("href")} <= set(elements.attributes("id"))
    matrices = statistics.matrices(crossplay_table.read(content))
    assert shown.count('<table class="matrix">') == len(matrices) >= 4
    assert "Mean over 2 seeds (0-1)" in shown and "2 greedy episodes" in shown and "few seeds" in shown
    told = pd.read_csv(made / "report" / "tables" / "crossplay.csv")
    assert len(told) == 4 * len(matrices) and set(told["n"]) == {2} and set(told["episodes"]) == {2}
    for matrix in matrices:
        assert f"<p><b>{matrix.title.capitalize()}</b></p>" in shown
        for i, adversaries in enumerate(SYSTEMS):
            for j, agents in enumerate(SYSTEMS):
                row = told[
                    (told["number"] == matrix.title)
                    & (told["adversaries"] == adversaries)
                    & (told["agents"] == agents)
                ]
                numbers = [float(values[i, j]) for values in (matrix.mean, matrix.low, matrix.high)]
                told_numbers = row[["mean", "low", "high"]].to_numpy().tolist()
                assert told_numbers == [pytest.approx(numbers, nan_ok=True)]
                assert row["adversaries_digest"].tolist() == [cell_of(made, adversaries).name[-10:]]
                texts = [f"{n:,.{matrix.places}f}".replace("-", MINUS) for n in numbers]
                limits = f"[{texts[1]}, {texts[2]}]"
                if reason := matrix.no_limits[i, j]:
                    limits = f"no interval ({reason})"
                cell = f">{texts[0]}<br><small>{limits}</small></td>"
                assert re.sub(rf"{MINUS}(0\.?0*)(?=[<,\]])", r"\1", cell) in shown


def test_the_command_keeps_its_table(copied: Path, capsys: pytest.CaptureFixture) -> None:
    """In place of the one before, and nothing else changes in the records."""
    before = files_of(copied / "runs")
    words = ["crossplay", TASK, "--runs", str(copied / "runs"), "--episodes", "1", "--out"]
    code, out, _ = call(capsys, *words, str(copied / "out"))
    assert code == 0 and out.splitlines()[-2:] == [str(copied / "runs" / NAME), str(copied / "out")]
    after = files_of(copied / "runs")
    assert {name for name in after if after[name] != before.get(name)} == {NAME}
    assert after[NAME] == (copied / "out" / "crossplay.csv").read_bytes()


def test_results_that_ship_are_not_written_to(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ascent.records.shelf.HOME", copied.resolve())
    before = files_of(copied)
    assert crossplay.keep(b"", TASK, copied / "runs") is None
    assert files_of(copied) == before


def train_again(home: Path) -> None:
    """Seed 1 of one cell has another policy."""
    path = cell_of(home) / "seed-1" / "result.json"
    trained.edit(path, lambda result: result["digests"].update({"policy.npz": "0" * 64}))


def drop_cell(home: Path) -> None:
    shutil.rmtree(cell_of(home))


def drop_seed(home: Path) -> None:
    shutil.rmtree(cell_of(home) / "seed-1")


def change(edit: Callable[[str], str]) -> Callable[[Path], object]:
    return lambda home: (home / "runs" / NAME).write_text(edit((home / "runs" / NAME).read_text()))


def last_row(edit: Callable[[list[str]], object]) -> Callable[[Path], object]:
    def to_table(text: str) -> str:
        *first, last = text.splitlines()
        words = last.split(",")
        edit(words)
        return "\n".join([*first, ",".join(words)]) + "\n"

    return change(to_table)


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "trained again": (train_again, "was played by another policy than that of seed 1 of cell"),
    "no cell": (drop_cell, "is not among the cells here"),
    "no seed": (drop_seed, "seed 1 of cell"),
    "empty": (change(lambda text: ""), "wrong columns"),
    "no rows": (change(lambda text: text.splitlines()[0]), "or there is none"),
    "columns": (change(lambda text: text.replace("seed,", "sead,", 1)), "wrong columns"),
    "many columns": (change(lambda text: text.replace("\n", ",x" * 99 + "\n", 1)), "wrong columns"),
    "markup": (change(lambda text: text.replace("\n", ",<b>\n", 1)), "wrong columns"),
    "no number": (last_row(lambda words: words.__setitem__(-1, "good")), "a value has the wrong type"),
    "no seed number": (last_row(lambda words: words.__setitem__(7, "9" * 30)), "a value has the wrong type"),
    "long rows": (change(lambda text: text.replace(f"\n{TASK}", f"\n1,{TASK}")), "too many values"),
    "infinite": (last_row(lambda words: words.__setitem__(-1, "inf")), "is not finite"),
    "no value": (last_row(lambda words: words.__setitem__(-1, "")), "is not finite"),
    "digest": (last_row(lambda words: words.__setitem__(2, "<i>")), "cell <i> is not among"),
    "other task": (last_row(lambda words: words.__setitem__(0, "x")), "is of another task"),
    "episodes": (last_row(lambda words: words.__setitem__(8, "7")), "mixes numbers of episodes"),
    "a row less": (change(lambda text: text[: text.rindex("\n", 0, -1) + 1]), "does not have every pair"),
    "a row twice": (change(lambda text: text + text.splitlines()[-1] + "\n"), "does not have every pair"),
    "bytes": (lambda home: (home / "runs" / NAME).write_bytes(b"\xff\x00\n" * 5), "wrong columns"),
    "late bytes": (
        lambda home: (home / "runs" / NAME).write_bytes((home / "runs" / NAME).read_bytes() + b"\xff\n"),
        "a value has the wrong type",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_used_has_one_reason(copied: Path, name: str) -> None:
    spoil, message = REFUSED[name]
    spoil(copied)
    found = statistics.crossplays(copied / "runs", aggregate(load(copied / "runs"), Declared()))
    (line,) = found.refused
    assert line.startswith(f"{NAME}: ") and message in line and "\n" not in line
    assert not found.played and found.files.keys() == {NAME}


@pytest.mark.parametrize("name", ["trained again", "digest"])
def test_what_is_not_used_has_one_line_on_the_page(copied: Path, name: str) -> None:
    """Escaped, and no number of the table."""
    spoil, message = REFUSED[name]
    spoil(copied)
    shown = section(built(copied))
    (line,) = re.findall("<p class=.banner bad.>Not used: (.*)</p>", shown)
    assert line.startswith(f"<code>{NAME}: ") and escape(message, quote=False) in line
    assert 'class="matrix"' not in shown
    assert not [file for file in files_of(copied / "report") if "crossplay" in file]
    assert about(copied)["crossplay"].keys() == {NAME}


def test_a_link_or_a_huge_table_is_refused(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It could be a secret of this machine, or fill its memory."""
    table = copied / "runs" / NAME
    with monkeypatch.context() as patch:
        patch.setattr(crossplay_table, "MOST_BYTES", 100)
        with pytest.raises(InputError, match="at most 100 are read"):
            built(copied)
    table.rename(copied / "elsewhere.csv")
    table.symlink_to(copied / "elsewhere.csv")
    with pytest.raises(InputError, match="is a link"):
        built(copied)


def test_a_bundle_carries_the_table(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Another machine makes the same report of it."""
    target = tmp_path / "report.zip"
    assert f"runs/{NAME}" in bundle.pack(made / "report", made / "runs", target)
    code, _, err = call(capsys, "report", str(target), "--out", str(tmp_path / "again"))
    assert code == 0, err
    assert files_of(tmp_path / "again") == files_of(made / "report")
    assert call(capsys, "verify", str(target))[0] == 0
    assert call(capsys, "check", str(target))[0] == 0


@pytest.mark.parametrize("how", ["other", "gone", "new"])
def test_a_bundle_of_another_table_than_the_reports_is_refused(copied: Path, bare: Path, how: str) -> None:
    report = copied / "report"
    if how == "other":
        last_row(lambda words: words.__setitem__(-1, "0.25"))(copied)
    elif how == "gone":
        (copied / "runs" / NAME).unlink()
    else:
        report = bare / "report"
    with pytest.raises(InputError, match=f"records have changed: {NAME} changed since the report was built"):
        bundle.pack(report, copied / "runs", copied / "new.zip")


def test_check_and_verify(copied: Path, capsys: pytest.CaptureFixture) -> None:
    """Both pass; what other policies played is a finding."""
    code, out, _ = call(capsys, "check", str(copied / "runs"))
    assert code == 0 and "crossplay-tables" in out
    outcomes = {
        outcome.where: outcome for outcome in verify(copied / "report", "policy", runs=copied / "runs")
    }
    assert outcomes[NAME].verdict == REPLAYED and outcomes[NAME].reason == "all 8 rows come out again"
    last_row(lambda words: words.__setitem__(3, "0" * 16))(copied)
    code, out, _ = call(capsys, "check", str(copied / "runs"))
    assert code == 1 and out.count("FAIL") == 1
    assert f"{NAME}: was played by another policy" in " ".join(out.split())
