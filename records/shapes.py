"""The shapes of a record's JSON files, for records that a stranger may have made.

Each class lists what other modules read of one file, with types and limits. Further entries may be there:
earlier versions wrote fewer, later ones may write more.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ascent.records import layout, names
from ascent.records.errors import DamagedFile

MOST = 1 << 53  # of a count: what a float64 holds exactly
MOST_TEXT = 1_000  # characters
MOST_ITEMS = 10_000  # of a list
MOST_EVALUATIONS = 1_000_000  # of a run, and episodes of one

Name = Annotated[str, Field(pattern=r"\A[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\z")]  # of a file or folder
SystemName = Annotated[str, Field(pattern=rf"\A{names.PATTERN}\z", max_length=names.MOST)]
Hex = Annotated[str, Field(pattern=r"\A[0-9a-f]{1,64}\z")]  # a digest that is part of a file's name
Sha256 = Annotated[str, Field(pattern=r"\A[0-9a-f]{64}\z")]
Text = Annotated[str, Field(max_length=MOST_TEXT)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Number = Annotated[float, Field(strict=True)]  # a whole number, too; NaN and infinity, too
Seeds = Annotated[list[Count], Field(max_length=1_000_000)]
Names = Annotated[list[Name], Field(max_length=MOST_ITEMS)]
Word = Annotated[str, Field(max_length=100)]
Scalar = bool | Annotated[int, Field(ge=-MOST, le=MOST)] | Number | Word | None
Value = Scalar | Annotated[list[Scalar], Field(max_length=100)]  # of a hyperparameter
Digests = dict[Text, Text]


class Shape(BaseModel):
    """What the shapes have in common: no conversions, and room for other entries."""

    model_config = ConfigDict(strict=True, extra="ignore")


class ClosedShape(Shape):
    """A shape without room for other entries: they would become arguments."""

    model_config = ConfigDict(strict=True, extra="forbid")


class EvaluationShape(Shape):
    """How a run was evaluated."""

    points: Annotated[int, Field(ge=1, le=MOST_EVALUATIONS)]
    episodes: Annotated[int, Field(ge=1, le=MOST_EVALUATIONS)]


class TeamShape(Shape):
    """The agents of a multi-agent task, and its measures: their names and what they are."""

    agents: Names
    measures: Annotated[list[Annotated[list[Text], Field(min_length=2, max_length=2)]], Field(max_length=100)]


class SpecShape(Shape):
    """What cell.json says of the task."""

    horizon: Count | None = None
    random_score: Number | None = None
    reference_score: Number | None = None
    reference_source: Text | None = None
    return_convention: Text | None = None
    packages: Names = []
    team: TeamShape | None = None


class EnvironmentShape(ClosedShape):
    """How its user declares a task from outside this project."""

    id: Text
    kwargs: dict[Text, Value] = {}
    wrappers: Annotated[list[Text], Field(max_length=100)] = []
    name: Text = ""
    random_score: Number | None = None
    reference_score: Number | None = None
    reference_source: Text = ""
    loose: bool = False


class TunedShape(ClosedShape):
    """The tuning that hyperparameters came of."""

    tuning: Hex
    trial: Count
    trials: Count
    core_hours: Annotated[float, Field(ge=0, le=MOST, allow_inf_nan=False)]
    tasks: Names


class PresetShape(ClosedShape):
    """A preset that `ascent tune` wrote."""

    system: Name
    preset: Name | None = None
    set: dict[Text, Value]
    tuned: TunedShape


class NamedCellShape(Shape):
    """A cell, in whichever file."""

    system: Name
    preset: Name
    suite: Name
    task: Name
    algorithm: Name
    digest: Name
    steps: Count
    evaluation: EvaluationShape
    config: dict[Text, Any]
    versions: dict[Name, Count]
    settings: dict[Text, Value] | None = None
    changed: dict[Text, Value] | None = None
    measures: Names = []
    environment: EnvironmentShape | None = None
    algorithm_sha256: Sha256 | Literal[""] = ""
    tuned: TunedShape | None = None


class CellShape(NamedCellShape):
    """cell.json."""

    spec: SpecShape
    guarantees: dict[Name, Name] = {}


class PlatformShape(Shape):
    """Where a run was trained."""

    key: Text | None = None
    cpu: Text | None = None
    threads: Count | None = None
    flags: dict[Text, Text] = {}


class AttemptShape(Shape):
    """One process that trained a run."""

    started: Text | None = None
    ended: Text | None = None
    from_step: Count | None = None
    to_step: Count | None = None
    lost_steps: Count = 0
    lost_wall_s: Number = 0.0
    wall_s: Number | None = None
    cpu_s: Number | None = None
    device: Text | None = None
    platform: Text | None = None
    pack: Seeds = []
    env_threads: Count | None = None
    container: Text | None = None
    source_digest: Hex | None = None
    commit: Text | None = None
    dirty: bool | None = None


class RunShape(Shape):
    """run.json."""

    format: Count | None = None
    seed: Count
    cell: Text | None = None
    attempts: Annotated[list[AttemptShape], Field(max_length=MOST_ITEMS)] = []
    commit: Text | None = None
    dirty: bool | None = None
    source_digest: Hex | None = None
    lock_digest: Text | None = None
    plan: Hex | Literal[""] | None = None
    restarts: Count = 0
    lost_steps: Number = 0
    lost_wall_s: Number = 0
    packages: dict[Name, Text] | None = None
    platform: PlatformShape | None = None
    mixed_platforms: Annotated[list[Text], Field(max_length=100)] | None = None
    measures: Names = []
    tuned: TunedShape | None = None


class UnstableShape(Shape):
    """Steps in which the simulator reset a bad state."""

    train: Count = 0
    eval: Count = 0


class ResultShape(Shape):
    """result.json."""

    status: Name
    steps: Count
    score: Number | None = None
    digest: Text | None = None
    digests: Digests = {}
    compact: Digests = {}
    unstable_steps: UnstableShape | None = None


class StartShape(Shape):
    """Runs that one process started."""

    cell: Text
    seeds: Seeds
    plan: Hex | Literal[""]


class StartsShape(Shape):
    """A file of the ledger about started runs."""

    runs: Annotated[list[StartShape], Field(max_length=MOST_ITEMS)]


class DeclaredShape(ClosedShape):
    """The `[report]` table of a sweep."""

    estimator: Name = ""
    score: Text | dict[Text, Text] = ""
    baseline: Text = ""
    threshold: Number = 0.5


class ExpectedShape(ClosedShape):
    """The name of a cell, and its seeds."""

    suite: Name
    task: Name
    system: Name
    preset: Name
    digest: Name
    seeds: Seeds
    shelf: Name | Literal[""] = ""
    name: SystemName | Literal[""] = ""
    grid: SystemName | Literal[""] = ""


class BuiltShape(Shape):
    """What a report was built from."""

    title: Text
    settings: DeclaredShape
    expected: Annotated[list[ExpectedShape], Field(max_length=MOST_ITEMS)]
    left_out: dict[Text, Seeds] = {}
    started: dict[Text, Seeds] | None = None
    grades: dict[Text, Text] | None = None
    family: Count | None = None
    made_with: dict[Text, Text | None] | None = None


class ReportedCellShape(Shape):
    """A cell, in a report's provenance.json."""

    folder: Text | None = None
    robustness: dict[Text, Text] | None = None


