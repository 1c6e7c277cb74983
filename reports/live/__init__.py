"""A page about training that goes on, and the server that shows it (`ascent serve`)."""
