"""Freeze a draft: from then on, no command writes to it."""

import shutil
from pathlib import Path

from ascent.records import shelf as shelves
from ascent.records.errors import InputError
from ascent.records.shelf import DRAFT, Shelf
from ascent.reports.checking.check import shelf_checksums
from ascent.reports.shelf import tables

WORK = ".release"  # a folder beside the shelves: what is not yet whole, and what is to be deleted


def release(draft: Shelf) -> Shelf:
    """Give a draft its final name, and generate its files under this name.

    Killed at any time, the draft is still there, or the release is; what is there is whole.

    Raises:
        InputError: a file of the draft differs from its checksum; there is a release of this name.
        ValueError: records cannot be read.
    """
    final = shelves.HOME / draft.name.removesuffix(DRAFT)
    if final.exists():
        raise InputError(f"{final} is released already, and a release is never edited")
    for finding in shelf_checksums(draft.folder):
        raise InputError(f"{finding.where} {finding.what}: run `ascent results build`")
    work = shelves.HOME / WORK
    shutil.rmtree(work, ignore_errors=True)
    copy = Shelf(Path(shutil.copytree(draft.folder, work / final.name)))
    tables.build(copy)
    copy.folder.rename(final)
    draft.folder.rename(work / draft.name)
    shutil.rmtree(work)
    return Shelf(final)
