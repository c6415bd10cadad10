"""Save and restore the states of all global random generators, as plain values and tensors."""

import random
from typing import Any

import numpy as np
import torch


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the states of Python, NumPy, torch and, for a CUDA device, the device's generator."""
    version, words, gauss = random.getstate()
    of_numpy = dict(np.random.get_state(legacy=False))
    of_numpy["state"] = {**of_numpy["state"], "key": of_numpy["state"]["key"].tolist()}
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": of_numpy,
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Restore the result of `random_state`. The CUDA state is restored only on a CUDA device."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    key = np.array(state["numpy"]["state"]["key"], dtype=np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": key}})
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
