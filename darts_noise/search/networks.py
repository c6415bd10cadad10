"""The networks of a search and their optimisers, made from its settings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.nets.supernet import SuperNet
from darts_noise.search.architecture import Architecture
from darts_noise.search.variants.variant import Variant
from darts_noise.space.spaces import Space


def _sgd(weights: Iterable[Tensor], rate: float, settings: Mapping[str, Any]) -> Optimizer:
    momentum, decay = settings["momentum"], settings["weight_decay"]
    return SGD(weights, rate, momentum=momentum, weight_decay=decay)


def _adam(weights: Iterable[Tensor], rate: float, settings: Mapping[str, Any]) -> Optimizer:
    """Without weight decay, as the measurement of noise fit uses it."""
    return Adam(weights, rate)


WEIGHT_OPTIMISERS: Mapping[str, Callable[..., Optimizer]] = {"sgd": _sgd, "adam": _adam}
"""What may train w and v, by its name in the settings: (weights, rate, settings) → optimiser."""


def twin_setting(settings: Mapping[str, Any], key: str) -> Any:
    """A setting of the twin: its own, or that of w where it has none."""
    own = settings[f"twin_{key}"]
    return settings[key] if own is None else own


def make_supernet(
    space: Space,
    num_classes: int,
    in_channels: int,
    settings: Mapping[str, Any],
    variants: Sequence[Variant],
) -> SuperNet:
    """A supernet with new weights, changed by the variants.

    Args:
        space: which operations compete.
        num_classes: C of its logits.
        in_channels: channels of the images.
        settings: those of `SearchModule`.
        variants: one of them may need the textbook's arrangement.

    Raises:
        ValueError: a stem or a size that does not exist.
    """
    textbook = any(v.implementation == "textbook" for v in variants)
    net = SuperNet(
        space,
        num_classes,
        in_channels,
        settings["channels"],
        settings["num_cells"],
        settings["stem"],
        stem_stride=settings["stem_stride"],
        implementation="textbook" if textbook else settings["supernet"],
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
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would also seed the GPUs' generators.
        torch.default_generator.manual_seed(derive_seed(seed, Stream.TWIN, restart))
        return make()


def restart_twin(twin: SuperNet, optimiser: Optimizer, fresh: SuperNet) -> None:
    """Gives v the weights and statistics of a fresh twin, and its optimiser no past."""
    twin.load_state_dict(fresh.state_dict())
    optimiser.state.clear()


def make_optimisers(
    arch: Architecture, nets: Sequence[SuperNet], settings: Mapping[str, Any], epochs: int
) -> tuple[list[Optimizer], list[LRScheduler]]:
    """Optimisers of α, w and, where there is a second net, v; cosine schedules of w and v.

    Args:
        arch: α.
        nets: the supernet and perhaps its twin.
        settings: those of `SearchModule`.
        epochs: length of the schedules.
    """
    alpha = Adam(
        arch.parameters(),
        lr=settings["alpha_learning_rate"],
        betas=settings["alpha_betas"],
        weight_decay=settings["alpha_weight_decay"],
    )
    rates = (settings["learning_rate"], twin_setting(settings, "learning_rate"))
    kinds = (settings["optimiser"], twin_setting(settings, "optimiser"))
    weights = [
        WEIGHT_OPTIMISERS[kind](net.parameters(), rate, settings)
        for net, rate, kind in zip(nets, rates, kinds, strict=False)
    ]
    schedules: list[LRScheduler] = [
        CosineAnnealingLR(optimiser, epochs, settings["learning_rate_min"]) for optimiser in weights
    ]
    return [alpha, *weights], schedules
