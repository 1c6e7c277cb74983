"""Checking: whether records may be reported (`check`), whether results come out again (`verify`), and both
in one file (`bundle`).
"""
