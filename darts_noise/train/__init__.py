"""Training of discrete networks, on data and on noise."""
