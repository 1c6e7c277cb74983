"""Reports: from a folder of run records to one stand-alone HTML page with figures, tables and provenance.

Stages: `records.read.load` reads and checks the records; `statistics.study.analyse` computes all statistics,
as one `Study`; `page.write.write` turns the study into files. `report.build` runs them and puts the folder
into place.

Public functions:

    report.build(runs, out, ...)           write a report
    report.rebuild(provenance, runs, out)  write the report that has this provenance.json again
    cite.cite(cell, runs)                  the citation of a cell's score
    importing.import_curves(paths, ...)    import the curves of another library
    checking, mirror                       check, verify and bundle records and reports; Weights & Biases

Nothing here imports torch, gymnasium, the algorithms or the suites on the way to a report: it reads files
only. Nor does `checking` import what only a page needs.
"""
