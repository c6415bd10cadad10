"""What the card of ``train.py`` says of the noise check."""

import math
from typing import Any

from darts_noise.train.noise_record import NoiseFit
from darts_noise.train.settings import NoiseGrid


def noise_rows(noise: NoiseFit | None, grid: NoiseGrid, diverged: bool) -> dict[str, Any]:
    """The rows of the card.

    Args:
        noise: the record; None where nothing was measured.
        grid: its trainings, but for the protocol ``quick``.
        diverged: no accuracy of it means anything.
    """
    if noise is None:
        return dict.fromkeys(("noise_accuracy", "noise_protocol", "noise", "positive_control"))
    record = noise.to_dict()
    if diverged:
        record |= {"accuracy": None, "accuracy_largest": None}
    rows = {
        # With selectivity a run ends at half of the noise.
        "noise_accuracy": None if noise.protocol == "selectivity" else record["accuracy"],
        "noise_protocol": _describe(noise),
        "noise": record,
        "positive_control": _describe_controls(noise),
    }
    if noise.runs:
        rows["noise_grid"] = str(grid)
        rows["noise_diverged"] = f"{len(noise.diverged)} of {len(noise.runs)}"
    if noise.protocol == "selectivity":
        unlearnt = "not measured: no training reached half of the real images"
        rows["selectivity"] = noise.shown_selectivity or unlearnt
    return rows


def _describe(noise: NoiseFit) -> str:
    at_most = "" if noise.protocol == "quick" else "at most "
    return (
        f"{noise.protocol}: {noise.samples:,} {noise.family} images, {at_most}{noise.epochs} "
        f"epochs, best constant answer {100 * noise.chance:.1f} %"
    )


def _describe_controls(noise: NoiseFit) -> str | None:
    if not noise.controls:
        return None
    shown = [
        f"{name} {'diverged' if math.isnan(accuracy) else f'{100 * accuracy:.2f} %'}"
        for name, accuracy in noise.controls.items()
    ]
    weak = "" if noise.control_reached else " (too little: the measurement was too weak)"
    return ", ".join(shown) + weak
