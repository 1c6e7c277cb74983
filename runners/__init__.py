"""Training: the loop, evaluation, checkpoints, run records, the local pool. See README.md in this folder."""

VERSION = 2  # raise it when a change in this folder changes results
