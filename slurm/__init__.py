"""Submit a sweep to a SLURM cluster, watch it, and resubmit what is missing. See README.md in this folder.

Only making a manifest imports torch: login nodes may not have it.
"""
