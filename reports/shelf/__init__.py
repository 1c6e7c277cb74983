"""The results that ship with the suite: add cells to a shelf, and generate what is made from its records."""
