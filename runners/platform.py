"""What a run is made with: package versions, device and platform, as its record keeps them."""

import os
import platform as machine
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import torch

from ascent import kernels, suites
from ascent.algorithms import MATH, PORTABLE, SYSTEMS
from ascent.records.cell import Cell
from ascent.records.provenance import Provenance, cpu, imported_names, module_file, own_source, sources
from ascent.runners import own
from ascent.runners.resolve import describe

FLAGS = (
    *PORTABLE,
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "CUBLAS_WORKSPACE_CONFIG",
)


@cache
def packages(task: str) -> dict[str, str]:
    """Return the versions that may change a result, and a digest of the task's model file if it has one.

    A run is not resumed under other versions.
    """
    spec = suites.TASKS[task]
    versions = {name: version(name) for name in sorted({"torch", "numpy", *spec.packages})}
    if spec.model is not None:
        versions[spec.model.name] = sha256(spec.model.read_bytes()).hexdigest()[:12]
    for module, file in spec.modules:
        versions[module] = sha256(file.read_bytes()).hexdigest()[:12]
    if kernels.enabled():
        versions["kernels"] = str(kernels.VERSION)
    return {"python": machine.python_version(), **versions}


def platform_key() -> str:
    """Return the platform: within one key the same run gives the same bytes; across keys it need not."""
    capability = torch.backends.cpu.get_cpu_capability().replace(" ", "-")
    key = f"torch-{version('torch')}/{machine.machine()}/{cpu()['class']}/{capability}"
    values = {name: os.environ.get(name, "") for name in PORTABLE}
    if kernels.enabled():
        key += f"/kernels-{kernels.VERSION}"
    changed = [f"/{name}={value}" for name, value in values.items() if value != MATH.get(name, "")]
    return key + "".join(changed).replace(" ", "+")


def device_name(device: str) -> str:
    """Return "cpu", or the GPU's name and CUDA version: a run is resumed only on the same device."""
    return device if device == "cpu" else f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


def describe_platform() -> dict[str, Any]:
    """Return the platform as a run's record keeps it."""
    return {
        "key": platform_key(),
        "cpu": cpu()["name"],
        "threads": torch.get_num_threads(),
        "flags": {name: os.environ.get(name, "") for name in FLAGS},
    }


def training_sources(system: str) -> dict[str, bytes]:
    """Return the modules that train a system. An algorithm's file from outside the suite is among them."""
    one = SYSTEMS[system]
    if not one.own:
        return sources(["ascent.runners.pack", f"ascent.algorithms.{one.algorithm}"])
    imported = [name for name in imported_names(one.content) if module_file(name)]
    return sources(["ascent.runners.pack", *imported]) | {own_source(one.algorithm): one.content}


def provenance(cell: Cell, device: str) -> Provenance:
    """Return what this process tells the records of a cell's runs about itself."""
    return Provenance(
        facts=describe(cell),
        columns=suites.TASKS[cell.task].columns,
        packages=packages(cell.task) | own.packages(own.content(cell.system)),
        device=device_name(device),
        platform=describe_platform(),
        sources=training_sources(cell.system),
    )
