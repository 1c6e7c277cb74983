"""Trains: the loop, evaluation, checkpoints, run records, the local pool. See README.md in this folder."""

VERSION = 1  # raise it when a change in this folder changes results
