"""Where a result comes from: versions, sources, machine, commit. None of it changes a digest."""

import os
import platform
import socket
import subprocess
import sys
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import suites
from algorithms import SYSTEMS
from runners.ownership import slurm_facts

ROOT = Path(__file__).resolve().parent.parent
MATH = ("MKL_CBWR", "ATEN_CPU_CAPABILITY", "NPY_DISABLE_CPU_FEATURES", "OPENBLAS_CORETYPE")  # choose code
FLAGS = (
    *MATH,
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
)


@cache
def packages(task: str) -> dict[str, str]:
    """Versions that may change a result, the task's model file included: resuming a run under others is
    refused.
    """
    spec = suites.TASKS[task]
    versions = {name: version(name) for name in sorted({"torch", "numpy", *spec.packages})}
    if spec.model is not None:
        versions[spec.model.name] = sha256(spec.model.read_bytes()).hexdigest()[:12]
    return {"python": platform.python_version(), **versions}


@cache
def cpu() -> dict[str, str]:
    """The processor's class, by which matrix libraries choose their code, and its name."""
    fields = {"vendor_id": "", "cpu family": "", "model": "", "model name": platform.processor()}
    try:
        for line in Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines():
            name, _, value = line.partition(":")
            if name.strip() in fields:
                fields[name.strip()] = value.strip()
    except OSError:
        pass  # not Linux: the name is all there is
    return {
        "class": "-".join([fields["vendor_id"], fields["cpu family"], fields["model"]]),
        "name": fields["model name"],
    }


def platform_key() -> str:
    """Within one key the same run gives the same bytes; across keys it need not."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability().replace(" ", "-")
    key = f"torch-{version('torch')}/{platform.machine()}/{cpu()['class']}/{capability}"
    usual = {"MKL_CBWR": "AUTO"}  # as set by `algorithms`
    values = {name: os.environ.get(name, "") for name in MATH}
    changed = [f"/{name}={value}" for name, value in values.items() if value != usual.get(name, "")]
    return key + "".join(changed).replace(" ", "+")


def device_name(device: str) -> str:
    """ "cpu", or which GPU with which CUDA: a run goes on exactly only on the same one."""
    import torch

    return device if device == "cpu" else f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def describe_platform() -> dict[str, object]:
    """The platform as the record keeps it."""
    import torch

    return {
        "key": platform_key(),
        "cpu": cpu()["name"],
        "threads": torch.get_num_threads(),
        "flags": {name: os.environ.get(name, "") for name in FLAGS},
    }


def sources(system: str, suite: str) -> dict[str, bytes]:
    """The files that make a result: the algorithm, what algorithms share, the suites, the runners."""
    folders = [f"suites/{path.name}" for path in sorted((ROOT / "suites").glob("*.py"))]
    folders += [f"runners/{path.name}" for path in sorted((ROOT / "runners").glob("*.py"))]
    shared = [
        path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "algorithms/seedwise").glob("*.py"))
    ]
    names = [
        f"algorithms/{SYSTEMS[system].algorithm}.py",
        "algorithms/heads.py",
        "algorithms/__init__.py",
        *shared,
        *folders,
    ]
    return {name: (ROOT / name).read_bytes() for name in names}


def source_digest(files: dict[str, bytes]) -> str:
    """Twelve hex digits over names and contents."""
    digest = sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]


@cache
def commit() -> dict[str, object]:
    """The commit this runs from and whether files differ from it; None where git does not know."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def lock_digest() -> str | None:
    """sha256 of requirements.lock, the exact versions of everything installed."""
    path = ROOT / "requirements.lock"
    return sha256(path.read_bytes()).hexdigest() if path.exists() else None


def attempt_identity() -> dict[str, object]:
    """Who is writing: no two live attempts share all of it."""
    identity: dict[str, object] = {"host": socket.gethostname(), "pid": os.getpid(), "python": sys.executable}
    return identity | slurm_facts()
