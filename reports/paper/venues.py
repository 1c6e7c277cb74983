"""Venues: how wide their columns are."""

from dataclasses import dataclass

from ascent.records.errors import InputError, unknown

POINTS = 72.27  # TeX's points in an inch
LEAST_SIZE, MOST_SIZE = 7, 10  # of text, in points
WIDTHS = ("column", "text")


@dataclass(frozen=True)
class Venue:
    """The page of a venue.

    Attributes:
        column: width of a column, in inches; that of the text where there is one column.
        text: width of the text, in inches.
        source: the file that sets the widths, and how.
    """

    column: float
    text: float
    source: str


VENUES = {
    "neurips": Venue(5.5, 5.5, "neurips_2025.sty: geometry, textwidth=5.5in"),
    "icml": Venue(3.25, 6.75, "icml2025.sty: textwidth 6.75in, columnsep 0.25in, two columns"),
    "iclr": Venue(5.5, 5.5, "iclr2025_conference.sty: textwidth 5.5 true in"),
    "jmlr": Venue(6.0, 6.0, "jmlr2e.sty: textwidth 6.0 true in"),
    "rlc": Venue(5.5, 5.5, "rlj.sty: textwidth 5.5in"),
}


@dataclass(frozen=True)
class Page:
    """Where figures and tables go: `width` in inches, `size` of their text in points."""

    width: float
    size: int

    @property
    def small(self) -> int:
        """The size of tick labels."""
        return max(LEAST_SIZE, self.size - 1)


def page(venue: str, width: str, size: int) -> Page:
    """Return the page of a venue.

    Raises:
        InputError: an unknown venue or width, or a size outside of LEAST_SIZE and MOST_SIZE.
    """
    if venue not in VENUES:
        raise unknown("venue", venue, VENUES)
    if width not in WIDTHS:
        raise unknown("width", width, WIDTHS)
    if not LEAST_SIZE <= size <= MOST_SIZE:
        raise InputError(f"the font size must be from {LEAST_SIZE} to {MOST_SIZE} points, not {size}")
    found = VENUES[venue]
    return Page(found.column if width == "column" else found.text, size)
