"""One run's folder, as the training process writes it: tables, checkpoints, and how the run ends."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from ascent.records import files, layout, provenance
from ascent.records.cell import Cell
from ascent.records.checkpoints import FORMAT, Checkpoint, Checkpoints, State, pack_arrays
from ascent.records.compact import compact
from ascent.records.errors import DamagedFile, InputError
from ascent.records.ownership import Ownership, acquire_all
from ascent.records.provenance import Provenance
from ascent.records.tables import tables_of


class Run:
    """The folder of one run. Call `open` before anything is written, `close` at the end.

    Every method that writes into the folder raises Superseded if another process has taken it over.
    """

    def __init__(
        self,
        cell: Cell,
        seed: int,
        runs: Path,
        origin: Provenance,
        capacity: int = 0,
        tell_seconds: float = 1.0,
        plan: str = "",
    ):
        self.cell = cell
        self.seed = seed
        self.runs = runs
        self.origin = origin
        self.plan = plan  # digest of the plan under which the run starts
        self.folder = cell.run_folder(seed, runs)
        self.owner = Ownership(self.folder, tell_seconds)
        self.tables = tables_of(self.folder, origin.columns)
        header = {"format": FORMAT, "cell": cell.digest, "seed": seed, "made_with": origin.made_with}
        self.checkpoints = Checkpoints(self.folder, self.owner, header, capacity)
        self.record: dict[str, Any] = {}

    # ---- opening and closing

    def is_finished(self) -> bool:
        """Return whether the run is done or has diverged: there is nothing left to train."""
        return self.cell.is_finished(self.seed, self.runs)

    def is_new(self) -> bool:
        """Return whether no attempt at the run has been recorded."""
        return not (self.folder / layout.RUN).exists()

    def open(self) -> None:
        """Take the run, or raise RunHeld. Clears what a killed attempt left behind."""
        open_all([self])

    def close(self) -> None:
        """Release the run."""
        for table in self.tables.values():
            table.close()
        if self.is_finished():
            self.owner.remove()
        else:
            self.owner.release()

    def begin(self, step: int, pack: list[int], threads: int = 1) -> None:
        """Record a new attempt that starts from `step`; `threads` step its environments."""
        path = self.folder / layout.RUN
        record: dict[str, Any] = {
            "format": FORMAT, "seed": self.seed, "cell": self.cell.digest, "attempts": [],
        }  # fmt: skip
        if path.exists():
            record = files.read_json(path)
            if record.get("format") != FORMAT:
                raise InputError(
                    f"{path} has record format {record.get('format')}; this version needs format {FORMAT}"
                )
            if record.get("measures", []) != list(self.cell.measures):
                raise InputError(f"{self.folder} was started with other measures: {_measures(record)}")
        else:
            record |= {"measures": list(self.cell.measures)} | ({"plan": self.plan} if self.plan else {})
        record |= {"tuned": self.cell.tuned} if self.cell.tuned else {}
        attempts = record["attempts"]
        if attempts and "ended" not in attempts[-1]:
            progress = self.last_progress()
            lost = max(0, progress.get("step", 0) - step)
            wall = lost / progress["steps_per_second"] if progress.get("steps_per_second") else 0.0
            attempts[-1] |= {"lost_steps": lost, "lost_wall_s": round(wall / len(attempts[-1]["pack"]), 3)}
        made_by = provenance.commit() | {"source_digest": provenance.source_digest(self.origin.sources)}
        attempt = {
            "started": _timestamp(),
            "from_step": step,
            "pack": pack,
            "device": self.origin.device,
            "platform": self.origin.platform["key"],
        }
        attempts.append(provenance.attempt_identity() | attempt | made_by | {"env_threads": threads})
        record |= made_by
        record["packages"] = self.origin.packages
        record["platform"] = self.origin.platform
        record["lock_digest"] = provenance.lock_digest()
        self.record = record
        self._write_cell()
        self._write_record()
        self.progress(step, 0.0, None)
        self.owner.tell()  # at once: else the progress of the previous attempt would count as lost twice

    def _write_record(self) -> None:
        files.write_json(self.folder / layout.RUN, self.record, check=self.owner.check)

    def _write_cell(self) -> None:
        path = self.folder.parent / layout.CELL
        if not path.exists():
            files.write_json(path, self.origin.facts)
        elif not same_cell(files.read_json(path), json.loads(json.dumps(self.origin.facts))):
            raise InputError(f"{path} describes another cell than this version of the project: move it away")
        path = self.folder.parent / layout.sources(self.record["source_digest"])
        if not path.exists():
            files.write(path, files.zip_files(self.origin.sources))

    # ---- while it trains

    def flush(self, durable: bool = False) -> None:
        """Write all rows added so far to the tables."""
        for table in self.tables.values():
            table.flush(durable)

    def progress(self, step: int, steps_per_second: float, score: float | None) -> None:
        """Set what the next heartbeats say about the progress of the run."""
        self.owner.status = {"step": step, "steps_per_second": steps_per_second, "score": score}

    def last_progress(self) -> dict[str, Any]:
        """Return what the last heartbeat said; empty if there was none."""
        try:
            return files.read_json(self.folder / layout.PROGRESS)
        except (OSError, DamagedFile):
            return {}

    def keep_policy(self, step: int, policy: State) -> None:
        """Write the policy of an evaluation."""
        files.write(self.folder / layout.kept_policy(step), pack_arrays(policy), check=self.owner.check)

    # ---- checkpoints

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint."""
        self.flush(durable=True)
        vouched = {name: (table.size, table.hash.hexdigest()) for name, table in self.tables.items()}
        self.checkpoints.save(checkpoint, vouched)

    def usable_steps(self) -> list[int]:
        """Return the steps of the undamaged checkpoints, the newest first.

        Raises:
            DamagedFile: there are checkpoints, and all of them are damaged.
        """
        usable: list[int] = []
        damage = None
        # One at the end of the budget is kept for a longer run, see `Attempt`; this one goes on from before.
        for step in (step for step in self.checkpoints.steps() if step < self.cell.steps):
            try:
                _, vouched = self.checkpoints.load(step)
                for name, (size, digest) in vouched.items():
                    self.tables[name].verify(size, digest)
                usable.append(step)
            except DamagedFile as error:
                damage = damage or error
        if damage and not usable:
            raise DamagedFile(f"{damage}; no older checkpoint is usable. To start over, delete {self.folder}")
        if damage:
            print(f"warning: {damage}; resuming from step {usable[0]}", file=sys.stderr, flush=True)
        return usable

    def restart(self) -> None:
        """Empty the folder of all earlier progress."""
        self.checkpoints.cut(-1)
        for table in self.tables.values():
            table.begin(b"", self.owner.check)

    def rewind(self, step: int) -> Checkpoint:
        """Restore the folder to what it was at the checkpoint of `step`, and return that checkpoint."""
        checkpoint, vouched = self.checkpoints.load(step)
        contents = {name: self.tables[name].verify(size, digest) for name, (size, digest) in vouched.items()}
        self.checkpoints.cut(step)
        # A run that an earlier version began has fewer tables to its end.
        self.tables = {name: table for name, table in self.tables.items() if name in contents}
        for name, table in self.tables.items():
            table.begin(contents[name], self.owner.check)
        return checkpoint

    # ---- the end

    def end_attempt(self, step: int, usage: Mapping[str, float | str]) -> None:
        """Close the record of this attempt: the step it reached, the compute it used, and why it failed."""
        self.record["attempts"][-1] |= {"ended": _timestamp(), "to_step": step, **usage}
        self._write_record()

    def finish(
        self,
        status: str,
        step: int,
        score: float | None,
        policy: State,
        usage: dict[str, float],
        unstable: int,
    ) -> None:
        """Record that the run is over, and remove what was needed only for resuming.

        Args:
            status: "done" or "diverged".
            step: environment steps of the seed.
            score: mean return of the last greedy evaluation.
            policy: the arrays that acting needs.
            usage: compute used by this attempt.
            unstable: unstable steps in the episodes that were still running.
        """
        self.flush(durable=True)
        content = {name: table.content() for name, table in self.tables.items()}  # of this attempt's files
        content[layout.POLICY] = pack_arrays(policy)
        files.write(self.folder / layout.POLICY, content[layout.POLICY], check=self.owner.check)
        self.record |= _totals(self.record["attempts"])
        self.end_attempt(step, usage)
        digests = {name: sha256(data).hexdigest() for name, data in content.items()}
        unstable_steps = {
            "train": _sum(content[layout.TRAIN], "unstable") + unstable,
            "eval": _sum(content[layout.EVAL], "unstable"),
        }
        result: dict[str, Any] = {
            "format": FORMAT, "status": status, "steps": step, "score": score, "digests": digests,
            "unstable_steps": unstable_steps,
        }  # fmt: skip
        compacted = compact(content[layout.TRAIN], step)
        result["compact"] = {name: sha256(data).hexdigest() for name, data in compacted.items()}
        result["digest"] = result_digest(result)
        files.write_json(self.folder / layout.RESULT, result, check=self.owner.check)
        self.clean_up()

    def clean_up(self) -> None:
        """Remove what only an unfinished run needs. A checkpoint at the end of the budget stays."""
        self.owner.hush()
        kept = layout.last_checkpoint(self.folder, self.cell.steps)
        self.owner.remove_files(name for name in layout.unfinished_files(self.folder) if name not in kept)


