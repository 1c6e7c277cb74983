"""The files of a report."""

import re

from ascent.records.sums import SUMS

FILES = {"index.html", "provenance.json", "data.parquet", "references.bib", "tables", "figures", SUMS}
FILE_OF_REPORT = re.compile(
    r"index\.html|provenance\.json|data\.parquet|references\.bib|tables/[^/]+\.(csv|md|tex)|figures/[^/]+\.(png|pdf)"
)
