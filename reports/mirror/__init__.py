"""Copy runs and reports from records to Weights & Biases, after training (`push`) or during it (`live`)."""
