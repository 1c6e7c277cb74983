"""Rules of `check` about identity: names, digests, seals, the sources, where a run was made."""

import ast
import json
import re
from collections.abc import Container, Iterator
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from ascent.records import files, layout, ledger
from ascent.records.cell import Cell, chosen, without_tuning
from ascent.records.errors import DamagedFile, InputError
from ascent.records.files import read as read_file
from ascent.records.plan import seed_ranges
from ascent.records.provenance import own_source
from ascent.records.read import DONE
from ascent.records.run import result_digest
from ascent.records.store import Store, read_seal, seals
from ascent.reports.checking import folder
from ascent.reports.checking.folder import CellFiles
from ascent.reports.checking.protocol import Finding
from ascent.reports.statistics import perturbed

ANCHORS = ("random_score", "reference_score")
TASK_FACTS = ("horizon", *ANCHORS)  # of cell.json's spec, which no digest covers
_KNOWN_NAME = re.compile(  # of files and folders in a cell's folder
    "|".join(map(re.escape, (layout.CELL, layout.EARLY_SEAL, layout.LOGS, layout.ROBUSTNESS)))
    + rf"|(sources|sealed)-[0-9a-f]+\.zip|{layout.SEED_FOLDER.pattern}|\..*"
)


def folder_names(cell: CellFiles) -> Iterator[Finding]:
    """Folder names agree with the cell and the runs inside."""
    if cell.cell is None:
        yield Finding(cell.name, "cell.json is missing, unreadable or does not describe a cell")
    else:
        facts = cell.facts
        name = f"{facts['suite']}/{facts['task']}/{facts['system']}-{facts['preset']}-{facts.get('digest')}"
        if name != cell.name:
            yield Finding(cell.name, f"cell.json describes {name}")
    for run in cell.runs:
        if run.about.get("seed") != run.seed:
            yield Finding(run.name, f"run.json has seed {run.about.get('seed')}")
    for path in sorted(cell.path.iterdir()):
        if not _KNOWN_NAME.fullmatch(path.name):
            yield Finding(cell.name, f"{path.name} is not part of a cell's record")


def cell_digest(cell: CellFiles) -> Iterator[Finding]:
    """The digest in cell.json, which names the folder, matches the content, config included."""
    if cell.cell and cell.facts.get("digest") != cell.cell.digest:
        what = f"cell.json has digest {cell.facts.get('digest')}, but its content gives {cell.cell.digest}"
        yield Finding(cell.name, what)
    for name, value in (cell.facts.get("changed") or {}).items():
        if cell.cell and value != cell.cell.config.get(name):
            what = f"cell.json says {name} was set to {value}, but config has {cell.cell.config.get(name)}"
            yield Finding(cell.name, what)
    if cell.cell and cell.cell.settings is not None:  # which the digest covers instead of config
        expected = _declared_defaults(cell, cell.cell) | cell.cell.settings
        for name, value in cell.cell.config.items():
            if name in expected and value != expected[name]:
                what = f"cell.json: config has {name} = {value}, but by settings and defaults it is"
                yield Finding(cell.name, f"{what} {expected[name]}")


def _declared_defaults(files: CellFiles, cell: Cell) -> dict[str, Any]:
    """Return the defaults of the hyperparameters in the recorded sources, which are parsed, not run."""
    for digest in _source_digests(files):
        try:
            _, content = folder.sources(files.path, digest)
        except InputError:
            continue  # a finding of `recorded-sources`
        if cell.algorithm_sha256:
            return {}  # a Config of its author's: retraining shows what it gives
        return _config_defaults(content.get(versioned_modules(cell, content)["algorithm"], b""))
    return {}


