"""Reports: run records in, one stand-alone HTML page with its figures, tables and provenance out.

The stages, in order: `records` (load) -> `aggregate` (with `estimators` and `stats`) -> `figures` ->
`tables` -> `page`; `report.build` runs them and puts the result into place. Nothing here imports torch:
a report reads files, never live objects.
"""

from ascent.records.read import Expected
from ascent.reports.report import build, rebuild

__all__ = ["Expected", "build", "rebuild"]
