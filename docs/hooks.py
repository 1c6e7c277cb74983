"""What mkdocs adds to the pages in docs/: texts of other folders, and what is made from code and results.

mkdocs calls the functions by their names (https://www.mkdocs.org/user-guide/plugins/#events).
"""

import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from docs.generators import equations, links, navigation, pages  # noqa: E402


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put pages in the place of the stars of the navigation."""
    config.nav = navigation.expanded(config.nav or [])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files in docs/, and the data that they link to."""
    for uri, content in pages.generated().items():
        files.append(File.generated(config, uri, content=content))
    for uri, path in pages.copied().items():
        files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill the places that a page leaves for generated parts, and let links lead to pages of the site."""
    uri = page.file.src_uri
    present = {file.src_uri for file in files}
    return links.rewritten(pages.filled(markdown, uri), pages.source_of(uri), uri, present)


def on_page_content(html: str, **_: Any) -> str:
    """Turn equations into MathML, which browsers show without a script."""
    return equations.as_mathml(html)
