"""Build hooks: a wheel knows its commit, and carries the lock of its dependencies and the kernels."""

import json
import runpy
import shutil
import subprocess
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
STAMP = "build.json"  # read by records/provenance.py
LOCK = "requirements.lock"
KERNELS = runpy.run_path(str(ROOT / "kernels" / "build.py"))


def write_stamp(folder: Path) -> None:
    """Write the commit and whether the tree was modified; from a source distribution, what that recorded."""
    if (ROOT / ".git").exists():
        commit = git("rev-parse", "HEAD")
        status = git("status", "--porcelain", "--untracked-files=no")
        stamp = {"commit": commit, "dirty": None if status is None else bool(status)}
        (folder / STAMP).write_text(json.dumps(stamp) + "\n")
    elif (ROOT / STAMP).exists():
        shutil.copyfile(ROOT / STAMP, folder / STAMP)


def git(*words: str) -> str | None:
    """Return what git answers; None if it does not."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


class Package(Distribution):
    """A package with compiled code, where it can be compiled."""

    def has_ext_modules(self) -> bool:
        return KERNELS["unavailable"]() is None


class BuildPy(build_py):
    """Add the stamp, the lock and the compiled kernels to the package."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib) / "ascent"
            write_stamp(package)
            shutil.copyfile(ROOT / LOCK, package / LOCK)
            if problem := KERNELS["build"](package / "kernels"):
                print(problem)


class BdistWheel(bdist_wheel):
    """Name the platform that the kernels are compiled for; any Python 3 loads them."""

    def get_tag(self) -> tuple[str, str, str]:
        _, _, platform = super().get_tag()
        return "py3", "none", platform.replace("linux_", "manylinux2014_")


class Sdist(sdist):
    """Add the stamp to the source distribution."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        write_stamp(Path(base_dir))


setup(distclass=Package, cmdclass={"bdist_wheel": BdistWheel, "build_py": BuildPy, "sdist": Sdist})
