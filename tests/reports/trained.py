"""Really trained records for the tests of check, verify and bundle, and what a forger would do to them."""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ascent.records import files, layout, provenance
from ascent.records.cell import Cell
from ascent.records.compact import compact
from ascent.records.run import result_digest
from ascent.runners.train import train
from tests.small import small_cell

SEEDS = (0, 1, 2)
UNKNOWN = "c0ffee" * 6 + "c0ff"  # a commit that no repository has


def make_repository(git_folder: Path) -> None:
    """Commit the files of this project as they are now, whether git calls them changed or not."""
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    git = ["git", f"--git-dir={git_folder}", f"--work-tree={provenance.HOME}", *who]
    parts = ["algorithms", "kernels", "records", "runners", "suites", "requirements.lock"]
    for words in (["init", "--quiet"], ["add", *parts], ["commit", "--quiet", "-m", "all"]):
        subprocess.run([*git, *words], cwd=provenance.HOME, check=True)


def clean_commit() -> dict[str, Any]:
    """What a run says that was trained from the commit of `make_repository`."""
    done = subprocess.run(provenance.git_command("rev-parse", "HEAD"), capture_output=True, text=True)
    return {"commit": done.stdout.strip(), "dirty": False}


def cells() -> list[Cell]:
    """Two of them: discrete actions with several environments, continuous ones with replay."""
    return [
        small_cell("a2c", "CartPole-v1", steps=400, points=4),
        small_cell("td3", "Pendulum-v1", steps=500, points=5, hidden=[8]),
    ]


def record(cell: Cell, out: Path, seeds: Sequence[int] = SEEDS) -> Path:
    """Train a cell as if from a clean commit. Returns its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ascent.records.provenance.commit", clean_commit)
        assert train(cell, seeds, out)
    return cell.folder(out)


def make(out: Path) -> Path:
    """The cells of `cells`, trained."""
    for cell in cells():
        record(cell, out)
    return out


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a JSON file in place."""
    content = files.read_json(path)
    change(content)
    files.write_json(path, content)


def rows(path: Path, change: Callable[[list[str]], object]) -> None:
    """Change the rows below a table's header in place."""
    head, *lines = path.read_text().splitlines()
    change(lines)
    path.write_text("".join(f"{line}\n" for line in (head, *lines)))


def forge(cell: Path) -> None:
    """Make every digest fit what the files say now."""
    for run in cell.glob("seed-*"):
        path = run / "result.json"
        if path.exists():
            result = json.loads(path.read_text())
            present = [name for name in layout.RESULT_FILES if (run / name).exists()]
            digests = {name: sha256((run / name).read_bytes()).hexdigest() for name in present}
            is_compact = (run / "train-last.csv").exists()
            result["digests"] = result["digests"] | digests if is_compact else digests
            form = _compact_form(run, result)
            if form:
                result["compact"] = {name: sha256(data).hexdigest() for name, data in form.items()}
            result["digest"] = result_digest(result)
            files.write_json(path, result)


def _compact_form(run: Path, result: dict[str, Any]) -> dict[str, bytes]:
    """The compact form of a run's train.csv, as it is or as it follows; {} where there is none."""
    if "compact" not in result:
        return {}
    if (run / "train-last.csv").exists():
        return {name: (run / name).read_bytes() for name in layout.COMPACT}
    with suppress(ValueError, LookupError, OSError, TypeError, ArithmeticError):
        return compact((run / "train.csv").read_bytes(), result["steps"])
    return {}


def rename_cell(cell: Path, change: Callable[[dict], object]) -> Path:
    """Change a cell's description and let everything that names it follow. Returns its new folder."""
    before = files.read_json(cell / "cell.json")["config"]
    edit(cell / "cell.json", change)
    facts = files.read_json(cell / "cell.json")
    facts["settings"] |= {name: value for name, value in facts["config"].items() if value != before[name]}
    files.write_json(cell / "cell.json", facts)
    digest = Cell.from_json(facts).digest
    edit(cell / "cell.json", lambda facts: facts.update(digest=digest))
    for path in cell.glob("seed-*/run.json"):
        edit(path, lambda about: about.update(cell=digest))
    folder = cell.parent / f"{facts['system']}-{facts['preset']}-{digest}"
    cell.rename(folder)
    return folder


def as_seed(run: Path, seed: int) -> Path:
    """Pass a run off as that of another seed."""
    target = run.with_name(f"seed-{seed}")
    run.rename(target)
    pretend_seed(target, seed)
    return target


def pretend_seed(run: Path, seed: int) -> None:
    """Let run.json say another seed."""

    def change(about: dict) -> None:
        about["seed"] = seed
        for attempt in about["attempts"]:
            attempt["pack"] = sorted({*attempt["pack"], seed})

    edit(run / "run.json", change)


def copy_run(run: Path, seed: int) -> Path:
    """The run once more, as another seed's."""
    spare = run.with_name("spare")
    shutil.copytree(run, spare)
    return as_seed(spare, seed)


def swap_seeds(cell: Path) -> None:
    """Exchange the folders of seeds 0 and 1."""
    (cell / "seed-0").rename(cell / "spare")
    (cell / "seed-1").rename(cell / "seed-0")
    (cell / "spare").rename(cell / "seed-1")
