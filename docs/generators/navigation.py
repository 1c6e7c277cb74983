"""The navigation: pages in the place of its stars."""

from typing import Any

from docs.generators import pages
from docs.generators.places import DOCS, ROOT

OTHERS = "*"  # stands for the pages of docs/ that the navigation does not name


def expanded(nav: list[Any]) -> list[Any]:
    """Return the navigation of mkdocs.yml with pages in the place of `*` and of `folder/*`."""
    named = set(_names(nav))
    others = sorted(path.name for path in (ROOT / DOCS).glob("*.md") if path.name not in named)
    return _expand(nav, others)


def _expand(items: list[Any], others: list[str]) -> list[Any]:
    out: list[Any] = []
    for item in items:
        if isinstance(item, dict):  # a section, or a page with a title
            out += [
                {title: _expand(value, others) if isinstance(value, list) else value}
                for title, value in item.items()
            ]
        elif item == OTHERS:
            out += others
        elif item.endswith("/*"):
            out += pages.of_folder(item.removesuffix("/*"))
        else:
            out.append(item)
    return out


def _names(item: Any) -> list[str]:
    """Return the names of all pages in a part of the navigation."""
    if isinstance(item, str):
        return [item]
    return [name for part in (item.values() if isinstance(item, dict) else item) for name in _names(part)]
