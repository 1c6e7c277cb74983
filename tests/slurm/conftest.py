"""Shared by the tests with a real SLURM."""

import os
from collections.abc import Iterable, Iterator

import pytest

from tests.slurm import accounting
from tests.slurm.cluster import PROGRAMS, Cluster, missing


@pytest.fixture(scope="session")
def real_slurm() -> None:
    """Where SLURM is not installed this skips what needs it, or fails it if REQUIRE_SLURM=1 is set."""
    _require(PROGRAMS, "slurmctld slurmd slurm-client munge")


@pytest.fixture(scope="session")
def real_accounting(real_slurm: None) -> None:
    """The same for SLURM's accounting."""
    _require(accounting.PROGRAMS, "slurmdbd mariadb-server-core")


def _require(programs: Iterable[str], packages: str) -> None:
    if absent := missing(programs):
        if os.environ.get("REQUIRE_SLURM") == "1":
            pytest.fail(f"{absent} is not installed, but REQUIRE_SLURM=1 is set")
        pytest.skip(f"{absent} is not installed: apt install {packages}")


@pytest.fixture(scope="module")
def cluster(real_slurm: None) -> Iterator[Cluster]:
    """Two nodes of four CPUs and two fake GPUs each."""
    with Cluster(nodes=2, cpus=4) as cluster:
        yield cluster
