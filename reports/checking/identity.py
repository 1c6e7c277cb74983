"""Rules of `check` on who a record says it is: names, digests, the seal, the sources, where it was made."""

import ast
import json
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from reports import robustness
from reports.checking import folder
from reports.checking.folder import RESULTS, SEED_FOLDER, CellFiles
from reports.checking.protocol import Finding
from reports.records import DONE
from runners.errors import DamagedFile, InputError
from runners.seal import SEALED, read_seal

TASK_FACTS = ("horizon", "random_score", "reference_score")  # of cell.json's spec, which no digest covers


def own_digest(result: dict[str, Any]) -> str:
    """The digest that belongs into a result.json with this content."""
    content = {key: value for key, value in result.items() if key != "digest"}
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def folder_names(cell: CellFiles) -> Iterator[Finding]:
    """Folders are named as the cells and runs in them say."""
    if cell.cell is None:
        yield Finding(cell.name, "cell.json is missing, unreadable or describes no cell")
    else:
        facts = cell.facts
        says = f"{facts['suite']}/{facts['task']}/{facts['system']}-{facts['preset']}-{facts.get('digest')}"
        if says != cell.name:
            yield Finding(cell.name, f"cell.json says {says}")
    for run in cell.runs:
        if run.about.get("seed") != run.seed:
            yield Finding(run.name, f"run.json says seed {run.about.get('seed')}")
    for path in sorted(cell.path.iterdir()):
        known = re.fullmatch(r"cell\.json|sealed\.zip|sources-[0-9a-f]+\.zip|logs|robustness|\..*", path.name)
        if not known and not SEED_FOLDER.fullmatch(path.name):
            yield Finding(cell.name, f"{path.name} is no part of a cell's record")


def cell_digest(cell: CellFiles) -> Iterator[Finding]:
    """The digest in cell.json, which names its folder, is that of its content."""
    if cell.cell and cell.facts.get("digest") != cell.cell.digest:
        yield Finding(cell.name, f"digest is {cell.facts.get('digest')}, its content has {cell.cell.digest}")
    for name, value in (cell.facts.get("changed") or {}).items():
        if cell.cell and value != cell.cell.config.get(name):
            what = f"{name} is {value}, in its config {cell.cell.config.get(name)}"
            yield Finding(cell.name, f"changed: {what}")


def all_finished(cell: CellFiles) -> Iterator[Finding]:
    """Every seed folder holds a finished run with all of its files."""
    if not cell.runs:
        yield Finding(cell.name, "has no runs")
    for run in cell.runs:
        if not run.finished:
            yield Finding(run.name, "is not finished: it has no result.json that says done or diverged")
        wanted = ("run.json", *((run.result.get("digests") or {}) if cell.imported else RESULTS))
        if absent := [file for file in wanted if not (run.path / file).is_file()]:
            yield Finding(run.name, f"has no {', '.join(absent)}")


def result_digests(cell: CellFiles) -> Iterator[Finding]:
    """Result files have the digests that result.json says, and result.json its own."""
    for run in cell.finished:
        digests = run.result.get("digests")
        if not isinstance(digests, dict):
            yield Finding(run.name, "result.json has no digests")
            continue
        if not cell.imported and set(digests) != set(RESULTS):
            yield Finding(run.name, f"result.json has the digests of {', '.join(sorted(digests))}")
        for file, data in run.contents.items():
            if digests.get(file) != sha256(data).hexdigest():
                yield Finding(run.name, f"{file} has not the sha256 of result.json")
        if run.result.get("digest") != own_digest(run.result):
            yield Finding(run.name, "result.json has not its own digest")


def run_records(cell: CellFiles) -> Iterator[Finding]:
    """run.json tells of this cell and of attempts from step 0 to the end."""
    for run in [] if cell.imported else cell.finished:
        about, attempts = run.about, run.about.get("attempts")
        if not about:
            yield Finding(run.name, "run.json is missing or unreadable")
            continue
        if about.get("cell") != cell.facts.get("digest"):
            yield Finding(run.name, f"run.json is of cell {about.get('cell')}")
        if not attempts or not all(isinstance(attempt, dict) for attempt in attempts):
            yield Finding(run.name, "run.json has no attempts")
            continue
        if any(run.seed not in attempt.get("pack", ()) for attempt in attempts):
            yield Finding(run.name, f"run.json: an attempt was not at seed {run.seed}")
        if attempts[0].get("from_step") != 0 or attempts[-1].get("to_step") != run.result.get("steps"):
            yield Finding(run.name, "run.json: its attempts do not lead from step 0 to the end")
        if about.get("restarts") != len(attempts) - 1:
            yield Finding(run.name, f"run.json: {about.get('restarts')} restarts, {len(attempts)} attempts")
        if about.get("mixed_platforms"):
            yield Finding(run.name, "was moved between platforms: no single one gives its bytes", note=True)


