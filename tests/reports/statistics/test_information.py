"""What a policy that pays for observations spent: as recorded, over the last fifth, beside its rate."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ascent.records.expected import Expected
from ascent.reports.report import build
from ascent.runners.train import train
from tests.small import small_cell

SEEDS = [0, 1, 2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RPC in nats and in bits, RPC without a price of information, and an algorithm that pays nothing."""
    folder = tmp_path_factory.mktemp("runs")
    free = ("rpc", {"bottleneck": False})
    for system, overrides in (("rpc", {}), ("rpc", {"bits": True, "rate": 0.7}), free, ("sac", {})):
        assert train(small_cell(system, "Pendulum-v1", points=7, **overrides), SEEDS, folder)
    return folder


def test_the_table_is_of_the_records(runs: Path, tmp_path: Path) -> None:
    build(runs, tmp_path / "page")
    table = pd.read_csv(tmp_path / "page" / "tables" / "information.csv")
    assert table["unit"].tolist() == ["nats", "bits"] or table["unit"].tolist() == ["bits", "nats"]
    for _, row in table.iterrows():
        (cell,) = (runs / "classic" / "Pendulum-v1").glob(f"rpc-*-{row['digest']}")
        sample = []
        for seed in SEEDS:
            metrics = pd.read_csv(cell / f"seed-{seed}" / "metrics.csv")
            sample.append(metrics["cost"][metrics["step"] > 0.8 * metrics["step"].max()].mean())
        assert len(metrics) > 5 and row["n"] == 3
        assert row["cost"] == pytest.approx(np.mean(sample))
        assert (row["low"], row["high"]) == pytest.approx(
            stats.t.interval(0.95, 2, np.mean(sample), stats.sem(sample))
        )
        assert row["rate"] == {"nats": 0.3, "bits": 0.7}[row["unit"]]
        assert row["cost_over_rate"] == pytest.approx(row["cost"] / row["rate"])
    page = (tmp_path / "page" / "index.html").read_text()
    assert "figures/information-Pendulum-v1.pdf" in page and "0.7 bits" in page
    assert (tmp_path / "page" / "figures" / "information-Pendulum-v1.png").stat().st_size > 10_000


def test_a_single_run_has_no_limits(runs: Path, tmp_path: Path) -> None:
    """The words are those of the main table."""
    cell = next((runs / "classic" / "Pendulum-v1").glob("rpc-*"))
    build(
        runs,
        tmp_path / "page",
        expected=[Expected("classic", "Pendulum-v1", *cell.name.rsplit("-", 2), (0,))],
    )
    shown = (tmp_path / "page" / "tables" / "information.md").read_text()
    assert shown.count("no interval (n=1)") == 1
    table = pd.read_csv(tmp_path / "page" / "tables" / "information.csv")
    assert table["no_limits"].tolist() == ["n=1"] and table["low"].isna().all()


def test_nothing_where_nobody_pays(runs: Path, tmp_path: Path) -> None:
    for cell in (runs / "classic" / "Pendulum-v1").glob("sac-*"):
        target = tmp_path / "runs" / "classic" / "Pendulum-v1" / cell.name
        target.parent.mkdir(parents=True)
        target.symlink_to(cell)
    build(tmp_path / "runs", tmp_path / "page")
    assert not (tmp_path / "page" / "tables" / "information.csv").exists()
    assert "information-" not in (tmp_path / "page" / "index.html").read_text()
