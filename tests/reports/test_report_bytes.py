"""The same records give the same bytes, and a report is either the old one or the new one."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import pytest

from ascent.records.read import load
from ascent.reports.report import build

if TYPE_CHECKING:
    from tests.reports.conftest import Records

ROOT = Path(__file__).parents[2]


def test_same_bytes_elsewhere(sweep: "Records", store: "Records") -> None:
    """Other folder, relative paths, opposite order of creation, other zone, locale, home, hash seed.

    And nothing is imported on the way that a login node lacks, nor for check, bundle and cite.
    """
    store.sweep(order=-1)
    code = (
        "import sys; from pathlib import Path; from ascent.reports.report import build\n"
        "build(Path(sys.argv[1]), Path(sys.argv[2]), title='Four systems')\n"
        "import ascent.reports.cite, ascent.reports.checking.bundle, ascent.reports.checking.check\n"
        "sys.exit(bool({'torch', 'gymnasium', 'mujoco', 'ascent.suites'} & sys.modules.keys()))"
    )
    settings = {"TZ": "Pacific/Auckland", "LC_ALL": "C", "LANG": "de_DE.UTF-8", "PYTHONHASHSEED": "7"}
    # a matplotlibrc of the user's: other fonts and sizes
    (store.runs.parent / "matplotlibrc").write_text(
        "font.size: 20\nlegend.fontsize: 20\nfont.family: serif\n"
    )
    settings |= {"MATPLOTLIBRC": str(store.runs.parent), "USER": "someone", "HOME": str(store.runs.parent)}
    subprocess.run(
        [sys.executable, "-c", code, "runs", "out"],
        check=True,
        cwd=store.runs.parent,
        env=os.environ | settings | {"PYTHONPATH": str(ROOT)},
    )
    assert store.bytes() == sweep.bytes()


def test_the_order_of_expected_changes_nothing(sweep: "Records") -> None:
    found = [cell.name for cell in load(sweep.runs)]
    shuffled = [replace(name, seeds=name.seeds[::-1]) for name in found[::-1]]
    assert [cell.name for cell in load(sweep.runs, shuffled)] == found


def test_files_of_a_report(sweep: "Records") -> None:
    tables = ("scores", "spread", "verdicts", "aggregates", "improvement", "comparisons", "compute")
    figures = ("CartPole-v1", "Pendulum-v1", "intervals", "profiles", "efficiency", "improvement")
    assert set(sweep.bytes()) == {
        "index.html", "provenance.json", "data.parquet", "references.bib", "SHA256SUMS",
        "tables/completeness.csv", "tables/efficiency.csv", "tables/main.csv", "tables/findings.csv",
        *(f"tables/{name}.{form}" for name in tables for form in ("csv", "md", "tex")),
        *(f"figures/{name}.{form}" for name in figures for form in ("png", "pdf")),
    }  # fmt: skip
    for name, content in sweep.bytes().items():
        assert str(sweep.runs).encode() not in content, name


def test_figures_carry_no_metadata(sweep: "Records") -> None:
    image = sweep.bytes()["figures/CartPole-v1.png"]
    assert b"tEXt" not in image
    assert b"tIME" not in image
    assert matplotlib.__version__.encode() not in image
    document = sweep.bytes()["figures/CartPole-v1.pdf"]
    assert not any(word in document for word in (b"CreationDate", b"Producer", b"Creator"))


def test_an_older_report_is_replaced(store: "Records") -> None:
    cell = store.cell()
    store.flat_runs(cell, [1.0, 2.0])
    store.build(figures=True)
    store.run(cell, 2, [0.0] + [9.0] * 50)
    store.build(figures=True)
    assert store.scores().loc["ppo", "n"] == 3
    assert [path.name for path in store.out.parent.iterdir() if path.name.startswith(".")] == []


def test_a_failing_build_leaves_the_old_report(store: "Records", monkeypatch: pytest.MonkeyPatch) -> None:
    store.flat_runs(store.cell(), [1.0, 2.0])
    store.build(figures=True)
    before = store.bytes()

    def fail(*_: object) -> str:
        raise RuntimeError("disk full")

    # The last stage: all other files are written by then.
    monkeypatch.setattr("ascent.reports.page.write.render", fail)
    with pytest.raises(RuntimeError, match="disk full"):
        store.build(figures=True)
    assert store.bytes() == before
    assert sorted(path.name for path in store.out.parent.iterdir()) == ["out", "runs"]


def test_a_folder_that_is_no_report_is_never_replaced(store: "Records") -> None:
    store.flat_runs(store.cell(), [1.0, 2.0])
    store.out.mkdir()
    (store.out / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="contains files that are not part of a report"):
        store.build(figures=True)
    assert (store.out / "thesis.tex").read_text() == "years of work"
    with pytest.raises(ValueError, match="contains the runs"):
        build(store.runs, store.runs.parent)
