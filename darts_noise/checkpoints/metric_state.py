"""Save and restore the values of torchmetrics within an epoch; ``state_dict`` lacks them."""

from typing import Any

from lightning_fabric.utilities.apply_func import move_data_to_device
from torch import nn
from torchmetrics import Metric

from darts_noise.compat import set_updates


def metric_state(module: nn.Module) -> dict[str, dict[str, Any]]:
    """Return the update count and the values of each metric in a module, by name."""
    return {
        name: {"updates": metric.update_count, "values": dict(metric.metric_state)}
        for name, metric in module.named_modules()
        if isinstance(metric, Metric)
    }


def set_metric_state(module: nn.Module, state: dict[str, dict[str, Any]]) -> None:
    """Restore the result of `metric_state`, on the current devices of the metrics."""
    for name, held in state.items():
        metric = module.get_submodule(name)
        assert isinstance(metric, Metric)
        for key, value in held["values"].items():
            setattr(metric, key, move_data_to_device(value, metric.device))
        set_updates(metric, held["updates"])
