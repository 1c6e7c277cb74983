"""Files that a stranger made: whatever is in them, a command ends in a verdict or in one line.

No traceback, no code from the files, nothing read or written outside of its folders, no control character on
the terminal, less than 1 GiB of memory, bounded time.
"""

import csv
import io
import json
import os
import random
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from torch.utils.tensorboard import SummaryWriter

from ascent.records import files, layout, provenance
from ascent.records.cell import Cell
from ascent.records.shapes import SHAPES
from ascent.records.shapes import check as check_shape
from ascent.reports.checking import folder as records
from ascent.reports.page.table import Column, latex, make_table, markdown
from ascent.reports.page.table import csv as to_csv
from ascent.runners.train import train
from tests.hostile.attempt import SECRET, Commands, Tried, fault
from tests.hostile.spoil import ESCAPES, HEADERS, planted, spoil
from tests.reports import trained
from tests.reports.trained import edit, forge
from tests.small import others_slow, small_cell

ROOT = Path(__file__).parents[2]
CASES, CHUNK = 12, 6  # and many more in the slow tests
TEAM_TASK = "simple_adversary_v3"
CURVES = {  # of other libraries -> what their import asks for
    "curves.csv": [], "evaluations.npz": [], "returns.npy": ["--points", "0:100"], "monitor.csv": [],
    "result.json": [], "rows.json": [], "events.out.tfevents.1": ["--tag", "return"],
}  # fmt: skip
IMPORT = ["--system", "X", "--task", "CartPole-v1", "--runs", "new"]
SWEEP = """
title = "Tiny"
seeds = "0-1"
evaluations = 2
episodes = 1
[report]
threshold = 0.5
[[cells]]
algorithms = ["a2c"]
tasks = ["CartPole-v1"]
steps = 600
set = { envs = 2 }
"""
SWEEP_VALUES = [
    "1", '"x"', "[]", "{}", "2020-01-01", "[[[[1]]]]", "true", "inf", "nan", "-1", "9" * 5_000, "1e999",
    '"\\u001b[2J"', "{a={b=[1]}}", "[1]", '["ppo", 1]', '"0-99999999999999"', "[" * 3_000, '"../../x"',
]  # fmt: skip


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory, commands: Commands) -> Path:
    """A folder with valid files of every kind, as several commands made them; not to be changed."""
    home = tmp_path_factory.mktemp("material")
    trained.make(home / "runs")
    for system in ("ippo", "maddpg"):
        assert train(small_cell(system, TEAM_TASK, points=1), [0, 1], home / "runs")
    (home / "tiny.toml").write_text(SWEEP)
    rows = [f"{k},{step},{step + k}\n" for k in range(3) for step in (100, 200, 300)]
    (home / "curves.csv").write_text("seed,step,return\n" + "".join(rows))
    results, lengths = np.ones((2, 3)), np.ones((2, 3), dtype=int)
    np.savez(home / "evaluations.npz", timesteps=np.array([100, 200]), results=results, ep_lengths=lengths)
    np.save(home / "returns.npy", np.ones((2, 3)))
    (home / "monitor.csv").write_text(
        '#{"t_start": 1.0, "env_id": "CartPole-v1"}\nr,l,t\n9.0,9,1\n20.0,20,2\n'
    )
    row = {"training_iteration": 1, "timesteps_total": 100, "config": {"env": "CartPole-v1", "x": [1]}}
    (home / "result.json").write_text(json.dumps(row | {"env_runners": {"episode_return_mean": 9.5}}))
    (home / "rows.json").write_text(json.dumps([{"seed": 0, "step": 100, "return": 1.5}]))
    with SummaryWriter(str(home / "events")) as writer:
        writer.add_scalar("return", 1.0, 100)
        writer.add_scalar("return", 2.0, 200, new_style=True)
    (events,) = (home / "events").iterdir()
    events.rename(home / "events.out.tfevents.1")
    (a2c,) = home.glob("runs/*/*/a2c-*")
    (td3,) = home.glob("runs/*/*/td3-*")
    for words in (
        ("robustness", str(a2c), "--grid", "drop=0,0.5", "--episodes", "1"),
        ("import", "curves.csv", "--name", "SB3 PPO", "--task", "CartPole-v1", "--runs", "runs"),
        ("crossplay", TEAM_TASK, "--runs", "runs", "--episodes", "1", "--out", "crossplay"),
        ("report", "runs", "--out", "page"),
        ("bundle", "page", "--runs", "runs"),
        ("plan", "tiny.toml", "--runs", "planned"),
        ("runs", "seal", str(td3), "--runs", "runs"),
    ):
        done = commands.run(words, home)
        assert done.code == 0, (words, done.err)
    return home


