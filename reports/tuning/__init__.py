"""Tuning hyperparameters with Optuna: what is declared, the search, its record, and its figure."""
