"""Measurements: one command per table, each printing it and writing JSON to ``docs/results``."""
