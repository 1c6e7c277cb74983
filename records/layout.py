"""The names of all files and folders in a folder of run records.

    ledger/                                        what was planned and started (`ledger.py`)
    <suite>/<task>/crossplay.csv                   the latest table of `ascent crossplay` on the task
    <suite>/<task>/<system>-<preset>-<digest>/     a cell
        cell.json                 the cell, once for all of its seeds
        sources-<digest>.zip      the sources that trained it
        sealed-<digest>.zip       finished runs that have no folder any more (`seal.py`)
        robustness/               tables written by `ascent robustness`
        logs/                     output of the training processes
        seed-<k>/                 a run
            run.json              provenance: attempts, versions, platform
            eval.csv              step,policy,episode,return,length,unstable[,agents][,measures]
            train.csv             step,env,return,length,unstable[,agents][,measures]
            metrics.csv           step and the means of the update's metrics since the previous evaluation
            ladder.csv            step,event,digest of the learner's whole state
            measures.csv          step,measure,value: see below
            train-last.csv, train-bins.csv        in place of train.csv in a compact record (`compact.py`)
            policy.npz            the final policy
            policy-<step>.npz     earlier policies (`--keep-policies`)
            result.json           status and digests of the result files; written last
            progress.json, owner-<n>.json, free-<n>.json, checkpoint-<step>.bin, replay-<first>-<last>.bin
                                  present only until the run is finished; with `--keep-checkpoint`, a
                                  checkpoint at the end of the budget stays, for `ascent train --extend`

`unstable` counts the steps of an episode in which the simulator met a bad state and reset itself. A
multi-agent task has a column for the return of each agent, under the agent's name, and one for each of its
own measures.

measures.csv has a row per evaluation and measure. The measures value_estimate, value_return, value_bias and
value_rmse compare the critic's estimates with the discounted returns that followed, in units of the task's
rewards, over `value_states` states that the exploring policy visited and whose returns are known.
`gradient_variance` is the trace of the covariance of the policy gradient of a window, estimated from
`gradient_windows` windows, and `gradient_square` the squared norm of its expectation. A count of 0 says that
there is nothing to measure, or that nobody asked. Which costly measures were asked for is in run.json: they
are no part of the cell. Records of versions before 0.3 have no such table.
"""

import re
from pathlib import Path

CELL = "cell.json"
RUN = "run.json"
RESULT = "result.json"
PROGRESS = "progress.json"
EVAL = "eval.csv"
TRAIN = "train.csv"
METRICS = "metrics.csv"
LADDER = "ladder.csv"
MEASURES = "measures.csv"
POLICY = "policy.npz"
TRAIN_LAST = "train-last.csv"
TRAIN_BINS = "train-bins.csv"
EARLY_SEAL = "sealed.zip"  # copies of files, which versions before 0.3 kept; nothing reads it
LOGS = "logs"
ROBUSTNESS = "robustness"
CROSSPLAY = "crossplay.csv"
LEDGER = "ledger"

TABLES = (EVAL, TRAIN, METRICS, LADDER, MEASURES)
RESULT_FILES = (*TABLES, POLICY)  # the result bytes: no times and no machine in them
OPTIONAL = (MEASURES,)  # those that records of earlier versions lack
COMPACT = (TRAIN_LAST, TRAIN_BINS)  # in place of TRAIN

SEED_FOLDER = re.compile(r"seed-(0|[1-9]\d{0,9})")
KEPT_POLICY = re.compile(r"policy-(\d+)\.npz")
FILE_OF_RUN = re.compile(  # of a finished run
    "|".join(map(re.escape, (RUN, RESULT, *RESULT_FILES, *COMPACT))) + f"|{KEPT_POLICY.pattern}"
)
CELLS = f"*/*/*/{CELL}"  # pattern of the cell descriptions below a folder of records


def seed_folder(seed: int) -> str:
    """Return the name of a run's folder."""
    return f"seed-{seed}"


def seed_of(folder: Path) -> int | None:
    """Return the seed that a run's folder is named after; None for any other name."""
    match = SEED_FOLDER.fullmatch(folder.name)
    return int(match[1]) if match else None


def cell_folder(system: str, preset: str, digest: str) -> str:
    """Return the name of a cell's folder."""
    return f"{system}-{preset}-{digest}"


def digest_of(folder: Path) -> str:
    """Return the cell digest that a cell's folder ends in."""
    return folder.name.rpartition("-")[2]


def sources(digest: str) -> str:
    """Return the name of the archive of recorded sources."""
    return f"sources-{digest}.zip"


def plan(digest: str) -> str:
    """Return the name of a plan in the ledger."""
    return f"plan-{digest}.json"


def sweep(digest: str, name: str) -> str:
    """Return the name of the file of the ledger that says which sweep a plan is."""
    return f"sweep-{digest}-{name}.json"


def started(time: str, token: str) -> str:
    """Return the name of a file of the ledger about started runs."""
    return f"started-{time}-{token}.json"


def seal(digest: str) -> str:
    """Return the name of an archive of finished runs."""
    return f"sealed-{digest}.zip"


def checkpoint(step: int) -> str:
    """Return the name of the checkpoint at a step."""
    return f"checkpoint-{step}.bin"


def replay(first: int, last: int) -> str:
    """Return the name of the file with the replay transitions `first` to `last` - 1."""
    return f"replay-{first}-{last}.bin"


def kept_policy(step: int) -> str:
    """Return the name of a policy that was kept at a step before the end."""
    return f"policy-{step}.npz"


def numbers(folder: Path, kind: str, count: int) -> list[tuple[int, ...]]:
    """Return the `count` numbers in the names of a folder's files, such as checkpoint-<step>.bin
    ("checkpoint", 1) and replay-<first>-<last>.bin ("replay", 2).
    """
    pattern = kind + count * r"-(\d+)" + r"\.bin"
    matches = (re.fullmatch(pattern, path.name) for path in folder.glob("*.bin"))
    return [tuple(map(int, match.groups())) for match in matches if match]


def last_checkpoint(folder: Path, budget: int) -> list[str]:
    """Return the names of the files of a checkpoint at the end of the budget (`--keep-checkpoint`)."""
    if not (ends := [step for (step,) in numbers(folder, "checkpoint", 1) if step >= budget]):
        return []
    return [checkpoint(max(ends)), *(path.name for path in folder.glob("replay-*.bin"))]


def unfinished_files(folder: Path) -> list[str]:
    """Return the names of the files in a run's folder that only an unfinished run needs."""
    patterns = ("checkpoint-*.bin", "replay-*.bin", PROGRESS)
    return [path.name for pattern in patterns for path in folder.glob(pattern)]
