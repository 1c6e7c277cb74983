"""Figures and tables of a report in the size at which a paper prints them."""
