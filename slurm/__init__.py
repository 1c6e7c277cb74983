"""Sends a sweep to a SLURM cluster, watches it, resubmits what is missing. See README.md in this folder.

Nothing here imports torch, but for making a manifest: login nodes may have none.
"""
