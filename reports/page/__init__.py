"""The report as files: HTML page, figures, tables, bibliography and provenance."""
