"""The documentation site as it is built: strict, with links that lead somewhere, and without the network."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from docs.generators import notebook
from tests.docs import tutorial

ROOT = Path(__file__).parents[2]
PICTURE_OR_CODE = {"img", "script", "iframe", "source", "video", "audio", "embed"}


class Links(HTMLParser):
    """What a page loads, where its links lead, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag in PICTURE_OR_CODE and "src" in given:
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") not in ("next", "prev", "canonical"):
            self.loads.append(given["href"])
        if tag == "a" and "href" in given:
            self.leads.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as `make docs` builds it."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.slow
def test_nothing_is_loaded_from_the_network(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 50
    for page in pages:
        for target in Links(page).loads:
            assert not re.match(r"(\w+:)?//", target), (page, target)
            if not target.startswith("data:") and page.name != "404.html":
                assert (page.parent / unquote(target.partition("?")[0])).is_file(), (page, target)
        assert 'class="mermaid"' not in page.read_text()  # would load a script
        assert "arithmatex" not in page.read_text()  # an equation that is not MathML
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?https?:|@import", style.read_text()), style


@pytest.mark.slow
def test_links_lead_somewhere(site: Path) -> None:
    found = {page.resolve(): Links(page) for page in site.rglob("*.html") if page.name != "404.html"}
    checked = 0
    for page, links in found.items():
        for target in links.leads:
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = (page.parent / unquote(path)).resolve() if path else page
            assert there.is_file(), (page, target)
            if anchor and there in found and not anchor.startswith("__"):
                assert unquote(anchor) in found[there].anchors, (page, target)
            checked += 1
    assert checked > 1000


@pytest.mark.slow
def test_search_works_from_a_file(site: Path, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path}"]
    address = f"file://{site}/index.html?q=conjugate"
    command = [browser, *flags, "--virtual-time-budget=15000", "--dump-dom", address]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    assert re.search(r"\d+ matching document", dom)
    assert "algorithms/trpo.html?h=conjugate" in dom


@pytest.mark.slow
def test_the_notebook_shows_what_it_computes() -> None:
    """On the class of processor on which it was stored; elsewhere it runs without an error."""
    again, stored = tutorial.executed(), notebook.read()
    if again.metadata.platform == stored.metadata.platform:
        assert tutorial.shown(again) == tutorial.shown(stored)


def test_the_notebook_is_stored_with_its_output() -> None:
    page = notebook.page()
    cells = [cell for cell in notebook.read().cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    assert len(notebook.pictures()) == 1 and "tutorial/" in page
    assert page.count("```python") == len(cells) and "mean of ten: " in page
    assert not any(output.output_type == "error" for cell in cells for output in cell.outputs)
