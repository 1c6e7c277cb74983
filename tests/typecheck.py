"""Check the types of the package: `python -m tests.typecheck`, a part of `make lint`.

mypy does not follow setuptools' package-dir, by which the folders at the top of the repository are parts of
one package. So it is given a folder of links in which they lie as they do in a wheel.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = ("-p", "ascent", "-p", "docs.generators", "-m", "docs.hooks")
FOLDERS = ("slurm", "reports", "runners", "records", "algorithms", "kernels", "suites")


def check(root: Path = ROOT, target: Sequence[str] = ("-p", "ascent")) -> subprocess.CompletedProcess[str]:
    """Run mypy on the package in a checkout, or on a part of it."""
    home = root / "build" / "typed"
    package = home / "ascent"
    package.mkdir(parents=True, exist_ok=True)
    places = {path.name: path for path in (root / "ascent").iterdir() if path.name != "__pycache__"}
    places |= {name: root / name for name in FOLDERS}
    for link in package.iterdir():
        link.unlink()
    for name, place in places.items():
        (package / name).symlink_to(place)
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *target]
    environment = os.environ | {"MYPYPATH": str(home)}
    return subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)


if __name__ == "__main__":
    done = check(target=TARGETS)
    print(done.stdout + done.stderr, end="")
    sys.exit(done.returncode)