class ReportedRunShape(Shape):
    """A run, in a report's provenance.json."""

    folder: Text
    state: Text | None = None
    note: Text | None = None
    result_digest: Text | None = None


class ReportShape(Shape):
    """provenance.json of a report."""

    report: BuiltShape
    cells: list[ReportedCellShape] = []
    crossplay: Digests = {}
    runs: list[ReportedRunShape] = []


class PlannedShape(NamedCellShape):
    """A cell in a manifest."""

    seeds: Seeds
    replay_bytes_per_seed: Count
    name: SystemName | Literal[""] = ""
    grid: SystemName | Literal[""] = ""
    algorithm_file: Text | None = None


class ManifestShape(Shape):
    """A manifest, as `ascent plan` writes it."""

    format: Count
    origin: Text
    sweep: Text
    title: Text
    made: Text
    cells: Annotated[list[PlannedShape], Field(max_length=1_000_000)]
    report: DeclaredShape | None = None
    tables: dict[Text, Any] = {}


PROVENANCE, MANIFEST, STARTS = "provenance.json", "a manifest", "started runs"
PRESET = "a preset of `ascent tune`"
SHAPES: dict[str, type[Shape]] = {
    layout.CELL: CellShape, layout.RUN: RunShape, layout.RESULT: ResultShape,
    PROVENANCE: ReportShape, MANIFEST: ManifestShape, STARTS: StartsShape, PRESET: PresetShape,
}  # fmt: skip


def check(name: str, content: object, place: object = None) -> None:
    """Raise DamagedFile unless the content of a JSON file has the shape that its name asks for.

    Args:
        name: of the file. A name without a shape is not checked.
        content: what `json.loads` returned.
        place: how the message names the file (default: `name`).
    """
    if name not in SHAPES:
        return
    try:
        SHAPES[name].model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        entry = ".".join(map(str, first["loc"]))[:100] or "the whole"
        fault = "is not an object" if first["type"] == "model_type" else first["msg"].lower()
        raise DamagedFile(f"{place or name} is damaged: {entry}: {fault}") from error
