"""Check records, verify results, and bundle a report with everything that both need."""
