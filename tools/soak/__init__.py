"""Thousands of connections at once, with every byte checked: `python -m tools.soak`."""
