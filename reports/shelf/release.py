"""Freeze a draft: from then on, no command writes to it."""

import shutil
from pathlib import Path

from ascent.records import shelf as shelves
from ascent.records import sums
from ascent.records.errors import InputError
from ascent.records.shelf import DRAFT, Shelf
from ascent.reports.shelf import tables

HALF_MADE = ".release"  # a folder beside the shelves, until the release is whole


def release(draft: Shelf) -> Shelf:
    """Give a draft its final name, and generate its files under this name.

    Killed at any time, the draft is still there, or the release is whole.

    Raises:
        InputError: a file of the draft differs from its checksum; there is a release of this name.
        ValueError: records cannot be read.
    """
    name = draft.name.removesuffix(DRAFT)
    final = shelves.HOME / name
    if final.exists():
        raise InputError(f"{final} is released already, and a release is never edited")
    recorded = draft.folder / sums.SUMS
    if not recorded.exists() or recorded.read_text() != sums.of_folder(draft.folder):
        raise InputError(
            f"{draft.folder} has changed since {sums.SUMS} was written: run `ascent results build`"
        )
    half_made = shelves.HOME / HALF_MADE
    shutil.rmtree(half_made, ignore_errors=True)
    copy = Shelf(Path(shutil.copytree(draft.folder, half_made / name)))
    tables.build(copy)
    copy.folder.rename(final)
    shutil.rmtree(draft.folder)
    half_made.rmdir()
    return Shelf(final)
