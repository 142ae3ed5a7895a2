"""Peers that are slow, silent, broken or greedy: the server's memory is bounded, and the others are served."""
