"""Noise: fixed sets that a cell must not learn, and the penalties for being able to."""
