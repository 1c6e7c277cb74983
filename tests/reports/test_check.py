"""`ascent check`: whatever is dropped, doubled, swapped or edited in records, a named rule sees it.

The folder is really trained. Each mutation is made once by an honest accident, which leaves the digests
alone, and once by a forger, who makes all digests fit, where a rule can still notice.
"""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ascent import suites
from ascent.records import files, layout
from ascent.records.ledger import declare
from ascent.records.plan import Plan, Planned
from ascent.reports.checking import check
from ascent.reports.imports import importing
from ascent.runners.train import train
from tests.command import call
from tests.reports import trained
from tests.reports.trained import (
    SEEDS,
    as_seed,
    clean_commit,
    copy_run,
    edit,
    forge,
    rename_cell,
    rows,
)
from tests.small import kind_of, others_slow, small_cell, systems_and_tasks

Mutation = Callable[[Path], object]  # of the folder of the cell a2c on CartPole


def cell_of(runs: Path, system: str = "a2c") -> Path:
    (found,) = runs.glob(f"*/*/{system}-*")
    return found


def broken(target: Path, declared: list[Planned] | None = None) -> set[str]:
    """The rules that are not kept."""
    return {outcome.rule for outcome in check.check(target, declared).outcomes if not outcome.passed}


def declared() -> list[Planned]:
    return [Planned(cell, SEEDS) for cell in trained.cells()]


def test_a_trained_folder_keeps_every_rule(whole: Path) -> None:
    outcomes = check.check(whole, declared()).outcomes
    assert not [(o.rule, o.findings) for o in outcomes if o.findings]
    assert len({o.rule for o in outcomes}) == len(outcomes) >= 15 and all(o.description for o in outcomes)


