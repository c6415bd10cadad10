"""The networks of a search and their optimisers, made from its settings."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from darts_noise.data.seeds import Stream, drawing
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.settings import SearchConfig
from darts_noise.search.variants.variant import Variant
from darts_noise.space.spaces import Space


def _sgd(weights: Iterable[Tensor], rate: float, config: SearchConfig) -> Optimizer:
    momentum, decay = config.momentum, config.weight_decay
    return SGD(weights, rate, momentum=momentum, weight_decay=decay)


def _adam(weights: Iterable[Tensor], rate: float, config: SearchConfig) -> Optimizer:
    """Without weight decay, as the measurement of noise fit uses it."""
    return Adam(weights, rate)


WEIGHT_OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {"sgd": _sgd, "adam": _adam}
"""What may train w and v, by its name in the settings: (weights, rate, config) → optimiser."""


def make_supernet(
    space: Space,
    num_classes: int,
    in_channels: int,
    config: SearchConfig,
    variants: Sequence[Variant],
) -> SuperNet:
    """A supernet with new weights, changed by the variants.

    Args:
        space: which operations compete.
        num_classes: C of its logits.
        in_channels: channels of the images.
        config: the settings.
        variants: one of them may need the textbook's arrangement.

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
    for variant in variants:
        variant.change_supernet(net)
    return net


def make_twin(make: Callable[[], SuperNet], seed: int, restart: int) -> SuperNet:
    """New weights v that depend on the seed and the restart alone, not on what ran before.

    Args:
        make: draws a supernet's weights from torch's global generator.
        seed: of the search.
        restart: how often the twin has started anew.
    """
    with drawing(seed, Stream.TWIN, restart):
        return make()


def restart_twin(
    twin: SuperNet, optimiser: Optimizer, schedule: LRScheduler, fresh: SuperNet, epochs: int
) -> None:
    """Gives v the weights and statistics of a fresh twin, its optimiser no past, and its rate a
    cosine of its own, from the start over so many epochs."""
    twin.load_state_dict(fresh.state_dict())
    optimiser.state.clear()
    rates = schedule.base_lrs
    for group, rate in zip(optimiser.param_groups, rates, strict=True):
        group["lr"] = rate
    begun = {"T_max": epochs, "last_epoch": 0, "_last_lr": rates}
    schedule.load_state_dict({**schedule.state_dict(), **begun})


def life_of_twin(config: SearchConfig, epoch: int, epochs: int) -> int:
    """For how many of the search's epochs a twin lives that begins at an epoch."""
    return min(config.twin_restart or epochs, epochs - epoch)


def make_optimisers(
    arch: Architecture, nets: Sequence[SuperNet], config: SearchConfig, epochs: int
) -> tuple[list[Optimizer], list[LRScheduler]]:
    """Optimisers of α, w and, where there is a second net, v; cosine schedules of w and v.

    Args:
        arch: α.
        nets: the supernet and perhaps its twin.
        config: the settings.
        epochs: length of the schedules.
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
        WEIGHT_OPTIMISERS[kind](net.parameters(), rate, config)
        for net, rate, kind in zip(nets, rates, kinds, strict=False)
    ]
    lengths = (epochs, life_of_twin(config, 0, epochs))
    schedules: list[LRScheduler] = [
        CosineAnnealingLR(optimiser, length, config.learning_rate_min)
        for optimiser, length in zip(weights, lengths, strict=False)
    ]
    return [alpha, *weights], schedules
