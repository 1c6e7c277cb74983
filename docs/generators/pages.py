"""The pages and files of the site that do not stand in docs/, and the generated parts of those that do."""

import posixpath
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

from docs.generators import algorithms, differences, findings, notebook, reference, results, tasks
from docs.generators.places import DOCS, ROOT, SHELF_PLACE, SITE

PAGES: dict[str, Callable[[], str]] = {
    "algorithms/index.md": algorithms.index,
    "suites/index.md": tasks.index,
    "results/verdicts.md": results.verdict_page,
    "reference/commands.md": reference.commands,
    "reference/sweeps.md": reference.sweeps,
    "reference/python.md": reference.python,
    "tutorial.md": notebook.page,
}
FOLDERS = {"algorithms": algorithms, "suites": tasks}  # with a page per algorithm file, and per suite
PARTS = {  # of single pages
    "index.md": {"leaderboard": results.in_brief},
    "results.md": findings.PARTS,
    "verdicts.md": differences.PARTS,
}
COMPARISON = "comparison.md"  # a section of README.md
SORTABLE = SITE[f"{SHELF_PLACE}/leaderboard.html"]
PART = re.compile(r"<!-- generated: (\w+) -->")


@cache
def generated() -> dict[str, str | bytes]:
    """Return the content of each page and figure that is made for the site, by its place on the site."""
    found: dict[str, str | bytes] = {uri: make() for uri, make in PAGES.items()}
    found |= notebook.pictures()
    found[COMPARISON] = section("How it compares")
    found[SORTABLE] = results.sortable()
    for folder, module in FOLDERS.items():
        for name in module.NAMES:
            if not (ROOT / DOCS / folder / f"{name}.md").exists():
                found[f"{folder}/{name}.md"] = module.default_page(name)
    for name in algorithms.NAMES:
        if drawing := results.figure(algorithms.systems_of(name)):
            found[f"algorithms/figures/{name}.svg"] = drawing
    return found


def section(title: str) -> str:
    """Return a section of README.md as a page."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return f"# {title}\n{readme.partition(f'## {title}' + chr(10))[2].partition(chr(10) + '## ')[0]}"


def copied() -> dict[str, Path]:
    """Return the files that are shown or offered as they are, by their place on the site."""
    found = {uri: ROOT / place for place, uri in SITE.items() if (ROOT / place).is_file()}
    return {uri: path for uri, path in found.items() if uri != SORTABLE}


def source_of(uri: str) -> str:
    """Return where in the repository the text of a page stands, from where its links lead."""
    if uri == COMPARISON:
        return "README.md"
    places = {uri: place for place, uri in SITE.items() if (ROOT / place).is_file()}
    return places.get(uri, posixpath.join(DOCS, uri))


def filled(markdown: str, uri: str) -> str:
    """Return the text of a page with its generated parts in their places.

    Raises:
        KeyError: there is no such part.
    """
    folder, name = posixpath.split(uri.removesuffix(".md"))
    if folder not in FOLDERS and uri not in PARTS:
        return markdown

    def make(match: re.Match[str]) -> str:
        if folder in FOLDERS:
            return FOLDERS[folder].PARTS[match[1]](name)
        return PARTS[uri][match[1]]()

    return PART.sub(make, markdown)


def of_folder(folder: str) -> list[str]:
    """Return the pages of a folder of algorithms or suites but its index, in the order of the navigation."""
    return [f"{folder}/{name}.md" for name in FOLDERS[folder].NAMES]
