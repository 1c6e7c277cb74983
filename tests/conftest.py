"""Shared by all tests."""

# isort: off
from ascent import algorithms  # (before numpy and torch: it chooses their mathematical functions)
# isort: on

from collections.abc import Callable, Iterator

import pytest
import torch

from ascent import kernels, suites
from ascent.runners.platform import packages

torch.set_num_threads(1)


def _forget() -> None:
    kernels._library.cache_clear()
    packages.cache_clear()


@pytest.fixture
def switch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that turns the kernels "on" or "off", for new processes too."""

    def turn(state: str) -> None:
        monkeypatch.setenv("ASCENT_KERNELS", state)
        _forget()

    yield turn
    monkeypatch.undo()
    _forget()


@pytest.fixture(autouse=True)
def own_names() -> Iterator[None]:
    """Forget the tasks and systems from outside the suite that a test adds to its process."""
    tables: tuple[dict, ...] = (suites.TASKS, suites._FOREIGN, algorithms.SYSTEMS)
    before = [dict(table) for table in tables]
    yield
    for table, content in zip(tables, before, strict=True):
        table.clear()
        table.update(content)


@pytest.fixture
def torch_only(switch: Callable[[str], None]) -> None:
    """Turn the kernels off: torch computes everything."""
    switch("off")


@pytest.fixture(params=["kernels", "torch"])
def either_path(request: pytest.FixtureRequest, switch: Callable[[str], None]) -> str:
    """Run a test on both paths, and return which it is: with the kernels, if they are built, and without."""
    switch("on" if request.param == "kernels" else "off")
    if request.param == "kernels" and not kernels.enabled():
        pytest.skip("the kernels are not built: see kernels/README.md")
    return request.param
