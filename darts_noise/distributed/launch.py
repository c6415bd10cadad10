"""Starts the processes of a script that trains with several, before it makes anything.

Lightning would start them when the training begins. By then the first process has made the run's
directory and the others, which run the script from its beginning, would make others. So they are
started once the settings have been accepted, and what only one may make is made by the first
(`darts_noise.distributed.collectives.on_first_process`).
"""

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy

from darts_noise.compat import runs_the_script_again


def start_processes(trainer: pl.Trainer) -> None:
    """Starts the others, unless torchrun or SLURM has, and waits until all have joined.

    Every further Trainer of the same settings finds them there. With one process it does nothing.

    Args:
        trainer: with the settings of the run; it need not train.

    Raises:
        ValueError: a strategy other than ``ddp`` for several processes.
    """
    if trainer.world_size == 1:
        return
    strategy = trainer.strategy
    launcher = strategy.launcher
    if not (isinstance(strategy, DDPStrategy) and runs_the_script_again(launcher)):
        raise ValueError(
            "trainer.strategy: expected ddp for several devices, whose processes each run the "
            f"script, got {type(strategy).__name__} by {type(launcher).__name__.lstrip('_')}"
        )
    assert launcher is not None
    launcher.launch(strategy.setup_environment, trainer=trainer)
