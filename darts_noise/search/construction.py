"""Construct the supernet, the twin and the optimisers of a search from its settings."""

from collections.abc import Callable, Sequence

from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from darts_noise.data.seeds import Stream, drawing
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.settings import SearchConfig
from darts_noise.search.variants.variant import Variant
from darts_noise.space.spaces import Space
from darts_noise.train.loop import make_optimiser


def weight_optimiser(kind: str, net: SuperNet, rate: float, config: SearchConfig) -> Optimizer:
    """Return an optimiser of w or v. Adam and Muon have no weight decay, as on noise."""
    decay = config.weight_decay if kind == "sgd" else 0.0
    return make_optimiser(kind, net.parameters(), rate, config.momentum, decay)


def make_supernet(
    space: Space,
    num_classes: int,
    in_channels: int,
    config: SearchConfig,
    variants: Sequence[Variant],
) -> SuperNet:
    """Return a supernet with new weights, changed by the variants.

    Args:
        space: the search space.
        num_classes: number of classes.
        in_channels: channels of the images.
        config: the settings.
        variants: the search variants. If one of them needs the ``textbook`` implementation, it
            overrides ``config.supernet``.

    Raises:
        ValueError: a stem or a size that does not exist.
    """
    textbook = any(v.implementation == "textbook" for v in variants)
    net = SuperNet(
        space,
        num_classes,
        in_channels,
        config.channels,
        config.num_cells,
        config.stem,
        stem_stride=config.stem_stride,
        implementation="textbook" if textbook else config.supernet,
    )
    for variant in sorted(variants, key=lambda variant: not variant.rebuilds):
        variant.change_supernet(net)
    return net


def make_twin(make: Callable[[], SuperNet], seed: int, restart: int) -> SuperNet:
    """Return a twin with new weights v. They depend only on the seed and the number of restarts.

    Args:
        make: makes a supernet with weights from torch's global generator.
        seed: the seed of the search.
        restart: number of restarts so far.
    """
    with drawing(seed, Stream.TWIN, restart):
        return make()


def restart_twin(
    twin: SuperNet, optimiser: Optimizer, schedule: LRScheduler, fresh: SuperNet, epochs: int
) -> None:
    """Give the twin the weights and batch-norm statistics of ``fresh``.

    The function also clears the optimiser's state and starts a new cosine schedule of the learning
    rate over ``epochs`` epochs.
    """
    twin.load_state_dict(fresh.state_dict())
    optimiser.state.clear()
    rates = schedule.base_lrs
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate
    begun = {"T_max": epochs, "last_epoch": 0, "_last_lr": rates}
    schedule.load_state_dict({**schedule.state_dict(), **begun})


def life_of_twin(config: SearchConfig, epoch: int, epochs: int) -> int:
    """Return the number of epochs until the next restart of a twin that starts at ``epoch``.

    Without a further restart it is the number of epochs until the end of the search.
    """
    return min(config.twin_restart or epochs, epochs - epoch)


def make_optimisers(
    arch: Architecture, nets: Sequence[SuperNet], config: SearchConfig, epochs: int
) -> tuple[list[Optimizer], list[LRScheduler]]:
    """Return the optimisers of α, w and v, and the cosine schedules of w and v.

    Args:
        arch: α.
        nets: the supernet, or the supernet and its twin. v has an optimiser only with a twin.
        config: the settings.
        epochs: number of epochs of the search.
    """
    alpha = Adam(
        arch.parameters(),
        lr=config.alpha_learning_rate,
        betas=config.alpha_betas,
        weight_decay=config.alpha_weight_decay,
    )
    rates = (config.learning_rate, config.rate_of_twin)
    kinds = (config.optimiser, config.optimiser_of_twin)
    weights = [
        weight_optimiser(kind, net, rate, config)
        for net, rate, kind in zip(nets, rates, kinds, strict=False)
    ]
    lengths = (epochs, life_of_twin(config, 0, epochs))
    schedules: list[LRScheduler] = [
        CosineAnnealingLR(optimiser, length, config.learning_rate_min)
        for optimiser, length in zip(weights, lengths, strict=False)
    ]
    return [alpha, *weights], schedules
