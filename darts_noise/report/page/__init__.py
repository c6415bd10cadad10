"""The report of runs as one HTML page that needs no network: ``python -m darts_noise.report``."""
