"""Build the kernels with the compiler that the package `ziglang` brings: no root, no system compiler.

python kernels/build.py [FOLDER]        default: the folder of this file
"""

import platform
import subprocess
import sys
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.cpp")
# The levels of each processor family, the best first. All give the same bits, see README.md.
LEVELS = {"x86_64": ("x86_64_v4", "x86_64_v3"), "aarch64": ("generic",)}
# No multiplication is fused with an addition unless the code says so; sqrt sets no errno, to vectorise.
FLAGS = "-std=c++17 -O3 -ffp-contract=off -fno-math-errno -fno-exceptions -fno-rtti -nostdlib++ -shared -fPIC"
TARGET = "{machine}-linux-gnu.2.17"  # any Linux since 2012


@cache
def sources() -> str:
    """Return twelve hex digits over what is compiled and how."""
    digest = sha256(FLAGS.encode())
    for path in sorted([SOURCE, *SOURCE.parent.glob("*.h")]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def library(level: str) -> str:
    """Return the file name of the library for a level of processors, made of the present sources."""
    return f"kernels-{level}-{sources()}.so"


def unavailable() -> str | None:
    """Return one line that says why nothing can be built here, or None."""
    machine = platform.machine()
    if sys.platform != "linux" or machine not in LEVELS:
        return f"the kernels are not built for {sys.platform} on {machine}"
    if find_spec("ziglang") is None:
        return "the kernels are not built: the package ziglang is not installed"
    return None


def build(folder: Path) -> str | None:
    """Build the libraries for this machine into a folder; return one line that says why not, or None."""
    if problem := unavailable():
        return problem
    for old in folder.glob("kernels-*.so"):
        old.unlink()
    machine = platform.machine()
    for level in LEVELS[machine]:
        target = ["-target", TARGET.format(machine=machine), f"-mcpu={level}"]
        command = [sys.executable, "-m", "ziglang", "c++", *FLAGS.split(), *target, str(SOURCE), "-o"]
        done = subprocess.run([*command, str(folder / library(level))], capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no message"])[0]
            return f"the kernels are not built: the compiler failed: {reason}"
    return None


if __name__ == "__main__":
    if problem := build(Path(sys.argv[1]) if sys.argv[1:] else SOURCE.parent):
        print(f"{problem}; the algorithms run in torch alone", file=sys.stderr)
