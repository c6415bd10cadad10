"""The private attributes of libraries that the package touches, each with the reason.

Nothing else in the package reads or writes a name of a library that begins with an underscore. The
dependencies have upper bounds in ``pyproject.toml``, and ``tests/test_compat.py`` says in a
sentence which attribute is gone.
"""

from typing import Any

import torch
from torch import nn

# torch has no public name for "a batch norm of any number of dimensions".
BatchNorm = nn.modules.batchnorm._BatchNorm


def in_functorch() -> bool:
    """Return whether a transform of `torch.func` is under way."""
    return bool(torch._C._are_functorch_transforms_active())


def ask_to_stop(trainer: Any) -> None:
    """Have a Trainer end after the step under way, as Lightning's own answer to a SIGTERM does.

    That handler also broadcasts the signal to the other processes, in the middle of their steps,
    and they would wait for each other for ever. So only the flag that it sets is set here.
    """
    trainer._signal_connector.received_sigterm = True


def figures_to_be_logged(trainer: Any) -> dict[str, Any]:
    """Return the figures of an epoch that is over, which Lightning logs after the checkpoint.

    A checkpoint that lacks them would leave a resumed run without a row of ``metrics.csv``.
    """
    return dict(trainer._logger_connector.metrics["log"])


def logged_step(trainer: Any) -> int:
    """Return the step under which those figures will be logged; `global_step` counts optimisers."""
    return int(trainer.fit_loop.epoch_loop._batches_that_stepped) - 1


def runs_the_script_again(launcher: object) -> bool:
    """Return whether a strategy's launcher starts the other processes as copies of this script."""
    from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

    return isinstance(launcher, _SubprocessScriptLauncher)
