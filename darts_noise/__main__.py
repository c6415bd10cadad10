"""``python -m darts_noise COMMAND``: the same as ``darts-noise COMMAND``, e.g. for torchrun."""

from darts_noise.cli.program import main

if __name__ == "__main__":
    main()
