"""``python -m darts_noise COMMAND``: as ``darts-noise COMMAND``, for torchrun and the like."""

from darts_noise.cli.program import main

if __name__ == "__main__":
    main()