@lru_cache(maxsize=64)
def _config_defaults(algorithm: bytes) -> dict[str, Any]:
    module = ast.parse(algorithm)
    configs = [node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Config"]
    fields = [node for config in configs for node in config.body if isinstance(node, ast.AnnAssign)]
    names = {ast.unparse(field.target): field.value for field in fields if field.value}
    return {name: json.loads(json.dumps(ast.literal_eval(value))) for name, value in names.items()}


def all_finished(cell: CellFiles) -> Iterator[Finding]:
    """Every seed folder holds a finished run with all of its files."""
    if not cell.runs:
        yield Finding(cell.name, "has no runs")
    for run in cell.runs:
        if not run.finished:
            yield Finding(run.name, "is not finished: no result.json with status done or diverged")
        digests = run.result.get("digests") or {}
        files = [file for file in layout.RESULT_FILES if file not in layout.OPTIONAL or file in digests]
        if run.compact:
            files = [*(file for file in files if file not in (layout.TRAIN, layout.POLICY)), *layout.COMPACT]
        for file in (layout.RUN, *(digests if cell.imported else files)):
            present = run.contents if file in layout.RESULT_FILES else run.store.names(run.seed)
            if file not in present:
                yield Finding(run.name, f"{file} is missing")
    left_out = [run.seed for run in cell.finished if run.compact and layout.POLICY not in run.contents]
    if left_out:
        what = f"the policies of seeds {seed_ranges(left_out)} were left out: they cannot be played again"
        yield Finding(cell.name, what, note=True)


def result_digests(cell: CellFiles) -> Iterator[Finding]:
    """Result files match their digests in result.json, which matches its own digest."""
    for run in cell.finished:
        digests = run.result.get("digests")
        if not isinstance(digests, dict):
            yield Finding(run.name, "result.json has no digests")
            continue
        if not cell.imported and set(digests) | set(layout.OPTIONAL) != set(layout.RESULT_FILES):
            yield Finding(run.name, f"result.json has digests of other files: {', '.join(sorted(digests))}")
        form = run.result.get("compact") or {}
        if form and set(form) != set(layout.COMPACT):
            names = ", ".join(sorted(form))
            yield Finding(run.name, f"result.json has a compact form of other files: {names}")
        expected = form | digests
        for file, data in run.contents.items():
            if expected.get(file) != sha256(data).hexdigest():
                ends = files.line_ends(data, expected.get(file))
                yield Finding(run.name, f"{file} does not match its sha256 in result.json{ends}")
        if run.result.get("digest") != result_digest(run.result):
            yield Finding(run.name, "result.json does not match its own digest")


def run_records(cell: CellFiles) -> Iterator[Finding]:
    """run.json belongs to this cell, and its attempts cover all steps."""
    for run in [] if cell.imported else cell.finished:
        about = run.about
        attempts = about.get("attempts")
        if not about:
            yield Finding(run.name, "run.json is missing or unreadable")
            continue
        if about.get("cell") != cell.facts.get("digest"):
            yield Finding(run.name, f"run.json belongs to cell {about.get('cell')}")
        if not attempts or not all(isinstance(attempt, dict) for attempt in attempts):
            yield Finding(run.name, "run.json has no attempts")
            continue
        if any(run.seed not in attempt.get("pack", ()) for attempt in attempts):
            yield Finding(run.name, f"run.json: an attempt does not include seed {run.seed}")
        last = run.result.get("steps")
        if attempts[0].get("from_step") != 0 or attempts[-1].get("to_step") != last:
            yield Finding(run.name, f"run.json: the attempts do not cover steps 0 to {last}")
        if about.get("restarts") != len(attempts) - 1:
            count = "is 1 attempt" if len(attempts) == 1 else f"are {len(attempts)} attempts"
            yield Finding(run.name, f"run.json: restarts is {about.get('restarts')}, but there {count}")
        if about.get("mixed_platforms"):
            what = "was trained on several platforms: none of them alone reproduces its bytes"
            yield Finding(run.name, what, note=True)


def platform_claims(cell: CellFiles) -> Iterator[Finding]:
    """The platform key of a run agrees with its packages and its last attempt."""
    for run in [] if cell.imported else cell.finished:
        packages = run.about.get("packages") or {}
        first, *parts = str((run.about.get("platform") or {}).get("key")).split("/")
        if first != f"torch-{packages.get('torch')}":
            yield Finding(
                run.name, f"run.json: the platform has {first}, packages torch {packages.get('torch')}"
            )
        kernels = [part.removeprefix("kernels-") for part in parts if part.startswith("kernels-")]
        if kernels != ([packages["kernels"]] if "kernels" in packages else []):
            yield Finding(run.name, "run.json: the platform and the packages name different kernels")
        last = run.about["attempts"][-1].get("platform")
        if last not in (None, "/".join([first, *parts])):  # versions before 0.2.0 do not record it
            yield Finding(run.name, f"run.json: the last attempt ran on {last}, the platform is another")


def pack_mates(cell: CellFiles) -> Iterator[Finding]:
    """Seeds that trained in one process have records that say so."""
    attempts = {run.seed: run.about.get("attempts") or [] for run in cell.runs}
    for run in [] if cell.imported else cell.finished:
        for attempt in attempts[run.seed]:
            for mate in attempt["pack"]:
                if mate in attempts and not any(_together(attempt, other) for other in attempts[mate]):
                    what = f"run.json: seed {mate} trained beside it, by this record, but not by its own"
                    yield Finding(run.name, what, note=True)


def _together(attempt: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(attempt.get(key) == other.get(key) for key in ("host", "pid", "from_step", "pack"))


def started_seeds(cell: CellFiles) -> Iterator[Finding]:
    """Every seed that was ever started has a record, by the ledger and by the packs of the others."""
    if len(cell.runs) < 2 or cell.imported:  # one run is checked alone
        return
    seeds = {run.seed for run in cell.runs}
    started = ledger.ever_started(cell.started, {run.seed: run.about for run in cell.runs})
    if absent := sorted(started - {*Store(cell.path).seeds()}):
        what = f"{len(absent)} of {len(seeds) + len(absent)} seeds that were started have no record here: "
        yield Finding(cell.name, what + seed_ranges(absent), note=True)
    reporting = without_tuning(seeds)
    if chosen(reporting):
        what = f"seeds {seed_ranges(reporting)} were chosen: a set without a choice is 0 to n-1"
        yield Finding(cell.name, what, note=True)


def sealed_runs(cell: CellFiles) -> Iterator[Finding]:
    """The seals of a cell are whole, and agree with the folders of runs that have both."""
    sealed: dict[tuple[int, str], bytes] = {}
    for path in seals(cell.path):
        try:
            runs = read_seal(path)
        except DamagedFile as error:
            yield Finding(cell.name, str(error))
            continue
        for seed, contents in runs.items():
            where = f"{cell.name}/{layout.seed_folder(seed)}"
            folder = cell.path / layout.seed_folder(seed)
            for name, data in contents.items():
                if sealed.setdefault((seed, name), data) != data:
                    yield Finding(where, f"{path.name} and another seal differ in {name}")
                if name in layout.COMPACT and (folder / layout.TRAIN).exists():
                    continue  # the folder has the whole table
                if (folder / layout.RESULT).exists() and _content(folder / name) != data:
                    yield Finding(where, f"the folder and {path.name} differ in {name}")


def _content(path: Path) -> bytes | None:
    return read_file(path) if path.exists() else None


def robustness_tables(cell: CellFiles) -> Iterator[Finding]:
    """The records of `ascent robustness` were made with the final policies of the cell's runs."""
    partial = len(cell.runs) < len(Store(cell.path).seeds())  # the tables are of all runs
    if perturbed.files(cell.path) and not partial:
        seeds = without_tuning(run.seed for run in cell.runs)
        done = [run for run in cell.finished if run.result["status"] == DONE and run.seed in seeds]
        policies = {run.seed: perturbed.policy(run.result) for run in done}
        _, _, faults = perturbed.read(cell.path, policies)
        for fault in faults:
            yield Finding(cell.name, f"{layout.ROBUSTNESS}/{fault}")


def recorded_sources(cell: CellFiles) -> Iterator[Finding]:
    """The sources that ran are recorded in full, with the versions that cell.json names."""
    if cell.imported or cell.cell is None:
        return
    for recorded in _source_digests(cell):
        archive = layout.sources(recorded)
        try:
            digest, content = folder.sources(cell.path, recorded)
        except InputError as error:
            yield Finding(cell.name, str(error))
            continue
        if digest != recorded:
            yield Finding(cell.name, f"the content of {archive} has digest {digest}")
        for key, module in versioned_modules(cell.cell, content).items():
            if key == "algorithm" and cell.cell.algorithm_sha256:
                continue  # its digest is part of the cell
            version = re.search(rb"^VERSION = (\d+)", content.get(module, b""), re.MULTILINE)
            if version is None or int(version[1]) != cell.cell.versions.get(key):
                yield Finding(cell.name, f"cell.json: version of {key} differs from the recorded {module}")


def own_algorithm(cell: CellFiles) -> Iterator[Finding]:
    """An algorithm from outside the suite is the recorded file, and has a name of its own."""
    if cell.cell is None or not (expected := cell.cell.algorithm_sha256):
        return
    from ascent.runners.own import SUITE

    name = own_source(cell.cell.algorithm)
    for recorded in _source_digests(cell):
        try:
            _, content = folder.sources(cell.path, recorded)
        except InputError:
            continue  # a finding of `recorded-sources`
        if sha256(content.get(name, b"")).hexdigest() != expected:
            yield Finding(cell.name, f"cell.json: algorithm_sha256 is not that of the recorded {name}")
    if taken := SUITE & {cell.cell.system, cell.cell.algorithm}:
        yield Finding(cell.name, f"{name} has the name of an algorithm of the suite: {min(taken)}")


def _source_digests(cell: CellFiles) -> list[str]:
    return sorted({str(run.about.get("source_digest")) for run in cell.finished})


def versioned_modules(cell: Cell, content: Container[str]) -> dict[str, str]:
    """Return the recorded modules that declare a cell's versions, by the names of the versions."""
    early = "runners/__init__.py" in content  # before 0.2.0, sources were recorded as top-level packages
    home = "" if early else "ascent/"
    return {
        "algorithm": own_source(cell.algorithm)
        if cell.algorithm_sha256
        else f"{home}algorithms/{cell.algorithm}.py",
        "seedwise": f"{home}algorithms/seedwise{'' if early else '/__init__'}.py",
        "suite": f"{home}suites/{cell.suite}.py",
        "runner": f"{home}runners/__init__.py",
    }


def task_facts(cell: CellFiles) -> Iterator[Finding]:
    """The horizon and anchors in cell.json agree with the recorded sources, or with what a user declared."""
    spec = cell.facts.get("spec")
    if not isinstance(spec, dict):
        yield Finding(cell.name, "cell.json has no spec of its task")
        return
    if cell.imported or cell.cell is None:
        return
    if (environment := cell.cell.environment) is not None:
        for key in ANCHORS:
            if spec.get(key) != (value := environment.get(key)):
                what = f"cell.json: {key} is {spec.get(key)}, its environment declares {value}"
                yield Finding(cell.name, what)
    for digest in _source_digests(cell):
        try:
            _, content = folder.sources(cell.path, digest)
        except InputError:
            continue  # a finding of `recorded-sources`
        module = versioned_modules(cell.cell, content)["suite"]
        declared = _declared_facts(content.get(module, b""), cell.cell.task)
        for key, value in declared.items():
            if spec.get(key) != value:
                what = f"cell.json: {key} is {spec.get(key)}, in the recorded sources {value}"
                yield Finding(cell.name, what)


@lru_cache(maxsize=64)
def _declared_facts(module: bytes, task: str) -> dict[str, float]:
    """Return the facts that a suite's module declares of a task. The module is parsed, not run."""
    for call in (node for node in ast.walk(ast.parse(module)) if isinstance(node, ast.Call)):
        values = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "id")]
        if any(isinstance(value, ast.Constant) and value.value == task for value in values):
            facts = {k.arg: k.value for k in call.keywords if k.arg in TASK_FACTS}
            if "random_score" in facts:
                return {name: ast.literal_eval(value) for name, value in facts.items()}
    return {}


def one_version(cell: CellFiles) -> Iterator[Finding]:
    """All runs of a cell were made with the same sources and packages."""
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
    """Runs were made from a commit, without uncommitted changes."""
    for run in [] if cell.imported else cell.finished:
        if run.about.get("dirty") is not False or not run.about.get("commit"):
            source = "a tree with uncommitted changes" if run.about.get("dirty") else "an unknown commit"
            yield Finding(run.name, f"was made from {source}")
