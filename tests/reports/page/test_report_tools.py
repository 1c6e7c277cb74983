"""The page in a browser, the tables in LaTeX, the bibliography in BibTeX."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ascent.records import shelf
from ascent.reports import page
from ascent.reports.shelf.tables import BOARD_HTML

if TYPE_CHECKING:
    from tests.reports.conftest import Records

TABLES = ("scores", "spread", "verdicts", "aggregates", "improvement", "comparisons", "compute")
browser = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(not browser, reason="Chromium is not installed")


def in_browser(page: str, folder: Path, script: str, width: int = 1400) -> str:
    """The document as it is after `script` has run in it, in a window of this width, 500 at least."""
    changed = folder / "page.html"
    changed.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    flags.append(f"--window-size={width},900")
    done = subprocess.run(
        [browser, *flags, "--dump-dom", changed.as_uri()], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def column(page: str, table: str, k: int) -> list[str]:
    """Text of column `k` (from 0) of the first sortable table that has `table` among its heads."""
    found = next(
        part for part in re.findall(r'<table class="sortable">.*?</table>', page, re.DOTALL) if table in part
    )
    rows = re.findall(r"<tr.*?</tr>", found.partition("<tbody>")[2], re.DOTALL)
    return [
        re.sub(r"<[^>]*>", "", re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)[k]).strip() for row in rows
    ]


def numbers(texts: list[str]) -> list[float]:
    return [float(text.replace("\N{MINUS SIGN}", "-").replace(",", "")) for text in texts]


@needs_browser
def test_tables_are_sorted_by_a_click(spoilt: "Records", tmp_path: Path) -> None:
    """Once: ascending; twice: descending. Text by letters, numbers by size, what has no number last."""
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    click = (
        "const table = [...document.querySelectorAll('table.sortable')]"
        ".find(t => t.tHead.innerText.includes('Welch'));"
        "const head = [...table.tHead.rows[0].cells].find(c => c.innerText.startsWith('x - y'));"
    )
    differences = numbers(column(page, "p (Welch)", 3))
    assert differences != sorted(differences)
    for clicks, expected in ((1, sorted(differences)), (2, sorted(differences, reverse=True))):
        folder = tmp_path / str(clicks)
        folder.mkdir()
        shown = column(in_browser(page, folder, click + "head.click();" * clicks), "p (Welch)", 3)
        assert numbers(shown) == expected


# Draws all figures, and writes what a reader would stumble over into the title.
PROBE = """
document.querySelectorAll("details").forEach((part) => { part.open = true; });
document.querySelectorAll(".plot").forEach(draw);
document.body.style.width = WIDTH + "px";
const found = [...errors];
const right = document.body.getBoundingClientRect().right + 1;
for (const part of document.querySelectorAll("main *, header *, nav *")) {
  if (part.closest(".scroll, svg, pre") && !part.matches(".scroll")) continue;
  const box = part.getBoundingClientRect();
  if (box.width && box.right > right) found.push(`${part.tagName} ${part.className} is cut off`);
}
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const parent = texts.currentNode.parentElement;
  if (!texts.currentNode.data.trim() || !parent.getClientRects().length) continue;
  const size = parseFloat(getComputedStyle(parent).fontSize);
  if (size < 11) found.push(`${parent.tagName} ${parent.className} has ${size} px`);
}
const undrawn = [...document.querySelectorAll(".plot")].filter((part) => !part.querySelector("svg.main-svg"));
if (undrawn.length) found.push(`${undrawn.length} figures are not drawn`);
document.title = "found " + JSON.stringify([...new Set(found)].slice(0, 9));
"""


@needs_browser
@pytest.mark.parametrize("width", [1400, 400, pytest.param(1000, marks=pytest.mark.slow)])
def test_the_page_fits_and_draws_its_figures(spoilt: "Records", tmp_path: Path, width: int) -> None:
    """Nothing is cut off, no text is smaller than 11 pixels, no script fails, every figure is drawn."""
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    watch = "<script>const errors = []; addEventListener('error', (e) => errors.push(e.message));</script>"
    page = page.replace("<body>", f"<body>{watch}", 1)
    shown = in_browser(page, tmp_path, PROBE.replace("WIDTH", str(width)), width)
    assert "<title>found []</title>" in shown, re.findall("<title>(.*?)</title>", shown)


PRINTED = 690  # px: A4 without its margins


@needs_browser
def test_tables_fit_on_paper(spoilt: "Records", tmp_path: Path) -> None:
    """Nothing can be scrolled there. The rules for print are applied to a window as wide as the paper."""
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    assert "@media print {" in page
    page = page.replace("@media print {", "@media all {")
    probe = f"""
    document.body.style.width = "{PRINTED}px";
    document.querySelectorAll("details").forEach((each) => {{ each.open = true; }});
    const wide = [...document.querySelectorAll(".scroll")].filter((each) => each.scrollWidth > {PRINTED} + 1);
    document.title = "wide " + JSON.stringify(wide.map((each) => each.innerText.slice(0, 60)));
    """
    shown = in_browser(page, tmp_path, probe, PRINTED)
    assert "<title>wide []</title>" in shown, re.findall("<title>(.*?)</title>", shown)


@needs_browser
@pytest.mark.skipif(not shutil.which("pdftotext"), reason="poppler-utils is not installed")
def test_no_heading_ends_a_printed_page(spoilt: "Records", tmp_path: Path) -> None:
    """Nor what a heading's own line says; rows and figures follow on the same page."""
    address = (spoilt.out / "index.html").as_uri()
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--no-pdf-header-footer", f"--print-to-pdf={tmp_path / 'page.pdf'}"]
    subprocess.run([browser, *flags, address], check=True, capture_output=True, timeout=120)
    text = subprocess.run(
        ["pdftotext", "-layout", tmp_path / "page.pdf", "-"], check=True, capture_output=True, text=True
    ).stdout
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    headings = {
        " ".join(re.sub(r"<[^>]*>", "", found).split())
        for found in re.findall(r"<h[23].*?</h[23]>", page, re.DOTALL)
    }
    pages = [
        [" ".join(line.split()) for line in each.splitlines() if line.strip()] for each in text.split("\f")
    ]
    assert {"CartPole-v1 classic", "Scores"} < headings & {line for lines in pages for line in lines}
    for lines in filter(None, pages):
        assert lines[-1] not in headings and not lines[-1].startswith("Return:"), lines[-1]
        assert "drag to zoom" not in " ".join(lines), "nothing can be dragged on paper"


