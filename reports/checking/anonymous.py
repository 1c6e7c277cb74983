"""Remove from records what they reveal about a person or a site, for double-blind review.

A run.json names, per attempt, the host, the process, the path of Python, and SLURM's cluster, partition, node
and job. No rule of `check` and no verification needs their values: only which of them are equal. The same
value becomes the same word in all runs. Entries that this version does not know are left out. What else may
name a person, and stays, is listed in `docs/security.md`.
"""

from typing import Any

from ascent.records import files, layout
from ascent.records.shapes import AttemptShape, RunShape
from ascent.records.store import Store

WORDS = {
    "host": "host",
    "pid": "",
    "python": "python",
    "SLURM_CLUSTER_NAME": "cluster",
    "SLURM_JOB_PARTITION": "partition",
    "SLURMD_NODENAME": "node",
    "SLURM_JOB_ID": "",
    "SLURM_ARRAY_JOB_ID": "",
}  # a number follows; "" for a number alone
KEPT = {
    *AttemptShape.model_fields,
    "SLURM_ARRAY_TASK_ID",
    "SLURM_RESTART_COUNT",
}  # of an attempt


class Pseudonyms:
    """Words that take the place of names: the same for the same name."""

    def __init__(self) -> None:
        self._numbers: dict[str, dict[Any, int]] = {}

    def read(self, store: Store, seed: int) -> bytes:
        """Return the content of a run's run.json without names."""
        return files.json_bytes(self.run(store.json(seed, layout.RUN)))

    def run(self, about: dict[str, Any]) -> dict[str, Any]:
        """Return run.json without names."""
        kept = {key: value for key, value in about.items() if key in RunShape.model_fields}
        return kept | {"attempts": [self._attempt(attempt) for attempt in about.get("attempts", [])]}

    def _attempt(self, attempt: dict[str, Any]) -> dict[str, Any]:
        named = {key: self._word(key, value) for key, value in attempt.items() if key in WORDS}
        return {key: value for key, value in attempt.items() if key in KEPT} | named

    def _word(self, key: str, value: Any) -> str | int:
        kind = WORDS[key]
        numbers = self._numbers.setdefault(kind or key, {})
        number = numbers.setdefault(value, len(numbers) + 1)
        return f"{kind}-{number}" if kind else number if isinstance(value, int) else str(number)
