"""``python -m darts_noise.report``."""

from darts_noise.report.command import main

if __name__ == "__main__":
    main()
