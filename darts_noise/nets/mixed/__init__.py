"""Mixed cells: every candidate operation on every edge, weighted by α; two implementations."""
