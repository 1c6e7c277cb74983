"""Replace a folder of products as a whole: the old one stays in place until the new one is complete."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(out: Path) -> Iterator[Path]:
    """Yield the path of a new folder beside `out`, which the caller makes; then rename it to `out`.

    If the process is killed between the two renames, the old folder is in `.<out>-*/old`.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    # A sibling folder, because a rename is atomic only within one file system.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:40]}-") as work:
        new, old = Path(work) / "new", Path(work) / "old"
        yield new
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise


def check_replaceable(out: Path, is_ours: Callable[[str], bool], what: str) -> None:
    """Raise ValueError unless `out` is absent or has only names that are ours: it will be deleted."""
    if out.exists() and not (out.is_dir() and all(is_ours(path.name) for path in out.iterdir())):
        raise ValueError(f"{out} contains files that are not part of {what}: choose another folder")
