"""Benchmarks: each command prints one table and writes its figures to ``docs/results`` as JSON."""