@pytest.fixture(scope="session")
def commands() -> Iterator[Commands]:
    with Commands() as process:
        yield process


class Case:
    """A copy of the material that may be spoiled, beside a secret."""

    def __init__(self, material: Path, home: Path, commands: Commands) -> None:
        self.folder = shutil.copytree(material, home / "case")
        (home / "secret.txt").write_text(SECRET)
        self.commands = commands

    def cell(self, name: str) -> Path:
        """The folder of a system's cell."""
        (found,) = self.folder.glob(f"runs/*/*/{name}-*")
        return found

    def path(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def run(self, *words: str) -> Tried:
        """Run a command, and refuse what it may not do."""
        tried = self.commands.run(words, self.folder)
        assert not fault(tried, self.folder), f"{' '.join(words)}: {fault(tried, self.folder)}"
        for path in self.folder.rglob("*"):
            found = ordinary(path) and SECRET.encode() in path.read_bytes()
            assert not found, f"{path} holds a file from outside"
        return tried


@pytest.fixture
def case(material: Path, tmp_path: Path, commands: Commands) -> Case:
    return Case(material, tmp_path, commands)


def ordinary(path: Path) -> bool:
    """Whether a file is one that may be read here."""
    return path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 26


def settle(cell: Path) -> Path:
    """Make every name and digest fit what the files say now, as far as they say anything."""
    with suppress(Exception):
        facts = files.read_json(cell / layout.CELL)
        digest = Cell.from_json(facts).digest
        files.write_json(cell / layout.CELL, facts | {"digest": digest})
        for path in cell.glob("seed-*/run.json"):
            edit(path, lambda about: about.update(cell=digest))
        cell = cell.rename(cell.parent / f"{facts['system']}-{facts['preset']}-{digest}")
    with suppress(Exception):
        forge(cell)
    return cell


# ---- the corpus


def spoiled_cell(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    """One file of a cell; mostly with digests that fit. Returns what was done, and a command."""
    cell = case.cell(chance.choice(["a2c", "a2c", "a2c", "td3", "ippo", "maddpg", "sb3-ppo"]))
    paths = sorted(path for path in cell.rglob("*") if path.is_file())
    path = cell / layout.CELL if chance.randrange(4) == 0 else chance.choice(paths)
    done = f"{case.path(path)}: {spoil(path, chance)}"
    forged = ordinary(path) and chance.randrange(3)
    place = case.path(settle(cell) if forged else cell)
    words = chance.choice([
        ["check", "runs"],
        ["check", place],
        ["verify", place],
        ["verify", place, "--depth", "records"],
        ["verify", place, "--depth", "start"],
        ["report", "runs", "--out", "out"],
        ["cite", place, "--runs", "runs"],
        ["bundle", "page", "--runs", "runs", "--out", "again.zip"],
        ["robustness", place, "--grid", "drop=0,0.5", "--episodes", "1"],
        ["watch", f"{place}/seed-0", "--out", "film.gif"],
        ["crossplay", TEAM_TASK, "--runs", "runs", "--episodes", "1", "--out", "again"],
        ["runs", "unseal", place],
        ["runs", "seal", place, "--compact"],
        ["runs", "list", "--runs", "runs"],
        ["runs", "show", place],
        ["runs", "why", place],
        ["runs", "tensorboard", "--runs", "runs", "--out", "events"],
        ["runs", "move", place, "--to", "elsewhere"],
        ["runs", "remove", place, "--finished", "--yes"],
        ["results", "add", "--runs", "runs"],
        ["wandb", "push", "runs", "--offline", "--project", "p", "--out", "wandb"],
    ])  # fmt: skip
    return done, words


def spoiled_ledger(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    path = chance.choice(sorted(case.folder.glob("runs/ledger/*")))
    done = f"{case.path(path)}: {spoil(path, chance)}"
    words = chance.choice([
        ["check", "runs"],
        ["report", "runs", "--out", "out"],
        ["status", "tiny.toml", "--runs", "runs"],
        ["bundle", "page", "--runs", "runs", "--out", "again.zip"],
    ])  # fmt: skip
    return done, words


def spoiled_bundle(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    done = f"page.zip: {spoil(case.folder / 'page.zip', chance)}"
    words = chance.choice(
        [["check", "page.zip"], ["verify", "page.zip"], ["report", "page.zip", "--out", "out"]]
    )
    return done, words


def spoiled_inside_a_bundle(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    """One file of a bundle, with checksums that fit."""
    path = case.folder / "page.zip"
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist() if name != "SHA256SUMS"}
    kinds = [name for name in contents if name.endswith((".json", ".csv", ".npz"))]
    name = "report/provenance.json" if chance.randrange(2) else chance.choice(kinds)
    spare = case.folder / f"spare{Path(name).suffix}"
    spare.write_bytes(contents[name])
    done = spoil(spare, chance)
    if ordinary(spare):
        contents[name] = spare.read_bytes()
    sums = [f"{sha256(data).hexdigest()}  {entry}\n" for entry, data in sorted(contents.items())]
    path.write_bytes(files.zip_files(contents | {"SHA256SUMS": "".join(sums).encode()}))
    words = chance.choice(
        [["check", "page.zip"], ["verify", "page.zip"], ["report", "page.zip", "--out", "out"]]
    )
    return f"page.zip, {name}: {done}", words


def spoiled_report(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    path = case.folder / "page" / chance.choice(["provenance.json"] * 3 + ["SHA256SUMS", "data.parquet"])
    done = f"{case.path(path)}: {spoil(path, chance)}"
    words = chance.choice([["verify", "page", "--runs", "runs"], ["bundle", "page", "--runs", "runs"]])
    return done, words


def spoiled_table(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    path = case.folder / "crossplay" / "crossplay.csv"
    return f"{case.path(path)}: {spoil(path, chance)}", ["verify", case.path(path), "--runs", "runs"]


def spoiled_import(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    path = case.folder / chance.choice([*CURVES])
    done = f"{path.name}: {spoil(path, chance)}"
    return done, ["import", path.name, *CURVES[path.name], *IMPORT]


def spoiled_sweep(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    path = case.folder / "tiny.toml"
    lines = [line for line in path.read_text().splitlines() if line]
    row, value = chance.randrange(len(lines)), chance.choice(SWEEP_VALUES)
    lines[row] = f"{lines[row].partition('=')[0]} = {value}"
    path.write_text("\n".join(lines))
    words = chance.choice([
        ["plan", "tiny.toml", "--runs", "new"],
        ["report", "tiny.toml", "--runs", "runs"],
        ["check", "runs", "--sweep", "tiny.toml"],
    ])  # fmt: skip
    return lines[row][:80], words


def spoiled_manifest(case: Case, chance: random.Random) -> tuple[str, list[str]]:
    (path,) = case.folder.glob("planned/**/manifest-*.json")
    done = f"{case.path(path)}: {spoil(path, chance)}"
    words = chance.choice([
        ["status", "tiny.toml", "--runs", "planned"],
        ["status", case.path(path), "--runs", "planned"],
        ["report", case.path(path), "--runs", "planned", "--out", "out"],
        ["check", "runs", "--sweep", case.path(path)],
    ])  # fmt: skip
    return done, words


KINDS: tuple[Callable[[Case, random.Random], tuple[str, list[str]]], ...] = (
    *[spoiled_cell] * 9, spoiled_ledger, spoiled_bundle, spoiled_inside_a_bundle, spoiled_report,
    spoiled_table, spoiled_import, spoiled_sweep, spoiled_manifest,
)  # fmt: skip


def attempt(number: int, material: Path, home: Path, commands: Commands) -> str:
    """Try one case. Returns what is wrong; "" if nothing is."""
    chance = random.Random(number)
    home.mkdir()
    case = Case(material, home, commands)
    done, words = chance.choice(KINDS)(case, chance)
    try:
        case.run(*words)
    except AssertionError as error:
        return f"case {number}, {done}\n{error}"
    finally:
        shutil.rmtree(home)
    return ""


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_corpus(first: int, material: Path, tmp_path: Path, commands: Commands) -> None:
    """Files with one fault each, and a command that reads them."""
    faults = [attempt(n, material, tmp_path / str(n), commands) for n in range(first, first + CHUNK)]
    assert not any(faults), "\n\n".join(filter(None, faults))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 3_300, 100))
def test_large_corpus(first: int, material: Path, tmp_path: Path, commands: Commands) -> None:
    faults = [attempt(n, material, tmp_path / str(n), commands) for n in range(first, first + 100)]
    assert not any(faults), "\n\n".join(filter(None, faults))


# ---- what a corpus would rarely hit


def test_injection(case: Case) -> None:
    """A name that is markup in every format is text in all of them."""
    cell = case.cell("sb3-ppo")
    edit(cell / layout.CELL, lambda facts: facts["config"].update(name=ESCAPES))
    settle(cell)
    agent = case.cell("a2c")
    edit(agent / layout.CELL, lambda facts: facts.update(changed={"gamma": ESCAPES[:100]}))
    edit(agent / layout.CELL, lambda facts: facts["settings"].update(gamma=ESCAPES[:100]))
    edit(agent / layout.CELL, lambda facts: facts["config"].update(gamma=ESCAPES[:100]))
    place = settle(agent)
    for words in (
        ("report", "runs", "--out", "out"),
        ("check", "runs"),
        ("cite", case.path(place), "--runs", "runs"),
    ):
        case.run(*words)
    out = case.folder / "out"
    page = (out / "index.html").read_text()
    assert "<script>alert" not in page and "\x1b" not in page
    shown = [path.read_text() for path in sorted(out.glob("tables/*.md"))]
    assert any("\\\\x1b" in text for text in shown), "the name is in some table"
    for text in shown:
        assert "<script" not in text and "](" not in text.replace("]\\(", "")
        lines = text.splitlines()
        columns = [re.sub(r"\\.", "", line).count("|") for line in lines]
        assert len(set(columns)) <= 1, "a name opens no column, and no row"
    for path in out.glob("tables/*.csv"):
        rows = csv.reader(io.StringIO(path.read_text()))
        assert not [cell for row in rows for cell in row if cell.startswith(("=", "@", "+"))], path
    for text in (path.read_text() for path in out.glob("tables/*.tex")):
        assert "\\frac" not in text
    assert list(out.glob("figures/*.png"))


def test_latex_of_hostile_names(tmp_path: Path) -> None:
    """What is escaped is typeset."""
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: apt install texlive-latex-recommended")
    rows = [ESCAPES.replace("\u202e", ""), "$x^2_", "\\input{/etc/passwd}", "a\n\nb", "{", "%", "~^#"]
    table = make_table("t", "T", rows, [Column(str, "name", "name")])
    start, end = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}", "\\end{document}"
    (tmp_path / "t.tex").write_text(f"{start}\n{latex(table)}\n{end}")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"], cwd=tmp_path, capture_output=True
    )
    assert done.returncode == 0, done.stdout[-1000:]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1+cmd|' /C calc'!A0", "@SUM(1)"])
def test_no_formula(text: str) -> None:
    data = pd.DataFrame({"name": [text, "a"], "value": [-1.5, 2.0], "some": [None, "-x"]})
    rows = list(csv.reader(io.StringIO(to_csv(data))))
    assert rows[1] == [f"'{text}", "-1.5", ""] and rows[2] == ["a", "2", "'-x"]


def test_markdown_of_hostile_names() -> None:
    table = make_table(
        "t", "T", ["a|b", "[x](http://y)", "<b>", "`x`", "*x*", "a\nb", "[1, 2]"], [Column(str, "n", "n")]
    )
    shown = ["a\\|b", "[x\\](http://y)", "&lt;b>", "\\`x\\`", "\\*x\\*", "a b", "[1, 2]"]
    assert markdown(table).splitlines()[2:] == [f"| {text} |" for text in shown]


def test_recorded_code_does_not_run(case: Case) -> None:
    """Sources that came with records are compared and shown, and neither imported nor compiled."""
    cell = case.cell("a2c")
    (path,) = cell.glob("sources-*.zip")
    _, sources = records.sources(cell, path.stem.partition("-")[2])
    trap = b"import pathlib\npathlib.Path('../planted').touch()\n"
    sources = {name: trap + content for name, content in sources.items()}
    digest = provenance.source_digest(sources)
    path.unlink()
    (cell / layout.sources(digest)).write_bytes(files.zip_files(sources))
    for run in cell.glob("seed-*"):
        new = {"source_digest": digest, "commit": trained.UNKNOWN}
        edit(run / "run.json", lambda about, new=new: about.update(new) or about["attempts"][0].update(new))
    for depth in ("records", "policy", "start", "whole"):
        tried = case.run("verify", case.path(cell), "--depth", depth)
        assert tried.code, depth
    assert "--run-recorded-code" in tried.out


@pytest.mark.parametrize("number", range(len(HEADERS) + 1))
def test_arrays(number: int, case: Case) -> None:
    """No array claims more than it has, and none is unpickled."""
    cell = case.cell("a2c")
    for path in cell.glob("seed-*/policy.npz"):
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        name = next(name for name in entries if name.startswith("params/"))
        header = (HEADERS[number].encode() + b"\n") if number < len(HEADERS) else b""
        magic = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        entries[name] = magic + header + bytes(160) if header else planted(name)
        path.write_bytes(files.zip_files(entries))
    forge(cell)
    for words in (("robustness", case.path(cell), "--episodes", "1"), ("watch", f"{case.path(cell)}/seed-0")):
        tried = case.run(*words)
        assert tried.code == 2 and "policy.npz is damaged" in tried.err, tried.err
    assert case.run("verify", case.path(cell)).code


@pytest.mark.slow
def test_bombs(case: Case) -> None:
    """Archives whose entries expand a thousand times."""
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(3):
            with archive.open(f"seed-{number}/eval.csv", "w", force_zip64=True) as file:
                for _ in range(800):
                    file.write(bytes(1 << 20))
    cell = case.cell("td3")
    for path in cell.glob("sealed-*.zip"):
        path.unlink()
    (cell / layout.seal(sha256(bomb.getvalue()).hexdigest()[:16])).write_bytes(bomb.getvalue())
    (case.folder / "page.zip").write_bytes(bomb.getvalue().replace(b"seed-", b"runs/"))
    (case.folder / "evaluations.npz").write_bytes(bomb.getvalue().replace(b"eval.csv", b"a123.npy"))
    for words in (
        ("check", case.path(cell)),
        ("verify", case.path(cell)),
        ("report", "runs", "--out", "out"),
        ("check", "page.zip"),
        ("import", "evaluations.npz", "--name", "X", "--task", "CartPole-v1", "--runs", "new"),
        ("runs", "unseal", case.path(cell)),
    ):
        case.run(*words)


def test_a_record_that_asks_for_a_huge_network(case: Case) -> None:
    """It is refused before anything is built."""
    cell = case.cell("a2c")
    for key in ("config", "settings", "changed"):
        edit(cell / layout.CELL, lambda facts, key=key: facts[key].update(hidden=[30_000, 30_000]))
    cell = settle(cell)
    tried = case.run("robustness", case.path(cell), "--episodes", "1")
    assert tried.code == 2 and "asks for 900,060,000 weights" in tried.err


def outside(case: Case, name: str = "victim") -> Path:
    """A folder of the user's beside the records, with a secret in it."""
    folder = case.folder / name
    (folder / "documents").mkdir(parents=True)
    (folder / "documents" / "thesis.txt").write_text("mine")
    (folder / "grid.json").write_text("mine")
    (folder / "secret.json").write_text(json.dumps({"token": SECRET + "!"}))
    (folder / "secret.zip").write_bytes(files.zip_files({"token": f"{SECRET}!".encode()}))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


LINKS = {
    ".sealing": ("runs", "unseal"),
    "robustness": ("robustness", "--grid", "drop=0.5", "--episodes", "1"),
    "seed-1": ("check",),
}


@pytest.mark.parametrize("name", LINKS)
def test_a_folder_that_is_a_link(name: str, material: Path, tmp_path: Path, commands: Commands) -> None:
    """Nothing is read, written or deleted behind it."""
    case = Case(material, tmp_path, commands)
    victim = outside(case)
    before = contents(victim)
    cell = case.cell("td3" if name == ".sealing" else "a2c")
    if name == "seed-1":
        shutil.copytree(cell / name, victim / "run")
    shutil.rmtree(cell / name, ignore_errors=True)
    (cell / name).symlink_to(victim / "run" if name == "seed-1" else victim)
    words = LINKS[name]
    place = 2 if words[0] == "runs" else 1
    tried = case.commands.run((*words[:place], case.path(cell), *words[place:]), case.folder)
    assert tried.code and not fault(tried, case.folder), tried
    assert {name: data for name, data in contents(victim).items() if not name.startswith("run/")} == before
    assert "is a link" in tried.err or "recorded" not in tried.out.splitlines()[-1]


@pytest.mark.parametrize("key", ["plan", pytest.param("source_digest", marks=pytest.mark.slow)])
def test_names_that_lead_out(key: str, case: Case) -> None:
    """Digests in records become parts of file names: nothing but digests does."""
    cell = case.cell("a2c")
    (case.folder / "runs" / "ledger" / "plan-a").mkdir()
    (cell / "sources-a").mkdir()
    if key == "source_digest":  # no rule looks at the sources of a run that is not finished
        (cell / "seed-2" / "result.json").unlink()
    for depth in range(1, 7):
        up = "a/" + "../" * depth + "victim/secret"
        victim = case.folder / "runs" / "victim"
        if not victim.exists():
            outside(case, "runs/victim")
        if key == "plan":
            for path in case.folder.glob("runs/ledger/started-*.json"):
                edit(path, lambda about, up=up: [entry.update(plan=up) for entry in about["runs"]])
        edit(cell / "seed-2" / "run.json", lambda about, up=up: about.update({key: up}))
        for words in (
            ("check", "runs"),
            ("report", "runs", "--out", "out"),
            ("bundle", "page", "--runs", "runs"),
            ("bundle", "out", "--runs", "runs"),
        ):
            tried = case.commands.run(words, case.folder)
            assert not fault(tried, case.folder), fault(tried, case.folder)
        for path in case.folder.glob("*.zip"):
            with zipfile.ZipFile(path) as archive:
                assert not [name for name in archive.namelist() if "secret" in name], path


@pytest.mark.slow
def test_small_files_that_ask_for_much(case: Case) -> None:
    """Counts that only a product hides, a table that becomes a matrix, seeds without end, modules."""
    cell = case.cell("a2c")
    kept = {path: path.read_bytes() for path in cell.rglob("*") if path.is_file()}

    def spoiled(spoiling: Callable[[], object], *commands: tuple[str, ...]) -> None:
        spoiling()
        for words in commands:
            case.run(*words)
        for path in [path for path in cell.rglob("*") if path.is_file() and path not in kept]:
            path.unlink()
        for path, data in kept.items():
            path.write_bytes(data)

    place = case.path(cell)
    for points, episodes in ((10**9, 0), (10**9, -1), (1, 10**9), (10**6, 10**6)):
        asked = {"points": points, "episodes": episodes}
        spoiled(
            lambda asked=asked: edit(cell / layout.CELL, lambda facts: facts.update(evaluation=asked)),
            ("check", place), ("verify", place),
        )  # fmt: skip

    def many_measures() -> None:
        rows = "".join(f"{i},m{i},1\n" for i in range(15_000))
        for path in cell.glob("seed-*/measures.csv"):
            path.write_text(f"step,measure,value\n{rows}")
        forge(cell)

    spoiled(many_measures, ("check", place), ("report", "runs", "--out", "out"))

    def many_modules() -> None:
        module = b"#" * 1_000_000
        sources = {f"algorithms/m{number}.py": module for number in range(200)}
        (path,) = cell.glob("sources-*.zip")
        path.write_bytes(files.zip_files(sources))

    spoiled(many_modules, ("check", place), ("verify", place, "--depth", "start"))

    def large_policy() -> None:
        for path in cell.glob("seed-*/policy.npz"):
            buffer = io.BytesIO()
            np.savez_compressed(buffer, **{"params/x": np.zeros(180_000_000, np.float32)})
            path.write_bytes(buffer.getvalue())
        forge(cell)

    spoiled(large_policy, ("check", place), ("watch", f"{place}/seed-0"))
    edit(
        case.folder / "page" / "provenance.json",
        lambda about: about["report"]["expected"][0].update(seeds=list(range(100_000))),
    )
    case.run("verify", "page", "--runs", "runs")


ODD_VALUES: dict[str, tuple[str, Callable[[Path], object], tuple[str, ...]]] = {
    "quotes in a header": (
        "a2c",
        lambda cell: [
            path.write_text(path.read_text().replace("policy_loss", '"policy_loss"', 1))
            for path in cell.glob("seed-*/metrics.csv")
        ],
        ("check", "verify"),
    ),
    "an infinite step": (
        "a2c",
        lambda cell: (
            (cell / "seed-1" / "result.json").unlink(),
            (cell / "seed-1" / "progress.json").write_text('{"step": 1e999}'),
        ),
        ("report",),
    ),
    "a level without end": (
        "a2c",
        lambda cell: (cell / "robustness" / "grid.json").write_text(
            (cell / "robustness" / "grid.json").read_text().replace("0.5", "1" + "0" * 400, 1)
        ),
        ("report",),
    ),
    "a title that paints": (
        "a2c",
        lambda cell: (cell / "robustness" / "grid.json").write_text(
            (cell / "robustness" / "grid.json")
            .read_text()
            .replace('"title": "', '"title": "\\u001b]0;x\\u0007', 1)
        ),
        ("report",),
    ),
    "an infinite seed": (
        "a2c",
        lambda cell: next(cell.parents[2].glob("ledger/started-*.json")).write_text(
            '{"runs": [{"cell": "a", "seeds": [Infinity], "plan": ""}]}'
        ),
        ("check", "report"),
    ),
    "NUL in a plan": (
        "a2c",
        lambda cell: edit(cell / "seed-0" / "run.json", lambda about: about.update(plan="a\0b")),
        ("cite", "report", "check"),
    ),
    "NUL in a digest": (
        "a2c",
        lambda cell: edit(cell / "seed-0" / "run.json", lambda about: about.update(source_digest="a\0b")),
        ("bundle", "check"),
    ),
    "huge returns": (
        "sb3-ppo",
        lambda cell: [
            path.write_text(re.sub(r"(?m)^(\d+,greedy,\d+),[^,]+", r"\1,1.7e308", path.read_text()))
            for path in cell.glob("seed-*/eval.csv")
        ],
        ("report", "check"),
    ),
}


@pytest.mark.parametrize(
    "name", others_slow([(name,) for name in ODD_VALUES], lambda name: ODD_VALUES[name][2])
)
def test_odd_values(name: str, case: Case) -> None:
    system, spoiling, commands = ODD_VALUES[name]
    cell = case.cell(system)
    spoiling(cell)
    with suppress(Exception):
        forge(cell)
    words = {
        "check": ("check", "runs"),
        "verify": ("verify", case.path(cell)),
        "report": ("report", "runs", "--out", "out"),
        "cite": ("cite", case.path(cell), "--runs", "runs"),
        "bundle": ("bundle", "page", "--runs", "runs"),
    }
    for command in commands:
        assert "Warning" not in case.run(*words[command]).err


def test_odd_archives(case: Case) -> None:
    """Another compression, damaged, and a name that is not in the encoding that its flag says."""
    path = case.folder / "page.zip"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    data = bytearray(files.zip_files(entries, zipfile.ZIP_LZMA))
    place = data.find(b"report/data.parquet") + 60
    data[place : place + 40] = b"\xff" * 40
    path.write_bytes(data)
    assert case.run("check", "page.zip").code == 2
    data = bytearray(files.zip_files(entries))
    place = data.find(b"PK\1\2")
    data[place + 9] |= 8
    data[place + 46] = 0xFF
    path.write_bytes(data)
    assert case.run("check", "page.zip").code == 2
    cell = case.cell("td3")
    (seal,) = cell.glob("sealed-*.zip")
    data = bytearray(seal.read_bytes())
    place = data.find(b"PK\1\2")
    data[place + 9] |= 8
    data[place + 46] = 0xFF
    seal.unlink()
    (cell / layout.seal(sha256(data).hexdigest()[:16])).write_bytes(data)
    for words in (
        ("check", case.path(cell)),
        ("report", "runs", "--out", "out"),
        ("runs", "unseal", case.path(cell)),
    ):
        case.run(*words)


def test_a_pipe_beside_a_seal(case: Case) -> None:
    cell = case.cell("td3")
    (seal,) = cell.glob("sealed-*.zip")
    kept = seal.read_bytes()
    assert case.run("runs", "unseal", case.path(cell)).code == 0
    seal.write_bytes(kept)
    (cell / "seed-0" / "eval.csv").unlink()
    os.mkfifo(cell / "seed-0" / "eval.csv")
    tried = case.run("runs", "unseal", case.path(cell))
    assert tried.code == 2 and "eval.csv is no regular file" in tried.err


def test_retraining_a_huge_network(case: Case) -> None:
    """With the installed sources nothing needs to be allowed: the size is refused."""
    cell = case.cell("a2c")
    for key in ("config", "settings", "changed"):
        edit(cell / layout.CELL, lambda facts, key=key: facts[key].update(hidden=[14_000, 14_000]))
    for run in cell.glob("seed-*"):
        edit(run / "run.json", lambda about: about.update(commit=trained.UNKNOWN))
        edit(run / "run.json", lambda about: about["attempts"][0].update(commit=trained.UNKNOWN))
    cell = settle(cell)
    tried = case.run("verify", case.path(cell), "--depth", "start")
    assert tried.code and "weights; its policies have fewer" in tried.out


def test_real_records_have_the_shapes(material: Path) -> None:
    """Those of this version, of earlier ones, and those that ship with the suite."""
    shapes = {name: 0 for name in SHAPES}
    for home in (material / "runs", ROOT / "tests" / "data", ROOT / "reports" / "results"):
        for path in home.rglob("*.json"):
            if path.name in SHAPES:
                check_shape(path.name, json.loads(path.read_bytes()), path)
                shapes[path.name] += 1
        for path in home.rglob("sealed-*.zip"):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.namelist():
                    name = entry.rpartition("/")[2]
                    if name in SHAPES:
                        check_shape(name, json.loads(archive.read(entry)), path)
                        shapes[name] += 1
    assert min(shapes[name] for name in (layout.CELL, layout.RUN, layout.RESULT)) > 20