# ---- accidents: digests are left alone


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    """Another digit near the end, as a bad disk would have it: the file may still parse."""
    data = bytearray(path.read_bytes())
    digits = [k for k, byte in enumerate(data[:-3]) if chr(byte).isdecimal()]
    data[len(data) // 2 if path.suffix == ".npz" else digits[-1]] ^= 1
    path.write_bytes(data)


def drop_first(path: Path) -> None:
    rows(path, lambda lines: lines.pop(0))


def drop_last(path: Path) -> None:
    rows(path, lambda lines: lines.pop())


def double_first(path: Path) -> None:
    rows(path, lambda lines: lines.insert(0, lines[0]))


def swap_first(path: Path) -> None:
    rows(path, lambda lines: lines.insert(0, lines.pop(1)))


ON_TABLES = {"drop a row": drop_first, "double a row": double_first, "swap rows": swap_first}
FILES = {"cut": cut, "flip": flip, "delete": Path.unlink}
ACCIDENTS: dict[str, tuple[str, Mutation]] = {}
for _file in layout.RESULT_FILES:
    for _word, _act in (FILES | (ON_TABLES if _file in layout.TABLES else {})).items():
        _rule = "all-finished" if _word == "delete" else "result-digests"
        ACCIDENTS[f"{_word}: {_file}"] = (_rule, lambda cell, act=_act, f=_file: act(cell / "seed-1" / f))


def run_json(key: str, value: object, seed: int = 1) -> Mutation:
    return lambda cell: edit(cell / f"seed-{seed}" / "run.json", lambda about: about.update({key: value}))


def platform(key: str) -> Mutation:
    return run_json("platform", {"key": key, "cpu": "x", "threads": 1, "flags": {}})


def attempt(key: str, value: object) -> Mutation:
    def change(about: dict) -> None:
        about["attempts"][-1][key] = value

    return lambda cell: edit(cell / "seed-1/run.json", change)


def cell_json(key: str, value: object, inside: str = "") -> Mutation:
    def change(facts: dict) -> None:
        (facts[inside] if inside else facts)[key] = value

    return lambda cell: edit(cell / "cell.json", change)


def sources(act: Callable[[Path], object]) -> Mutation:
    return lambda cell: act(next(cell.glob("sources-*.zip")))


ACCIDENTS |= {
    "delete: run.json": ("all-finished", lambda cell: (cell / "seed-1/run.json").unlink()),
    "cut: run.json": ("run-records", lambda cell: cut(cell / "seed-1/run.json")),
    "delete: result.json": ("all-finished", lambda cell: (cell / "seed-1/result.json").unlink()),
    "cut: result.json": ("all-finished", lambda cell: cut(cell / "seed-1/result.json")),
    "flip: result.json": ("result-digests", lambda cell: flip(cell / "seed-1/result.json")),
    "delete: cell.json": ("folder-names", lambda cell: (cell / "cell.json").unlink()),
    "cut: cell.json": ("folder-names", lambda cell: cut(cell / "cell.json")),
    "delete: sources": ("recorded-sources", sources(Path.unlink)),
    "cut: sources": ("recorded-sources", sources(cut)),
    "seeds swapped": ("folder-names", trained.swap_seeds),
    "folder renamed": ("folder-names", lambda cell: cell.rename(cell.with_name("a2c-classic-0123456789"))),
    "folder of another task": (
        "folder-names",
        lambda cell: shutil.move(cell, cell.parents[1] / "Pendulum-v1" / cell.name),
    ),
    "something else in the folder": ("folder-names", lambda cell: (cell / "seed-01").mkdir()),
    "no run left": ("all-finished", lambda cell: [shutil.rmtree(path) for path in cell.glob("seed-*")]),
    "empty seed folder": ("all-finished", lambda cell: (cell / "seed-3").mkdir()),
    "unfinished": ("all-finished", lambda cell: (cell / "seed-1/result.json").unlink()),
    "seed in run.json": ("folder-names", run_json("seed", 4)),
    "cell in run.json": ("run-records", run_json("cell", "0123456789")),
    "no attempts": ("run-records", run_json("attempts", [])),
    "restarts": ("run-records", run_json("restarts", 2)),
    "attempt of other seeds": ("run-records", attempt("pack", [8, 9])),
    "attempt that ends early": ("run-records", attempt("to_step", 200)),
    "attempt that starts late": ("run-records", attempt("from_step", 200)),
    "other packages": ("one-version", run_json("packages", {"python": "3.11.7", "torch": "2.12.0"})),
    "other sources": ("one-version", run_json("source_digest", "0123456789ab")),
    "no packages": ("one-version", lambda cell: [run_json("packages", None, seed)(cell) for seed in SEEDS]),
    "torch of another platform": ("platform-claims", platform("torch-0.1/x86_64/x/AVX2")),
    "a processor that no attempt had": ("platform-claims", attempt("platform", "torch-0.1/x/y/z")),
    "dirty tree": ("clean-tree", run_json("dirty", True)),
    "unknown commit": ("clean-tree", run_json("commit", None)),
    "hyperparameter": ("cell-digest", cell_json("gamma", 0.5, "config")),
    "budget": ("cell-digest", cell_json("steps", 300)),
    "evaluations": ("cell-digest", cell_json("points", 5, "evaluation")),
    "version": ("cell-digest", cell_json("algorithm", 99, "versions")),
    "algorithm": ("cell-digest", cell_json("algorithm", "ppo")),
    "system": ("folder-names", cell_json("system", "ppo")),
    "task": ("folder-names", cell_json("task", "Acrobot-v1")),
    "digest": ("cell-digest", cell_json("digest", "0123456789")),
    "random score": ("task-facts", cell_json("random_score", 400.0, "spec")),
    "reference score": ("task-facts", cell_json("reference_score", 30.0, "spec")),
    "horizon": ("task-facts", cell_json("horizon", 5, "spec")),
    "config of no sense": ("folder-names", cell_json("envs", "many", "config")),
    "more evaluations than memory": ("folder-names", cell_json("points", 10**12, "evaluation")),
    "more environments than memory": ("folder-names", cell_json("envs", 10**12, "config")),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCIDENTS)
def test_accident_is_caught(name: str, runs: Path) -> None:
    rule, mutate = ACCIDENTS[name]
    mutate(cell_of(runs))
    assert rule in broken(runs)


# ---- forgeries: every digest is made to fit


def table(file: str, act: Callable[[Path], object]) -> Mutation:
    return lambda cell: act(cell / "seed-1" / file)


def field(file: str, row: int, column: int, value: str) -> Mutation:
    """Write another value into a table."""

    def change(lines: list[str]) -> None:
        words = lines[row].split(",")
        words[column] = value
        lines[row] = ",".join(words)

    return lambda cell: rows(cell / "seed-1" / file, change)


def result(key: str, value: object) -> Mutation:
    return lambda cell: edit(cell / "seed-1/result.json", lambda content: content.update({key: value}))


def nan_policy(cell: Path) -> None:
    path = cell / "seed-1/policy.npz"
    with np.load(io.BytesIO(path.read_bytes())) as arrays:
        values = {name: array.copy() for name, array in arrays.items()}
    next(array for name, array in values.items() if name.startswith("params/")).flat[0] = np.nan
    np.savez(path, **values)


def copy_some(cell: Path) -> None:
    """A copied run whose tables of numbers were edited, so that only the learner gives it away."""
    copy = copy_run(cell / "seed-0", 3)
    shutil.copy(cell / "seed-1/metrics.csv", copy / "metrics.csv")
    rows(copy / "ladder.csv", lambda lines: lines.__setitem__(-1, lines[-1][:-1] + "0"))


FORGERIES: dict[str, tuple[str, Mutation]] = {
    "evaluation dropped": ("evaluation-protocol", table("eval.csv", drop_first)),
    "evaluation doubled": ("evaluation-protocol", table("eval.csv", double_first)),
    "evaluations swapped": ("evaluation-protocol", table("eval.csv", swap_first)),
    "last evaluation dropped": ("evaluation-protocol", table("eval.csv", drop_last)),
    "evaluation at another step": ("evaluation-protocol", field("eval.csv", 3, 0, "101")),
    "sampled called greedy": ("evaluation-protocol", field("eval.csv", -1, 1, "greedy")),
    "evaluation of no length": ("evaluation-protocol", field("eval.csv", 2, 4, "0")),
    "evaluation cut": ("whole-tables", table("eval.csv", cut)),
    "no last line end": ("whole-tables", table("eval.csv", lambda p: p.write_text(p.read_text()[:-1]))),
    "no number": ("whole-tables", field("eval.csv", 2, 2, "one")),
    "a field more": ("whole-tables", field("eval.csv", 2, 5, "0,0")),
    "other columns": ("whole-tables", table("train.csv", lambda p: p.write_text("step,return\n1,1.0\n"))),
    "infinite evaluation": ("finite-numbers", field("eval.csv", 2, 3, "inf")),
    "NaN evaluation": ("finite-numbers", field("eval.csv", -1, 3, "nan")),
    "NaN in training": ("finite-numbers", field("train.csv", 1, 2, "nan")),
    "NaN metric": ("finite-numbers", field("metrics.csv", 1, 1, "nan")),
    "NaN policy": ("finite-numbers", nan_policy),
    "policy cut": ("finite-numbers", table("policy.npz", cut)),
    "better last evaluation": ("results-agree", field("eval.csv", -3, 3, "500.0")),
    "better score": ("results-agree", result("score", 500.0)),
    "fewer unstable steps": ("results-agree", field("eval.csv", 0, 5, "3")),
    "unstable training": ("results-agree", field("train.csv", 0, 4, "3")),
    "other steps": ("results-agree", result("steps", 300)),
    "called diverged": ("finite-numbers", result("status", "diverged")),
    "other status": ("all-finished", result("status", "stopped")),
    "episode dropped": ("training-episodes", table("train.csv", drop_first)),
    "episode doubled": ("training-episodes", table("train.csv", double_first)),
    "episodes swapped": ("training-episodes", table("train.csv", swap_first)),
    "episode longer": ("training-episodes", field("train.csv", 2, 3, "99")),
    "episode elsewhere": ("training-episodes", field("train.csv", 2, 1, "7")),
    "metric dropped": ("digest-ladder", table("metrics.csv", drop_first)),
    "metric doubled": ("digest-ladder", table("metrics.csv", double_first)),
    "metrics swapped": ("digest-ladder", table("metrics.csv", swap_first)),
    "measures dropped": ("measures", table("measures.csv", drop_first)),
    "measures doubled": ("whole-tables", table("measures.csv", double_first)),
    "no states": ("measures", field("measures.csv", 0, 2, "0")),
    "value missing": ("measures", lambda cell: rows(cell / "seed-1/measures.csv", lambda r: r.pop(1))),
    "other bias": ("measures", field("measures.csv", 3, 2, "0.5")),
    "error below the bias": ("measures", field("measures.csv", 4, 2, "0.0")),
    "gradients that nobody asked for": ("measures", field("measures.csv", 5, 2, "10.0")),
    "ladder dropped": ("digest-ladder", table("ladder.csv", drop_first)),
    "ladder doubled": ("digest-ladder", table("ladder.csv", double_first)),
    "ladder swapped": ("digest-ladder", table("ladder.csv", swap_first)),
    "ladder without its end": ("digest-ladder", table("ladder.csv", drop_last)),
    "other digest at the start": ("digest-ladder", field("ladder.csv", 0, 2, "0123456789abcdef")),
    "no digest": ("digest-ladder", field("ladder.csv", -1, 2, "0123456789abcdeg")),
    "nothing was learned": ("digest-ladder", lambda c: rows(
        c / "seed-1/ladder.csv", lambda r: r.__setitem__(-1, r[-1][:-16] + r[-2][-16:]))),
    "run copied": ("unique-seeds", lambda cell: copy_run(cell / "seed-0", 3)),
    "run copied and edited": ("unique-seeds", copy_some),
    "learner of another seed": (
        "unique-seeds", lambda c: shutil.copy(c / "seed-0/policy.npz", c / "seed-1/policy.npz")),
    "budget, everywhere": (
        "evaluation-protocol", lambda c: rename_cell(c, lambda facts: facts.update(steps=200))),
    "evaluations, everywhere": (
        "evaluation-protocol", lambda c: rename_cell(c, lambda facts: facts["evaluation"].update(points=2))),
    "episodes, everywhere": (
        "evaluation-protocol", lambda c: rename_cell(c, lambda f: f["evaluation"].update(episodes=1))),
    "environments, everywhere": (
        "training-episodes", lambda c: rename_cell(c, lambda facts: facts["config"].update(envs=1))),
    "version, everywhere": (
        "recorded-sources", lambda c: rename_cell(c, lambda facts: facts["versions"].update(algorithm=99))),
    "algorithm, everywhere": (
        "recorded-sources", lambda c: rename_cell(c, lambda facts: facts.update(algorithm="ppo"))),
    "one name for two configurations": ("one-configuration", lambda c: rename_cell(
        shutil.copytree(c, c.with_name("spare")), lambda facts: facts["config"].update(gamma=0.5))),
}  # fmt: skip


@pytest.mark.parametrize("name", FORGERIES)
def test_forgery_is_caught(name: str, runs: Path) -> None:
    rule, mutate = FORGERIES[name]
    mutate(cell_of(runs))
    for cell in runs.glob("*/*/*"):
        forge(cell)
    found = broken(runs)
    assert rule in found
    assert not found & {"result-digests"}, "the forger has left a trace, so this shows nothing"


def test_swapped_seeds_pass_where_run_json_fits(runs: Path) -> None:
    """Only playing or training again tells: see test_verify."""
    cell = cell_of(runs)
    trained.swap_seeds(cell)
    assert broken(runs) == {"folder-names"}
    for seed in (0, 1):
        trained.pretend_seed(cell / f"seed-{seed}", seed)
    assert broken(runs) == set()


def test_planned_is_present(runs: Path) -> None:
    """With a sweep, exactly its cells and seeds."""
    assert "as-declared" not in broken(runs, declared())
    assert "as-declared" in broken(runs, declared()[:1]), "a cell too many"
    assert "as-declared" in broken(runs, [Planned(plan.cell, (*SEEDS, 3)) for plan in declared()])
    assert "as-declared" in broken(runs, [Planned(plan.cell, SEEDS[:2]) for plan in declared()])
    shutil.rmtree(cell_of(runs))
    assert "as-declared" in broken(runs, declared()), "a cell too few"
    assert broken(runs) == set(), "nothing says what there should be"


def stop(run: Path) -> None:
    """Leave of a run what one has that was stopped early."""
    for name in ("result.json", "policy.npz"):
        (run / name).unlink()


def test_what_is_wrong_with_another_sweep_is_not_this_one_s(runs: Path) -> None:
    """A cell of its own, and further seeds of a shared one: stopped, failed or damaged."""
    mine = [Planned(declared()[0].cell, SEEDS[:2])]
    whole, shared = (plan.cell.folder(runs) for plan in reversed(declared()))
    stop(shared / "seed-2")
    assert broken(runs, mine) >= {"all-finished", "as-declared"}, "no plan has them"
    declare(Plan((Planned(declared()[0].cell, SEEDS), declared()[1])), runs)
    for seed in SEEDS:
        stop(whole / f"seed-{seed}")
    (whole / "cell.json").write_text("{")
    edit(shared / "seed-2" / "run.json", lambda about: about.update(source_digest="0" * 12))
    outcomes = check.check(runs, mine).outcomes
    notes = [finding for outcome in outcomes for finding in outcome.findings]
    assert all(finding.note for finding in notes), notes
    lines = [f"{finding.where}: {finding.what}" for finding in notes]
    aside = [line for line in lines if "not checked" in line]
    assert aside == [
        f"{shared.relative_to(runs)}: of another sweep, not checked: seed 2",
        f"of other sweeps, not checked: 1 cell: {whole.relative_to(runs)}",
    ]
    assert "all-finished" in broken(runs), "the folder as a whole"
    (shared / "seed-1" / "result.json").unlink()
    assert broken(runs, mine) == {"all-finished"}, "its own runs are checked as before"


def test_a_report_of_a_sweep_grades_its_own_seeds(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Another sweep, with more seeds of the same cell, was stopped."""
    sweep = tmp_path / "mine.toml"
    cell = declared()[0].cell
    values = "".join(f"{name} = {value}\n" for name, value in (cell.settings or {}).items())
    sweep.write_text(
        f'seeds = "0-1"\nevaluations = 4\nepisodes = 2\n[[cells]]\nalgorithms = ["a2c"]\n'
        f'tasks = ["CartPole-v1"]\nsteps = 400\n[cells.set]\n{values}'
    )
    declare(Plan((Planned(cell, SEEDS), declared()[1])), runs)
    stop(cell.folder(runs) / "seed-2")
    code, out, err = call(capsys, "report", str(sweep), "--runs", str(runs), "--out", str(tmp_path / "page"))
    assert code == 0, err
    assert "check: 1 cell recorded" in err and "FAIL" not in err
    code, out, _ = call(capsys, "check", str(runs), "--sweep", str(sweep))
    assert code == 0 and "of another sweep, not checked: seed 2" in out, out


def test_two_configurations_that_a_sweep_declares_are_a_note(runs: Path) -> None:
    twin = small_cell("a2c", "CartPole-v1", steps=400, points=4, gamma=0.5)
    trained.record(twin, runs)
    assert broken(runs) == {"one-configuration"}
    outcomes = check.check(runs, [*declared(), Planned(twin, SEEDS)]).outcomes
    notes = [(outcome.rule, finding.note) for outcome in outcomes for finding in outcome.findings]
    assert notes == [("one-configuration", True)]
    declare(Plan((*declared(), Planned(twin, SEEDS))), runs)  # or a plan in the ledger
    assert broken(runs) == set()


def test_two_budgets_of_one_configuration_are_a_note(runs: Path) -> None:
    """As `train --extend` leaves them. Other settings or intervals at another budget are still found."""
    longer = small_cell("a2c", "CartPole-v1", steps=800, points=8)
    trained.record(longer, runs)
    outcomes = check.check(runs).outcomes
    (note,) = [finding for outcome in outcomes for finding in outcome.findings]
    assert note.note and note.what.startswith("2 budgets of one configuration share this name: ")
    assert longer.digest in note.what and broken(runs) == set()
    for other in (
        small_cell("a2c", "CartPole-v1", steps=1200, points=12, gamma=0.5),
        small_cell("a2c", "CartPole-v1", steps=1200, points=8),
    ):
        trained.record(other, runs)
        assert broken(runs) == {"one-configuration"}, other
        shutil.rmtree(other.folder(runs))


def test_tuning_seeds_are_a_note(runs: Path) -> None:
    """Beside reporting seeds, since reports leave them out; a sweep need not name them. Alone, too."""
    for seed, words in (
        (2, "reports leave them out"),
        (1, "reports leave them out"),
        (0, "do not report them"),
    ):
        as_seed(cell_of(runs) / f"seed-{seed}", 1000 + seed)
        outcomes = check.check(
            cell_of(runs), [Planned(declared()[0].cell, tuple(range(seed)))] if seed else None
        ).outcomes
        found = [(outcome.rule, finding) for outcome in outcomes for finding in outcome.findings]
        mates = {"pack-mates"} if seed else set()  # of those that kept their numbers
        assert {rule for rule, _ in found} == {"tuning-seeds", "started-seeds"} | mates, found
        assert all(finding.note for _, finding in found)
        assert dict(found)["tuning-seeds"].what.endswith(words)


@pytest.mark.parametrize("value", [None, "text", -1, [], {}, float("nan")])
def test_records_of_any_type_are_findings(value: object, runs: Path) -> None:
    """A hostile record is refused by some rule, and none of them falls over it."""
    cell = cell_of(runs)
    keys = {
        "run.json": ("attempts", "packages", "seed", "platform"),
        "result.json": ("digests", "steps", "score", "unstable_steps", "status"),
        "../cell.json": ("config", "evaluation", "versions", "spec", "steps", "task", "algorithm"),
    }
    for name, key in ((file, key) for file in keys for key in keys[file]):
        path = cell / "seed-1" / name
        kept = path.read_bytes()
        edit(path, lambda content, key=key: content.update({key: value}))
        assert broken(cell), (name, key)
        path.write_bytes(kept)
    assert broken(cell) == set()


CHECKED = ("CartPole-v1", "Pendulum-v1", "simple_adversary_v3")


@pytest.mark.parametrize("system,task", others_slow(systems_and_tasks(CHECKED), kind_of))
def test_no_false_alarm(system: str, task: str, tmp_path: Path) -> None:
    """Every system, with an odd number of environments and an interruption."""
    cell = small_cell(system, task, steps=290, points=7, envs=3, workers=3, normalise=True)
    calls = iter(range(10_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ascent.records.provenance.commit", clean_commit)
        assert not train(cell, [0, 1], tmp_path, checkpoint_seconds=0.0, stop=lambda: next(calls) == 40)
        assert train(cell, [0, 1], tmp_path)
    assert broken(cell.folder(tmp_path)) == set()


def test_a_window_without_episodes_is_noticed(tmp_path: Path) -> None:
    """Whole episodes: those that a reset drops may be missing, but not as many steps as the time limit."""
    cell = small_cell("reinforce", "CartPole-v1", envs=1)
    folder = trained.record(cell, tmp_path, [0])
    window = suites.TASKS[cell.task].horizon * cell.config["horizons"]

    def empty(lines: list[str]) -> None:
        lines[:] = [line for line in lines if not window < int(line.partition(",")[0]) <= 2 * window]

    rows(folder / "seed-0" / "train.csv", empty)
    forge(folder)
    assert "training-episodes" in broken(folder)


@pytest.mark.parametrize("column", [3, 6, 7])
def test_a_teams_return_is_that_of_its_scored_agents(column: int, tmp_path: Path) -> None:
    """Columns 3, 6, 7: the return, which is agent_0's and agent_1's; the adversary's; agent_0's."""
    cell = small_cell("maddpg", "simple_adversary_v3", steps=290, points=7)
    folder = trained.record(cell, tmp_path, [0, 1])

    def better(lines: list[str]) -> None:
        words = lines[2].split(",")
        words[column] = "12.5"
        lines[2] = ",".join(words)

    rows(folder / "seed-1" / "eval.csv", better)
    forge(folder)
    assert broken(folder) == ({"team-returns"} if column != 6 else set())


@pytest.mark.parametrize("system,task", [("ppo", "CartPole-v1"), ("sac", "Pendulum-v1")])
def test_diverged_runs_are_no_fault(system: str, task: str, tmp_path: Path) -> None:
    """But their evaluations are a prefix of the grid, and who forges the word is caught."""
    rates = {name: 1e30 for name in ("learning_rate", "actor_learning_rate", "critic_learning_rate")}
    folder = trained.record(small_cell(system, task, steps=290, points=7, **rates), tmp_path, [0, 1])
    assert statuses_of(folder) == ["diverged"] * 2
    assert broken(folder) == set()
    for name, act in (("eval.csv", drop_first), ("eval.csv", drop_last), ("ladder.csv", drop_last)):
        kept = (folder / "seed-1" / name).read_bytes()
        act(folder / "seed-1" / name)
        forge(folder)
        assert broken(folder) & {"evaluation-protocol", "digest-ladder"}
        (folder / "seed-1" / name).write_bytes(kept)
    edit(folder / "seed-1/result.json", lambda content: content.update(status="done"))
    forge(folder)
    assert {"finite-numbers", "evaluation-protocol"} <= broken(folder)


def statuses_of(cell: Path) -> list[str]:
    return [files.read_json(path)["status"] for path in sorted(cell.glob("seed-*/result.json"))]


def test_imported_curves(tmp_path: Path) -> None:
    """They have neither ladder nor sources; what they do have is held to its rules."""
    curves = tmp_path / "curves.csv"
    curves.write_text("seed,step,return\n0,0,1.5\n0,10,2.5\n1,0,1.0\n1,10,2.0\n2,0,1.0\n2,10,3.0\n")
    cell = importing.import_curves([curves], "Other", "CartPole-v1", tmp_path / "runs").folder
    assert broken(tmp_path / "runs") == set()
    flip(cell / "seed-1" / "eval.csv")
    assert broken(cell) == {"result-digests"}
    shutil.copy(cell / "seed-0" / "eval.csv", cell / "seed-1" / "eval.csv")
    forge(cell)
    assert broken(cell) == {"unique-seeds"}
    edit(cell / "cell.json", lambda facts: facts["config"].update(name="Another"))
    (cell / "seed-2" / "eval.csv").unlink()
    assert broken(cell) == {"unique-seeds", "cell-digest", "all-finished"}


def test_many_cells_are_checked_in_processes(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same findings in the same order; commits aside, as those processes read the project's own git."""
    flip(cell_of(runs) / "seed-1" / "eval.csv")

    def findings() -> list:
        outcomes = check.check(runs).outcomes
        return [(o.rule, o.findings) for o in outcomes if o.rule != "named-commit"]

    alone = findings()
    monkeypatch.setattr(check, "MANY", 1)
    assert findings() == alone and any(found for _, found in alone)


def test_one_run_is_checked_alone(runs: Path) -> None:
    cell = cell_of(runs)
    flip(cell / "seed-1" / "eval.csv")
    assert broken(cell / "seed-0") == set()
    assert "result-digests" in broken(cell / "seed-1")
    assert "result-digests" in broken(cell)


def test_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The table names rule, run and fault; 0, 1 and 2."""
    code, out, _ = call(capsys, "check", str(runs))
    assert code == 0 and "FAIL" not in out and "sealed-runs" in out
    for seed in SEEDS:
        flip(cell_of(runs) / f"seed-{seed}" / "eval.csv")
    code, out, _ = call(capsys, "check", str(runs))
    assert code == 1
    assert "result-digests       FAIL" in out
    assert "seed-1: eval.csv does not match its sha256 in result.json" in out
    (tmp_path / "empty").mkdir()
    code, _, err = call(capsys, "check", str(tmp_path / "empty"))
    assert code == 2 and "contains no run records" in err and err.count("\n") == 1
    code, _, err = call(capsys, "check", str(tmp_path / "nowhere"))
    assert code == 2 and "no such folder" in err
    code, _, err = call(capsys, "check", str(runs), "--sweep", "demmo")
    assert code == 2 and "did you mean 'demo'?" in err
    code, out, _ = call(capsys, "check", str(runs), "--sweep", "demo")
    assert code == 1 and "not declared: seeds 0, 1, 2" in out
