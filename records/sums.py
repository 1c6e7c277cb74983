"""SHA256SUMS: the checksums of the files of a folder or an archive, as `sha256sum -c` reads them."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from ascent.records import files

SUMS = "SHA256SUMS"


def text(sums: Mapping[str, str]) -> str:
    """Return the content of a SHA256SUMS, given the sha256 of each file by its name."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))


def parse(content: bytes) -> dict[str, str]:
    """Return the sha256 of each file by its name. Raises ValueError if this is no such list."""
    return dict(line.split("  ", 1)[::-1] for line in content.decode().splitlines())


def of_folder(folder: Path) -> str:
    """Return the content of a folder's SHA256SUMS, which covers all other files in it and below."""
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return text({name: of_file(folder / name) for name in names if name != SUMS})


def of_file(path: Path) -> str:
    """Return the sha256 of a file."""
    return sha256(files.read(path)).hexdigest()
