"""The private attributes of libraries that the package uses, each with the reason.

No other file of the package uses a library's name that begins with an underscore.
``tests/test_compat.py`` reports a missing attribute.
"""

from typing import Any

import torch
from torch import nn

# torch has no public name for "a batch norm of any number of dimensions".
BatchNorm = nn.modules.batchnorm._BatchNorm


def in_functorch() -> bool:
    """Return whether the code runs inside a transform of `torch.func`."""
    return bool(torch._C._are_functorch_transforms_active())


def set_updates(metric: Any, count: int) -> None:
    """Set the number of updates of a torchmetrics metric, which has no setter."""
    metric._update_count = count


def ask_to_stop(trainer: Any) -> None:
    """Make a Trainer stop after the current step, as Lightning's SIGTERM handler does.

    Lightning's handler also sends the signal to the other processes in the middle of their steps,
    and they would wait for each other for ever. So this function only sets the handler's flag.
    """
    trainer._signal_connector.received_sigterm = True


def figures_to_be_logged(trainer: Any) -> dict[str, Any]:
    """Return the figures of a finished epoch. Lightning logs them only after the checkpoint.

    Without them in the checkpoint, a resumed run would miss a row of ``metrics.csv``.
    """
    return dict(trainer._logger_connector.metrics["log"])


def logged_step(trainer: Any) -> int:
    """Return the step of the row in ``metrics.csv``; `global_step` counts every optimiser."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped) - 1


def runs_the_script_again(launcher: object) -> bool:
    """Return whether a strategy's launcher starts the other processes as copies of this script."""
    from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

    return isinstance(launcher, _SubprocessScriptLauncher)
