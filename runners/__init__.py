"""Training: the loop, evaluation, checkpoints, run records, the local pool. See README.md in this folder."""

from ascent import algorithms  # noqa: F401  (before numpy and torch: it chooses their mathematical functions)

VERSION = 2  # raise it when a change in this folder changes results
