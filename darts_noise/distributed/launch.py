"""Start the other processes of a training script before it creates files.

Lightning starts them when the training begins. At this time the first process has already created
the run's folder, and the other processes, which run the script from its beginning, would create
more folders. So this module starts them right after the check of the settings. The first process
then creates the run's folder (`darts_noise.distributed.collectives.on_first_process`).
"""

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy

from darts_noise.compat import runs_the_script_again


def start_processes(trainer: pl.Trainer) -> None:
    """Start the other processes, unless torchrun or SLURM did, and wait until all have joined.

    Later Trainers with the same settings use these processes. With one process, do nothing.

    Args:
        trainer: a Trainer with the settings of the run. It does not have to train.

    Raises:
        ValueError: there are several processes and the strategy is not ``ddp``.
    """
    if trainer.world_size == 1:
        return
    strategy = trainer.strategy
    launcher = strategy.launcher
    if not (isinstance(strategy, DDPStrategy) and runs_the_script_again(launcher)):
        raise ValueError(
            "trainer.strategy: expected ddp for several devices, with processes that run the "
            f"script, got {type(strategy).__name__} by {type(launcher).__name__.lstrip('_')}"
        )
    assert launcher is not None
    launcher.launch(strategy.setup_environment, trainer=trainer)
