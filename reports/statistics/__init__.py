"""Statistics of run records: scores, intervals, tests and verdicts, gathered in a `Study`."""
