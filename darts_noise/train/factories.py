"""The networks that a measurement accepts: a cell, or a function that makes any module.

>>> from torch import nn
>>> def linear(num_classes, in_channels):
...     return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 64, num_classes))
>>> make_network(linear, 10, 1, TrainConfig())[1].out_features
10
"""

import hashlib
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from torch import nn

from darts_noise.errors import SettingError
from darts_noise.nets.network import create_model
from darts_noise.nets.width import channels_for
from darts_noise.space.genotype import Genotype
from darts_noise.space.published import load_genotype
from darts_noise.train.settings import TrainConfig

Factory = Callable[[int, int], nn.Module]
"""A function (num_classes, in_channels) → module. The module maps images (B, in_channels, H, W) to
logits (B, num_classes). Each call draws new initial weights from torch's global generator."""

NetworkLike = str | Path | Genotype | Factory
"""A published name, a `Genotype`, a path of a ``.json`` file, a run directory, or a `Factory`."""

KNOWN = ("darts_noise", "torch", "torchvision")
"""Packages whose classes are known by their name, so that `identify` does not read their code."""

_MADE: WeakSet[nn.Module] = WeakSet()
"""The modules that factories have made and that still exist."""


def loaded(network: NetworkLike) -> Genotype | Factory:
    """Return the named genotype, or the factory.

    Raises:
        ValueError: no such genotype.
    """
    if isinstance(network, str | Path | Genotype):
        return load_genotype(network)
    if isinstance(network, nn.Module) or not callable(network):
        raise SettingError(
            "network",
            "expected a genotype, its name or file, or a function "
            f"(num_classes, in_channels) → module, got {type(network).__name__}",
        )
    return network


def arguments_of_model(
    genotype: Genotype, num_classes: int, in_channels: int, recipe: TrainConfig
) -> dict[str, Any]:
    """Return the arguments of `create_model` for a network of this cell without auxiliary head.

    Raises:
        ValueError: a size that does not exist, or no width has the number of ``parameters``.
    """
    fixed = {key: getattr(recipe, key) for key in ("num_cells", "stem", "stem_stride")}
    fixed |= {"num_classes": num_classes, "in_channels": in_channels}
    if recipe.parameters is None:
        return {"channels": recipe.channels, **fixed}
    return {"channels": channels_for(genotype, recipe.parameters, **fixed), **fixed}


def make_network(
    network: Genotype | Factory, num_classes: int, in_channels: int, recipe: TrainConfig
) -> nn.Module:
    """Return a new module without auxiliary head and drop path; see `Factory` for its shapes.

    Raises:
        ValueError: a size that does not exist, or a factory that does not return a new module.
    """
    if isinstance(network, Genotype):
        arguments = arguments_of_model(network, num_classes, in_channels, recipe)
        cells: nn.Module = create_model(network, **arguments)
        return cells
    net = network(num_classes, in_channels)
    if not isinstance(net, nn.Module):
        raise SettingError("network", f"expected the function to make a module, got {net!r:.80}")
    if net in _MADE:  # its weights are already trained
        raise SettingError(
            "network",
            f"expected the function to make a new module at every call, got the same "
            f"{type(net).__name__} again",
        )
    _MADE.add(net)
    return net


def suited_network(
    name: str,
    network: Genotype | Factory,
    num_classes: int,
    shape: tuple[int, int, int],
    recipe: TrainConfig,
) -> nn.Module:
    """Return a module after a check that it maps images (B, C, H, W) to logits (B, num_classes).

    Use the module to count or to inspect, not to train. The state of torch's generator does not
    change.

    Args:
        name: name of the network, for messages.
        network: the genotype or factory, for `make_network`.
        num_classes: number of classes.
        shape: (C, H, W) of an image.
        recipe: the settings of a network of cells.

    Raises:
        ValueError: as for `make_network`, or the network does not suit the images.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        net = make_network(network, num_classes, shape[0], recipe).eval()
        try:
            out = net(torch.zeros(2, *shape))
        except RuntimeError as error:
            raise ValueError(f"{name}: cannot take images of {shape}: {error}") from None
    got = tuple(out.shape) if isinstance(out, torch.Tensor) else type(out).__name__
    if got != (2, num_classes):
        raise ValueError(f"{name}: expected logits (2, {num_classes}) of 2 images, got {got}")
    return net


def identify(network: Genotype | Factory, net: nn.Module) -> str:
    """Return 16 hexadecimal digits that identify a network.

    They are a hash of its cell, its layers and the source code of its own classes: those that are
    neither in this package nor in torch or torchvision.
    """
    cell: object = None
    if isinstance(network, Genotype):
        cell = {k: v for k, v in network.to_dict().items() if k != "meta"}
    shapes = [[name, list(p.shape)] for name, p in net.named_parameters()]
    own = {c for c in map(type, net.modules()) if c.__module__.split(".")[0] not in KNOWN}
    text = json.dumps([cell, shapes, repr(net), *sorted(map(_source, own))])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(cls: type) -> str:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):  # typed into an interpreter
        return cls.__qualname__
