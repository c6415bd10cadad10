"""Noise: fixed sets that a cell must not learn, and penalties on cells that can learn them."""