def seal_agrees(cell: CellFiles) -> Iterator[Finding]:
    """sealed.zip, if there is one, holds what the folders hold."""
    names = {f"{run.path.name}/{file}" for run in cell.runs for file in SEALED}
    try:
        for entry, data in read_seal(cell.path).items():
            inside = cell.path / entry
            if not re.fullmatch(rf"{SEED_FOLDER.pattern}/({'|'.join(SEALED)})", entry):
                yield Finding(cell.name, f"sealed.zip holds {entry!r}")
            elif not inside.is_file():
                yield Finding(cell.name, f"sealed.zip has {entry}, which is not there")
            elif entry in names and inside.read_bytes() != data:
                yield Finding(cell.name, f"sealed.zip has another {entry} than the folder")
    except DamagedFile as error:
        yield Finding(cell.name, str(error))


def robustness_tables(cell: CellFiles) -> Iterator[Finding]:
    """What `ascent robustness` recorded was played by the final policies of the cell's runs."""
    if robustness.files(cell.path):
        done = {
            run.seed: robustness.policy(run.result) for run in cell.finished if run.result["status"] == DONE
        }
        _, _, faults = robustness.read(cell.path, done)
        for fault in faults:
            yield Finding(cell.name, f"{robustness.FOLDER}/{fault}")


def recorded_sources(cell: CellFiles) -> Iterator[Finding]:
    """The sources that ran are beside the runs, whole, and have the versions of cell.json."""
    if cell.imported or cell.cell is None:
        return
    modules = {"algorithm": f"algorithms/{cell.cell.algorithm}.py", "seedwise": "algorithms/seedwise.py"}
    modules |= {"suite": f"suites/{cell.cell.suite}.py", "runner": "runners/__init__.py"}
    for wanted in sorted({str(run.about.get("source_digest")) for run in cell.finished}):
        try:
            digest, content = folder.sources(cell.path / f"sources-{wanted}.zip")
        except InputError as error:
            yield Finding(cell.name, str(error))
            continue
        if digest != wanted:
            yield Finding(cell.name, f"sources-{wanted}.zip has digest {digest}")
        for key, module in modules.items():
            if module not in content:  # seedwise is a package since version 0.2
                module = module.replace(".py", "/__init__.py")
            found = re.search(rb"^VERSION = (\d+)", content.get(module, b""), re.MULTILINE)
            if found is None or int(found[1]) != cell.cell.versions.get(key):
                yield Finding(cell.name, f"cell.json: version of {key} is not that of {module} that ran")


def task_facts(cell: CellFiles) -> Iterator[Finding]:
    """The task's horizon and anchors, which no digest covers, are those of the sources that ran."""
    spec = cell.facts.get("spec")
    if not isinstance(spec, dict):
        yield Finding(cell.name, "cell.json has no spec of its task")
        return
    for digest in [] if cell.imported else sorted({run.about.get("source_digest") for run in cell.finished}):
        try:
            _, content = folder.sources(cell.path / f"sources-{digest}.zip")
        except InputError:
            continue  # `recorded-sources` says so
        declared = _declared_facts(content.get(f"suites/{cell.cell.suite}.py", b""), cell.cell.task)
        for key, value in declared.items():
            if spec.get(key) != value:
                yield Finding(cell.name, f"cell.json: {key} is {spec.get(key)}, in the sources {value}")


def _declared_facts(module: bytes, task: str) -> dict[str, float]:
    """What a suite's module, which is read and not run, says of a task."""
    for call in (node for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Call)):
        values = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "id")]
        if any(isinstance(value, ast.Constant) and value.value == task for value in values):
            facts = {k.arg: k.value for k in call.keywords if k.arg in TASK_FACTS}
            if "random_score" in facts:
                return {name: ast.literal_eval(value) for name, value in facts.items()}
    return {}


def one_version(cell: CellFiles) -> Iterator[Finding]:
    """The runs of a cell were made by one set of sources and packages."""
    finished = [] if cell.imported else cell.finished
    for key, note in (("source_digest", False), ("packages", False), ("lock_digest", True), ("commit", True)):
        by_value: dict[str, list[int]] = {}
        for run in finished:
            by_value.setdefault(json.dumps(run.about.get(key), sort_keys=True), []).append(run.seed)
        if len(by_value) > 1:
            kinds = "; ".join(f"{value} (seeds {', '.join(map(str, s))})" for value, s in by_value.items())
            yield Finding(cell.name, f"{key}: {kinds}", note)
        elif "null" in by_value and not note:
            yield Finding(cell.name, f"run.json has no {key}")
    keys = {str((run.about.get("platform") or {}).get("key")) for run in finished}
    if len(keys) > 1:
        yield Finding(cell.name, f"{len(keys)} platforms: {', '.join(sorted(keys))}", note=True)


def clean_tree(cell: CellFiles) -> Iterator[Finding]:
    """Runs were made from a commit, with nothing changed."""
    for run in [] if cell.imported else cell.finished:
        if run.about.get("dirty") is not False or not run.about.get("commit"):
            word = "from a changed tree" if run.about.get("dirty") else "with no commit known"
            yield Finding(run.name, f"was made {word}")