def same_cell(recorded: dict[str, Any], facts: dict[str, Any]) -> bool:
    """Return whether two contents of cell.json describe the same cell.

    Hyperparameters that were added since the first was written are not in it. In `facts` they have their
    defaults: any other value is among `settings`, which must be equal.
    """
    known = {*recorded.get("config", ()), *(facts.get("settings") or ())}
    config = {name: value for name, value in facts["config"].items() if name in known}
    return _without_notes(recorded) == _without_notes(facts | {"config": config})


def _without_notes(facts: dict[str, Any]) -> dict[str, Any]:
    """Return cell.json without what other versions may say differently, or not at all."""
    return {name: value for name, value in facts.items() if name not in ("changed", "source", "guarantees")}


def _measures(record: dict[str, Any]) -> str:
    return ", ".join(map(str, record.get("measures") or ())) or "none"


def result_digest(result: dict[str, Any]) -> str:
    """Return the digest that a result.json with this content must carry."""
    content = {key: value for key, value in result.items() if key != "digest"}
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_all(runs: Sequence[Run]) -> None:
    """Take all of the runs, or none and raise RunHeld. Clears what killed attempts left behind."""
    for run in runs:
        run.folder.mkdir(parents=True, exist_ok=True)
    acquire_all([run.owner for run in runs])
    try:
        for run in runs:
            run.owner.status = run.last_progress()
            if run.is_finished():
                run.clean_up()
    except BaseException:
        for run in runs:
            run.close()
        raise


def _sum(table: bytes, name: str) -> int:
    """Return the sum of a column of whole numbers."""
    header, *rows = (line.split(",") for line in table.decode().splitlines())
    return sum(int(row[header.index(name)]) for row in rows)


def _totals(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the totals over all attempts of a run that is over."""
    totals: dict[str, Any] = {"restarts": len(attempts) - 1}
    for name in ("lost_steps", "lost_wall_s"):
        totals[name] = round(sum(attempt.get(name, 0) for attempt in attempts), 3)
    # An attempt contributes to the result if all later ones began after the step at which it began.
    starts = [attempt["from_step"] for attempt in attempts]
    counted = [a for i, a in enumerate(attempts) if all(start > starts[i] for start in starts[i + 1 :])]
    platforms = sorted({attempt.get("platform", "not recorded") for attempt in counted})
    return totals | ({"mixed_platforms": platforms} if len(platforms) > 1 else {})


def _timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
