"""Labels: the names of systems in tables and figures, as short as they can be told apart."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from ascent.records.errors import InputError
from ascent.records.read import CellRecord

LONG_LABEL = 40  # characters of a setting beyond which its label shows the digest instead


def labels_of(cells: Sequence[CellRecord]) -> dict[str, str]:
    """Return cell folder -> label.

    What a sweep names is called so, on all tasks and whatever its settings. Of the others, the label is the
    shortest of "sac", "sac (preset)", "sac (preset with tau=0.1)", where a long setting gives way to the
    digest, and "sac (preset, digest)" that is unique within every task and not a name of the former. A system
    with several cells on some tasks and one on others keeps the short name for the cell with the preset of
    the latter and no overrides: one more experiment must not rename all others.

    Raises:
        InputError: a sweep gives two cells of a task the same name.
    """

    def by_digest(cell: CellRecord) -> str:
        return f" ({cell.name.preset}, {cell.name.digest})"

    labels = {cell.name.folder: cell.name.name for cell in cells if cell.name.name}
    taken = set(labels.values())
    _check_names(cells)
    cells = [cell for cell in cells if not cell.name.name]
    titles = _titles(cells)
    for title in sorted(set(titles.values())):
        namesakes = [cell for cell in cells if titles[cell.name.folder] == title]
        by_task = defaultdict(list)
        for cell in namesakes:
            by_task[cell.name.suite, cell.name.task].append(cell)
        usual = {group[0].name.preset for group in by_task.values() if len(group) == 1}
        short = set()
        for group in by_task.values():
            candidates = [c for c in group if len(group) == 1 or (c.name.preset in usual and not c.changed)]
            short |= {candidates[0].name.folder} if len(candidates) == 1 else set()
        if len(short) < len(by_task) or title in taken:  # the short name would be ambiguous on some task
            short = set()
        forms: list[Callable[[CellRecord], str]] = [
            lambda cell: "",
            lambda cell: f" ({cell.name.preset})",
            lambda cell: f" ({cell.setting})" if len(cell.setting) <= LONG_LABEL else by_digest(cell),
            by_digest,
        ]
        for form in forms:
            chosen = {c.name.folder: title + ("" if c.name.folder in short else form(c)) for c in namesakes}
            distinct = {(c.name.suite, c.name.task, chosen[c.name.folder]) for c in namesakes}
            if len(distinct) == len(namesakes) and taken.isdisjoint(chosen.values()):
                break
        labels |= chosen
    return labels


def _check_names(cells: Sequence[CellRecord]) -> None:
    """Raise InputError if two cells of a task have the same name."""
    uses = Counter((cell.name.suite, cell.name.task, cell.name.name) for cell in cells if cell.name.name)
    for (_, task, name), count in uses.items():
        if count > 1:
            raise InputError(f"{count} cells on {task} have the name {name!r}")


def _titles(cells: Sequence[CellRecord]) -> dict[str, str]:
    """Return cell folder -> name of the system; with its VERSION where a report has several of them."""
    versions: dict[str, set[int | None]] = defaultdict(set)
    for cell in cells:
        versions[cell.title].add(_version(cell))
    return {
        cell.name.folder: f"{cell.title} v{_version(cell)}" if len(versions[cell.title]) > 1 else cell.title
        for cell in cells
    }


def _version(cell: CellRecord) -> int | None:
    """Return the VERSION of a cell's algorithm; None where it is not recorded."""
    return (cell.facts.get("versions") or {}).get("algorithm")
