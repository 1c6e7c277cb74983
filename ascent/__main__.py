"""`python -m ascent` is the command `ascent`."""

from ascent.cli import main

main()
