"""Robustness from recorded tables to a report, a bundle and `ascent check`."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from ascent.records.errors import InputError
from ascent.reports.checking import bundle
from ascent.reports.report import build
from ascent.runners import policies
from ascent.runners import robustness as recorder
from ascent.suites.perturb import KINDS
from tests.command import call
from tests.reports import trained
from tests.small import small_cell


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs`, their tables, and `report`; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    cell = trained.record(small_cell("a2c", "CartPole-v1", steps=64, points=2), folder / "runs")
    words = ["action_noise", "drop=0.5", "gravity=2"]
    recorder.record(cell, recorder.parse_levels("CartPole-v1", words), episodes=2)
    build(folder / "runs", folder / "report", title="One cell")
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(made, tmp_path / "copy")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_recorded_is_reported(made: Path) -> None:
    """The recorder's tables are those that this section reads."""
    (cell,) = made.glob("runs/*/*/*")
    told = pd.read_csv(made / "report" / "tables" / "robustness.csv").to_dict("records")
    names = {(row["kind"], row["level"]): row["mean"] for row in told}
    assert names.keys() == {("drop", 0.0), ("drop", 0.5), ("gravity", 1.0), ("gravity", 2.0),
                            *(("action_noise", level) for level in (0.0, 0.1, 0.2, 0.4))}  # fmt: skip
    for (kind, level), mean in names.items():
        name = "nominal-0" if level == KINDS[kind].neutral else f"{kind}-{level:g}"
        played = pd.read_csv(cell / "robustness" / f"{name}.csv")
        assert mean == pytest.approx(played["return"].mean())
    whole = pd.read_csv(made / "report" / "tables" / "robustness_areas.csv")
    assert whole["kind"].tolist() == ["action_noise"]
    assert "Not used:" not in (made / "report" / "index.html").read_text()


def test_a_bundle_carries_the_tables(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Another machine makes the same report of it."""
    target = tmp_path / "report.zip"
    names = bundle.pack(made / "report", made / "runs", target)
    (cell,) = made.glob("runs/*/*/*")
    tables = {str(path.relative_to(made)) for path in (cell / "robustness").iterdir()}
    assert len(tables) == 7 and tables <= set(names)
    code, _, err = call(capsys, "report", str(target), "--out", str(tmp_path / "again"))
    assert code == 0, err
    assert files_of(tmp_path / "again") == files_of(made / "report")
    assert call(capsys, "verify", str(target))[0] == 0


def test_check_knows_the_tables(made: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, _ = call(capsys, "check", str(made / "runs"))
    assert code == 0 and "robustness is no part" not in out


def test_check_finds_tables_of_other_policies(copied: Path, capsys: pytest.CaptureFixture) -> None:
    (cell,) = copied.glob("runs/*/*/*")
    path = cell / "robustness" / "drop-0.5.csv"
    path.write_text(path.read_text().replace(policies.names(cell, [0])[0], "0123456789abcdef"))
    code, out, _ = call(capsys, "check", str(copied / "runs"))
    assert code == 1 and "robustness/drop-0.5.csv: was not played by the final policies" in out
    (cell / "robustness" / "grid.json").write_text("{")
    assert "robustness/grid.json: missing or damaged" in call(capsys, "check", str(copied / "runs"))[1]


@pytest.mark.parametrize("change", ["more", "fewer", "other"])
def test_a_bundle_of_other_tables_than_the_reports_is_refused(copied: Path, change: str) -> None:
    """Else the report that another machine makes of it is another."""
    (cell,) = copied.glob("runs/*/*/*")
    path = cell / "robustness" / "drop-0.5.csv"
    if change == "more":
        recorder.record(cell, recorder.parse_levels("CartPole-v1", ["drop=1"]), episodes=2)
    elif change == "fewer":
        path.unlink()
    else:
        trained.rows(path, lambda rows: rows.__setitem__(0, rows[0].replace(",0,", ",0,9", 1)))
    with pytest.raises(InputError, match="records have changed"):
        bundle.pack(copied / "report", copied / "runs", copied / "new.zip")
