"""The records of runs on disk. See README.md in this folder.

Nothing here imports torch, an algorithm or a task: a sweep can be planned, submitted and watched on a machine
that has none of them.
"""
