"""Mirror: runs and reports in Weights & Biases, from records: afterwards (`push`) or meanwhile (`live`)."""
