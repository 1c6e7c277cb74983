"""Every preset equals its source, field by field, or says what was searched; and every hyperparameter has a
meaning.

`algorithms/sources/<file>.toml` has the settings of the sources in their own names and values, and
`tests/algorithms/sources/<file>.py` how they convert to ours.
"""

import importlib.util
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.cli.showing import meanings
from ascent.records.errors import InputError
from ascent.runners import presets
from ascent.runners.resolve import learnable, preset_config

Conversion = Callable[[dict[str, Any]], dict[str, Any]]

CONVERSIONS = Path(__file__).with_name("sources")
MODULES = {system.algorithm: system.module() for system in SYSTEMS.values()}
WRITTEN = [name for name in MODULES if presets.sources(name)]
ENTRIES = [(name, preset) for name in WRITTEN for preset in presets.sources(name)]
KINDS = {"openai", "discrete", "continuous", "default"}
KEYS = {
    "title": str,
    "repository": str,
    "commit": str,
    "files": list,
    "url": str,
    "differs": list,
    "settings": dict,
    "searched": str,
    "origin": str,
}


@cache
def conversions(name: str) -> Mapping[str, Conversion]:
    """The file's functions from a source's settings to all fields of our Config, by preset."""
    spec = importlib.util.spec_from_file_location(f"conversions_{name}", CONVERSIONS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Mapping[str, Conversion] = module.CONVERSIONS
    return found


def table(name: str, preset: str) -> dict[str, Any]:
    """A preset's Configs by key; a preset that is one Config has the key "default"."""
    settings = MODULES[name].PRESETS[preset]
    return dict(settings) if isinstance(settings, Mapping) else {"default": settings}


def test_every_algorithm_has_sources() -> None:
    assert [name for name in MODULES if name not in WRITTEN] == []
    assert {path.stem for path in presets.FOLDER.glob("*.toml")} == set(MODULES)


@pytest.mark.parametrize("name", WRITTEN)
def test_each_preset_has_an_entry(name: str) -> None:
    """In the same order: `ascent list` and the completion take the names from the entries, without torch."""
    assert list(presets.sources(name)) == list(MODULES[name].PRESETS)


@pytest.mark.parametrize(("name", "preset"), ENTRIES)
def test_entry(name: str, preset: str) -> None:
    """A public source at a commit, or a document; or what was searched, or where the preset comes from."""
    entry = presets.sources(name)[preset]
    assert entry.keys() <= KEYS.keys()
    assert all(value and isinstance(value, KEYS[key]) for key, value in entry.items() if key != "differs")
    assert all(
        isinstance(line, str) and line for line in [*entry.get("files", ()), *entry.get("differs", ())]
    )
    if "settings" not in entry:
        assert len({"searched", "origin"} & entry.keys()) == 1
        return
    assert "title" in entry and "differs" in entry and not {"searched", "origin"} & entry.keys()
    if "repository" in entry:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry["repository"])
        assert re.fullmatch(r"[0-9a-f]{7,40}", entry["commit"]) and entry["files"]
    else:
        assert "commit" not in entry and "files" not in entry
    assert set(entry["settings"]) == set(table(name, preset))


@pytest.mark.parametrize(
    ("name", "preset", "key"),
    [(*entry, key) for entry in ENTRIES for key in presets.sources(entry[0])[entry[1]].get("settings", ())],
)
def test_preset_equals_its_source(name: str, preset: str, key: str) -> None:
    """In every field, which the conversion gives all of."""
    ours = asdict(table(name, preset)[key])
    theirs = conversions(name)[preset](dict(presets.sources(name)[preset]["settings"][key]))
    assert {
        field: (ours[field], theirs.get(field)) for field in ours if ours[field] != theirs.get(field)
    } == {}
    assert theirs.keys() == ours.keys()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_setting_that_differs_is_noticed(name: str) -> None:
    """The comparison would fail: the conversions depend on the source's settings."""
    for preset, convert in conversions(name).items():
        assert "settings" in presets.sources(name)[preset], f"{preset} has nothing to convert"
        depends = set()
        for settings in presets.sources(name)[preset]["settings"].values():
            for key, value in settings.items():
                try:
                    depends.add(convert({**settings, key: other(value)}) != convert(dict(settings)))
                except Exception:
                    depends.add(True)  # the conversion refuses what we cannot express
        assert True in depends, f"{preset}: nothing depends on its settings"


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 + 1
    return [*value, 3] if isinstance(value, list) else f"{value}x"


@pytest.mark.parametrize("name", MODULES)
def test_tables_have_keys_that_are_looked_up(name: str) -> None:
    for preset in MODULES[name].PRESETS:
        assert set(table(name, preset)) <= {*KINDS, *suites.TASKS}, preset


@pytest.mark.parametrize("name", MODULES)
def test_every_hyperparameter_has_a_meaning(name: str) -> None:
    system = next(key for key, system in SYSTEMS.items() if system.algorithm == name)
    known = meanings(system)
    assert [field.name for field in fields(MODULES[name].Config) if not known.get(field.name)] == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_defaults(system: str) -> None:
    """Each suite that the system can learn has a default, with settings for each of its tasks; no others."""
    module = SYSTEMS[system].module()
    tasks = {spec.id: spec.suite for spec in learnable(system) if spec.suite in suites.SUITES}
    assert set(getattr(module, "DEFAULTS", {})) == set(tasks.values())
    for task, suite in tasks.items():
        assert isinstance(preset_config(system, module.DEFAULTS[suite], task), module.Config)


@pytest.mark.parametrize("name", MODULES)
def test_each_preset_is_for_some_task(name: str) -> None:
    """Of a table, every key is the one that some task gets."""
    system = next(key for key, system in SYSTEMS.items() if system.algorithm == name)
    for preset in MODULES[name].PRESETS:
        got = []
        for spec in learnable(system):
            try:
                got.append(preset_config(system, preset, spec.id))
            except InputError:
                continue
        unused = [key for key, config in table(name, preset).items() if config not in got]
        assert unused == [], f"{preset}: no task gets these"
