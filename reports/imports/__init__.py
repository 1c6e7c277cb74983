"""The curves of other libraries: which format a file has, what it holds, and the cell that becomes of it."""
