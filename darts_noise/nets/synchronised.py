"""Batch norms with the statistics of all processes: ``--trainer.sync_batchnorm``.

Lightning uses `torch.nn.SyncBatchNorm`, which does not support the norms of the mixed operations.
See also `darts_noise.distributed.batch_norm`.
"""

from collections.abc import Callable

from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import Tensor, nn

from darts_noise.distributed.batch_norm import synchronised_batch_norm
from darts_noise.distributed.collectives import process_count
from darts_noise.nets.macro_layers import MixedNorm
from darts_noise.nets.mixed.stacked import EdgeNorm


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """An `nn.BatchNorm2d` whose batch statistics are over the images of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if process_count() == 1 or not (self.training or not self.track_running_stats):
            return super().forward(x)
        tracks = self.training and self.track_running_stats
        if tracks and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        return synchronised_batch_norm(
            x,
            self.running_mean if tracks else None,
            self.running_var if tracks else None,
            self.weight,
            self.bias,
            self.momentum or 0.0,
            self.eps,
        )


class SynchronisedNorms(TorchSyncBatchNorm):
    """A plugin of Lightning's Trainer: ``pl.Trainer(plugins=[SynchronisedNorms()], ...)``.

    It replaces ``sync_batchnorm=True``. It also works on CPUs and for all networks of the package.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        _replace(model, nn.BatchNorm2d, SynchronisedBatchNorm)
        return _set(model, True)

    def revert(self, model: nn.Module) -> nn.Module:
        _replace(model, SynchronisedBatchNorm, nn.BatchNorm2d)
        return _set(model, False)


def _set(model: nn.Module, synchronised: bool) -> nn.Module:
    for module in model.modules():
        if isinstance(module, EdgeNorm | MixedNorm):
            module.synchronised = synchronised
    return model


def _replace(
    module: nn.Module, old: type[nn.BatchNorm2d], make: Callable[..., nn.BatchNorm2d]
) -> None:
    for name, child in module.named_children():
        if type(child) is old:
            setattr(module, name, _like(child, make))
        else:
            _replace(child, old, make)


def _like(norm: nn.BatchNorm2d, make: Callable[..., nn.BatchNorm2d]) -> nn.BatchNorm2d:
    """Copy a norm to another class. Share the parameters, because an optimiser may hold them."""
    new = make(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters():
        setattr(new, name, parameter)
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        setattr(new, name, getattr(norm, name))
    return new.train(norm.training)
