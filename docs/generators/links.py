"""Links of texts that stand elsewhere in the repository than on the site."""

import posixpath
import re
import tomllib
from collections.abc import Callable, Collection
from functools import cache

from docs.generators.places import DOCS, ROOT, SITE

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
ELSEWHERE = re.compile(r"[a-z]+:|#")  # a link to another site, or within the page
FENCE = re.compile(r"\s*(```+|~~~+)")


@cache
def repository() -> str:
    """Return the address of the repository in pyproject.toml; "" if there is none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return str(project.get("urls", {}).get("Repository", "")).rstrip("/")


def outside_of_code(markdown: str, change: Callable[[str], str]) -> str:
    """Return a text with its parts changed, except blocks of code."""
    parts: list[tuple[bool, list[str]]] = []  # whether it is code, and its lines
    fence = ""
    for line in markdown.split("\n"):
        mark = FENCE.match(line)
        is_code = bool(fence or mark)
        if not parts or parts[-1][0] != is_code:
            parts.append((is_code, []))
        parts[-1][1].append(line)
        if mark and not fence:
            fence = mark[1]
        elif mark and line.strip() == fence:
            fence = ""
    texts = ((is_code, "\n".join(lines)) for is_code, lines in parts)
    return "\n".join(text if is_code else change(text) for is_code, text in texts)


def rewritten(markdown: str, source: str, uri: str, present: Collection[str]) -> str:
    """Return the text of a page with its links leading to where the targets are on the site.

    A file that is not on the site becomes a link to the repository, or plain text if that has no address.

    Args:
        markdown: the text.
        source: its place in the repository, such as slurm/README.md.
        uri: its place on the site, such as guides/slurm.md.
        present: the places of all pages and files of the site.
    """

    def place(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if ELSEWHERE.match(match["target"]):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        home = on_site(path)
        if home in present:
            here = posixpath.relpath(home, posixpath.dirname(uri) or ".")
            return f"{match['image']}[{match['text']}]({here}{'#' + anchor if anchor else ''})"
        if match["image"] or not (ROOT / path).exists():
            return match[0]  # `mkdocs build --strict` names it
        if repository():
            return f"[{match['text']}]({repository()}/blob/HEAD/{path})"
        return match["text"]

    return outside_of_code(markdown, lambda text: LINK.sub(place, text))


def on_site(path: str) -> str:
    """Return where a path of the repository is on the site, if it is there."""
    for candidate in (path, f"{path}/README.md"):
        if candidate in SITE:
            return SITE[candidate]
    return posixpath.relpath(path, DOCS) if path.startswith(f"{DOCS}/") else ""