def luminance(colour: str) -> float:
    """Relative luminance of "#rrggbb" (WCAG 2.2)."""
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    red, green, blue = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast(scheme: str) -> None:
    """At least 4.5 to 1, as WCAG 2.2 asks of text (1.4.3, AA)."""
    style = (Path(page.__file__).parent / "page.css").read_text()
    blocks = re.findall(r":root {(.*?)}", style, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme == "dark"]))
    pairs = [(text, ground) for text in ("ink", "soft", "link", "warn", "bad") for ground in ("page", "tint")]
    for text, ground in [*pairs, ("warn", "warn-tint"), ("bad", "bad-tint"), ("ink", "warn-tint")]:
        dark, light = sorted(luminance(colours[name]) for name in (text, ground))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{text} on {ground}"


@needs_browser
def test_a_system_is_hidden_by_its_key(spoilt: "Records", tmp_path: Path) -> None:
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    count = """
    const place = document.querySelector('[data-plot="CartPole-v1"]');
    draw(place);
    const drawn = () => place.querySelectorAll("path.js-line").length;
    const before = drawn();
    place.querySelector(".keys button").click();
    document.title = `${before} ${drawn()}`;
    """
    shown = in_browser(page, tmp_path, count)
    before, after = map(int, re.findall("<title>(.*?)</title>", shown)[0].split())
    assert 0 < after < before


@needs_browser
def test_rows_are_filtered_and_the_keyboard_sorts(spoilt: "Records", tmp_path: Path) -> None:
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    script = """
    const field = document.querySelector(".filter");
    const rows = [...field.nextElementSibling.querySelectorAll("tbody tr")];
    field.value = "PPO pendulum";
    field.dispatchEvent(new Event("input"));
    const kept = rows.filter((row) => !row.hidden);
    const right = kept.length && kept.every((row) => /ppo[^]*Pendulum|Pendulum[^]*ppo/.test(row.textContent));
    const head = document.querySelector("table.sortable th");
    head.focus();
    head.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter"}));
    const focused = document.activeElement === head;
    document.title = [right, kept.length < rows.length, focused, head.getAttribute("aria-sort")];
    """
    shown = in_browser(page, tmp_path, script)
    assert "<title>true,true,true,ascending</title>" in shown, re.findall("<title>(.*?)</title>", shown)


@needs_browser
def test_nothing_can_be_loaded_from_elsewhere(sweep: "Records", tmp_path: Path) -> None:
    """The page's own policy refuses every request, should one ever slip in."""
    page = (sweep.out / "index.html").read_text(encoding="utf-8")
    probe = (
        "document.addEventListener('securitypolicyviolation',"
        "e => { document.title = 'refused ' + e.blockedURI; });"
        "document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}));"
    )
    assert "<title>refused http://127.0.0.1:9/x.png</title>" in in_browser(page, tmp_path, probe)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="LaTeX is not installed")
def test_every_table_compiles(spoilt: "Records", store: "Records", tmp_path: Path) -> None:
    for system in ("ppo", "dqn"):  # at a budget for which there are published scores
        store.flat_runs(store.cell(system=system, steps=200_000), [450.0, 480.0, 500.0])
    store.build()
    assert (store.out / "tables" / "verdicts.tex").read_text().count("descriptive") >= 2
    inputs = "\n\n".join(rf"\resizebox{{\textwidth}}{{!}}{{\input{{{name}}}}}" for name in TABLES)
    for name in TABLES:
        records = store if name == "verdicts" else spoilt
        shutil.copy(records.out / "tables" / f"{name}.tex", tmp_path)
    (tmp_path / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage{booktabs,graphicx,url}\n\\begin{document}\n"
        + inputs
        + "\n\\nocite{*}\n\\bibliographystyle{plain}\\bibliography{references}\n\\end{document}\n"
    )
    shutil.copy(store.out / "references.bib", tmp_path)
    for command in (
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"],
        ["bibtex", "paper"],
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout[-2_000:]
        assert "warning" not in done.stdout.lower() or command[0] == "pdflatex"
    log = (tmp_path / "paper.log").read_text(errors="replace")
    assert "Missing character" not in log and "There is no" not in log
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")


@needs_browser
def test_the_leaderboard_has_no_script_error(tmp_path: Path) -> None:
    page = (shelf.current().folder / BOARD_HTML).read_text(encoding="utf-8")
    watch = "<script>const errors = []; addEventListener('error', (e) => errors.push(e.message));</script>"
    page = page.replace("<body>", f"<body>{watch}", 1)
    script = """
    const head = document.querySelector("table.sortable th");
    head.click();
    document.title = [head.getAttribute("aria-sort"), errors.length];
    """
    shown = in_browser(page, tmp_path, script)
    assert "<title>ascending,0</title>" in shown, re.findall("<title>(.*?)</title>", shown)
