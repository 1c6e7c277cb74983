"""Reports: from a folder of run records to one stand-alone HTML page with figures, tables and provenance.

Stages: `records.read.load` reads and checks the records; `statistics.study.analyse` computes all statistics,
as one `Study`; `page.write.write` turns the study into files. `report.build` runs them and puts the folder
into place.

Public functions:

    build(runs, out, ...)              write a report
    rebuild(provenance, runs, out)     write the report that has this provenance.json again
    Expected                           a cell and its seeds, as a report expects them
    cite.cite(cell, runs)              the citation of a cell's score
    importing.import_curves(paths, ...)    import the curves of another library
    checking, mirror                   check, verify and bundle records and reports; Weights & Biases

Nothing here imports torch, gymnasium, the algorithms or the suites on the way to a report: it reads files
only.
"""

from ascent.records.read import Expected
from ascent.reports.report import build, rebuild

__all__ = ["Expected", "build", "rebuild"]
