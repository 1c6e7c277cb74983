"""The package as users have it: installed from a wheel, and started from folders with packages of their own.

The wheel is built from a copy of the tracked files in a repository of its own, whose one commit it must know.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from ascent import kernels

ROOT = Path(__file__).parents[1]
PARTS = ("algorithms", "kernels", "runners", "reports", "suites", "slurm", "records")
SMALL = ("--seeds", "0-1", "--steps", "400", "--evaluations", "2", "--episodes", "1")


def run(*words: object, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output; fail with all of it."""
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean checkout with one commit: the tracked files as they are now."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    folder = tmp_path_factory.mktemp("checkout")
    names = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).splitlines()
    for name in names:
        if not name.startswith("tests/") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    run("git", "init", "-q", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    run("git", *who, "commit", "-q", "-m", "All files", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `python` of a fresh environment with the wheel; dependencies come from the environment of the
    tests.
    """
    folder = tmp_path_factory.mktemp("installed")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, checkout, cwd=folder)
    (wheel,) = folder.glob("ascent_rl-*.whl")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env", cwd=folder)
    (packages,) = (folder / "env" / "lib").glob("python*/site-packages")
    dependencies = Path(pytest.__file__).parents[1]
    (packages / "dependencies.pth").write_text(f"{dependencies}\n")
    run(*pip, "install", "--no-deps", "--target", packages, wheel, cwd=folder)
    return folder / "env" / "bin" / "python"


def test_a_wheel_knows_its_commit(installed: Path, checkout: Path, tmp_path: Path) -> None:
    """Train, report, check, cite and verify outside of any checkout, with no rule failed."""
    commit = run("git", "rev-parse", "HEAD", cwd=checkout).strip()
    ascent = (installed, "-m", "ascent")
    assert f"commit {commit[:7]}" in run(*ascent, "--version", cwd=tmp_path)
    cell = run(*ascent, "train", "a2c", "CartPole-v1", *SMALL, cwd=tmp_path).strip()
    record = (tmp_path / cell / "seed-0" / "run.json").read_text()
    assert f'"commit": "{commit}"' in record and '"dirty": false' in record
    assert ("/kernels-" in record) == kernels.enabled()  # built into the wheel where they are built here
    run(*ascent, "report", "runs", cwd=tmp_path)
    table = run(*ascent, "check", "runs", cwd=tmp_path)
    assert "pass" in table and "FAIL" not in table
    assert "1 cell recorded\n" in table, "its sources are those of its commit, by the wheel's own list"
    cited = run(*ascent, "cite", cell, cwd=tmp_path)
    assert cell.rpartition("-")[2] in cited and "grade     recorded\n" in cited
    assert "2 replayed" in run(*ascent, "verify", cell, cwd=tmp_path)
    assert "2 restarted\n" in run(*ascent, "verify", cell, "--depth", "start", cwd=tmp_path)
    where = "import pathlib, ascent; print(pathlib.Path(ascent.__file__).parent / 'requirements.lock')"
    lock = Path(run(installed, "-c", where, cwd=tmp_path).strip())
    assert lock.read_bytes() == (ROOT / "requirements.lock").read_bytes()


def test_a_wheel_has_the_results(installed: Path, tmp_path: Path) -> None:
    """They are cited, and stand beside own runs, without training and without a checkout."""
    ascent = (installed, "-m", "ascent")
    assert "9fde380df0" in run(*ascent, "results", cwd=tmp_path)
    cited = run(*ascent, "cite", "ppo", "CartPole-v1", cwd=tmp_path)
    assert (
        "ppo (preset cleanrl) on CartPole-v1" in cited
        and "grade     recorded (origin unknown): commit" in cited
    )
    curve = "seed,step,return\n" + "".join(
        f"{s},{t},{t / 250}\n" for s in range(3) for t in (0, 50_000, 100_000)
    )
    (tmp_path / "mine.csv").write_text(curve)
    run(*ascent, "import", "mine.csv", "--name", "mine", "--task", "CartPole-v1", cwd=tmp_path)
    run(*ascent, "report", "runs", "--with-results", "ppo,a2c", cwd=tmp_path)
    assert "9fde380df0" in (tmp_path / "out" / "runs" / "index.html").read_text()


def test_a_modified_checkout_is_told(checkout: Path, tmp_path: Path) -> None:
    """Built from a tree with a change, a wheel says so."""
    copy = tmp_path / "copy"
    run("git", "clone", "-q", checkout, copy, cwd=tmp_path)
    with (copy / "README.md").open("a") as readme:
        readme.write("\n")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, copy, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    stamp = run(sys.executable, "-m", "zipfile", "-l", wheel, cwd=tmp_path)
    assert "ascent/build.json" in stamp
    run(sys.executable, "-m", "zipfile", "-e", wheel, tmp_path / "out", cwd=tmp_path)
    assert '"dirty": true' in (tmp_path / "out" / "ascent" / "build.json").read_text()


def test_packages_in_the_working_folder_are_not_imported(tmp_path: Path) -> None:
    """A folder whose packages have the names of ours: sweep with two processes, report, import."""
    for name in PARTS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise RuntimeError('{name} of the user')\n")
    sweep = tmp_path / "two.toml"
    sweep.write_text(
        'seeds = "0-1"\nevaluations = 2\nepisodes = 1\n'
        '[[cells]]\nalgorithms = ["a2c"]\ntasks = ["CartPole-v1"]\nsteps = 2048\n'
    )
    ascent = (sys.executable, "-m", "ascent")
    run(*ascent, "sweep", sweep.name, "--jobs", "2", "--pack", "1", cwd=tmp_path)
    page = run(*ascent, "report", sweep.name, cwd=tmp_path).strip()
    assert (tmp_path / page).exists()
    code = "import ascent; print(ascent.__version__, ascent.read('runs').runs)"
    run(sys.executable, "-c", code, cwd=tmp_path)


def test_a_checkout_of_another_user_knows_its_commit(checkout: Path, tmp_path: Path) -> None:
    """As in the usual installation for a group, where git by itself refuses to answer."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    copy = tmp_path / "copy"
    run("git", "clone", "-q", checkout, copy, cwd=tmp_path)
    for path in [copy, *copy.rglob("*")]:
        os.chown(path, 12345, 12345, follow_symlinks=False)
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    plain = subprocess.run(
        ["git", "-C", str(copy), "rev-parse", "HEAD"], capture_output=True, text=True, env=env | {"HOME": "/"}
    )
    if plain.returncode == 0:
        pytest.skip("this git does not ask who owns a checkout")
    links = tmp_path / "links"
    links.mkdir()
    code = "from ascent.records import provenance; print(provenance.commit(), provenance.commit_problem())"
    (links / "ascent").symlink_to(copy / "ascent")
    finder = f"import ascent, sys; ascent.__path__.append({str(copy)!r}); {code}"
    output = run(
        sys.executable, "-c", finder, cwd=tmp_path, env=env | {"HOME": "/", "PYTHONPATH": str(links)}
    )
    commit = run("git", "rev-parse", "HEAD", cwd=checkout).strip()
    assert commit in output and output.strip().endswith("None")
