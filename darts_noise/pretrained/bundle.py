"""Save and load bundles: a bundle is a folder with a trained network, as data without code.

``genotype.json`` contains the cell. ``model.safetensors`` contains the weights. ``config.json``
contains the arguments of the network and the checksums of the first two files. ``README.md`` is the
card that model hubs show.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from darts_noise.atomic import replacing, write_text
from darts_noise.compat import in_functorch
from darts_noise.configured import naming_arguments
from darts_noise.errors import SettingError
from darts_noise.nets.body import Body, FeatureNetwork
from darts_noise.nets.integers import require_integers
from darts_noise.nets.network import Network, create_model
from darts_noise.pretrained.config import BundleConfig, BundleImages, network_arguments
from darts_noise.pretrained.model_card import model_card
from darts_noise.pretrained.shipped import (
    CARD,
    CONFIG,
    GENOTYPE,
    SEALED,
    WEIGHTS,
    find_bundle,
    is_artifact,
    require_bundle_folder,
)
from darts_noise.shown import shown
from darts_noise.space.genotype import Genotype
from darts_noise.space.json_file import MAX_BYTES, read_json, shown_path
from darts_noise.space.wandb_artifact import artifact_files


def save_pretrained(
    net: Network,
    folder: str | Path,
    *,
    images: BundleImages | None = None,
    card: Mapping[str, Any] | None = None,
) -> Path:
    """Write a network as a bundle. Replace the bundle that is in the folder, if there is one.

    The auxiliary head is not saved, because only the training uses it.

    Args:
        net: the network, on any device. It is not changed.
        folder: the folder of the bundle. It is created if it does not exist.
        images: the images that the network was trained on. Users need them to prepare their own
            images. None (default): not stated.
        card: the result card of the training, as in ``card.json``. None (default): no card.

    Returns:
        The folder.

    Raises:
        ValueError: `net` is not a `Network`, the images differ from it in the number of channels or
            classes, or the folder has files with these names that do not belong to a bundle.
        OSError: the folder is not writable.
    """
    from safetensors.torch import save

    if not isinstance(net, Network):
        raise ValueError(f"net: expected a Network of create_model, got {type(net).__name__}")
    folder = Path(folder)
    require_bundle_folder(folder)
    weights = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in net.state_dict().items()
        if not name.startswith("auxiliary.")
    }
    net.genotype.to_json(folder / GENOTYPE)
    with replacing(folder / WEIGHTS) as file:
        file.write(save(weights, metadata={"format": "pt"}))
    digests = {name: _digest((folder / name).read_bytes()) for name in SEALED}
    config = BundleConfig(network_arguments(net), images, digests)
    content = json.dumps(config.to_dict(), indent=1)
    BundleConfig.from_dict(json.loads(content), SEALED)  # fail now if the config is not readable
    write_text(folder / CARD, model_card(config, net.genotype, card or {}))
    write_text(folder / CONFIG, content + "\n")  # last, because its checksums cover the other files
    return folder


@overload
def load_pretrained(
    source: str | Path,
    *,
    num_classes: int | None = ...,
    features_only: Literal[False] = ...,
    out_indices: None = ...,
) -> Network: ...


@overload
def load_pretrained(
    source: str | Path, *, features_only: Literal[True], out_indices: Sequence[int] | None = ...
) -> FeatureNetwork: ...


@naming_arguments
def load_pretrained(
    source: str | Path,
    *,
    num_classes: int | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
) -> Network | FeatureNetwork:
    """Load a trained network on the CPU, in eval mode.

    The network of a training that Weights & Biases tracked is in an artifact, from which it is
    downloaded. The files are read as data: no code in them is run. The weights must match their
    checksum in the config. The network warns once if its first images look as if they were not
    normalised; see `BundleImages`.

    Args:
        source: the name of a shipped network (see `list_pretrained`), the folder of a bundle, the
            folder of a training run, or the W&B artifact of a training as
            ``entity/project/model-NAME:version``.
        num_classes: for fine-tuning: another number replaces the last layer by a new one with
            random weights. 0: no last layer. None (default): the classes of the training.
        features_only: as for `create_model`.
        out_indices: as for `create_model`.

    Raises:
        ValueError: the bundle does not exist, is damaged, or its weights do not fit its config. The
            message is one line and names the file.

    >>> net = load_pretrained("digits")
    >>> net.num_classes, net.training
    (10, False)
    """
    with _found(source) as folder:
        return _load(folder, features_only, out_indices, num_classes)


def _load(
    folder: Path,
    features_only: bool,
    out_indices: Sequence[int] | None,
    num_classes: int | None,
) -> Network | FeatureNetwork:
    """Return the network of a bundle's folder; see `load_pretrained`."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if features_only and num_classes is not None:
        raise SettingError("num_classes", "expected none with features_only, which has no head")
    config = pretrained_config(folder)
    weights = _sealed(folder, WEIGHTS, config)
    _sealed(folder, GENOTYPE, config)
    genotype = Genotype.from_json(folder / GENOTYPE)
    path = shown_path(folder / WEIGHTS)
    try:
        tensors = load(weights)
    except (SafetensorError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a safetensors file ({shown(str(error))})") from None
    arguments: dict[str, Any] = dict(config.model)
    try:
        # First on the meta device, which uses no memory: a config may state a network that is much
        # larger than the weights in the file.
        with torch.device("meta"):
            _require_same(create_model(genotype, **arguments), tensors)
        with torch.random.fork_rng(devices=[]):
            net: Body = (
                create_model(genotype, **arguments, features_only=True, out_indices=out_indices)
                if features_only
                else create_model(genotype, **arguments, out_indices=None)
            )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    net.load_state_dict({name: tensors[name] for name in net.state_dict()})
    assert isinstance(net, Network | FeatureNetwork)
    if isinstance(net, Network) and num_classes not in (None, net.num_classes):
        require_integers(num_classes=num_classes)
        net.reset_classifier(num_classes)
    vars(net)["look"] = net.register_forward_pre_hook(_look_once)
    return net.eval()


LARGEST_NORMALISED = 50.0
"""Normalised pixels are above this only if the standard deviation is below 0.02."""


def _look_once(net: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Warn if the first images of a network are on the scale from 0 to 255. The hook goes then."""
    if torch.compiler.is_compiling() or in_functorch() or "look" not in vars(net):
        return
    images = inputs[0] if inputs else None
    if not isinstance(images, Tensor) or images.is_meta or not images.numel():
        return
    vars(net).pop("look").remove()
    if float(images.detach().amax()) > LARGEST_NORMALISED:
        warnings.warn(
            "images: expected normalised images, got values above "
            f"{LARGEST_NORMALISED:g}; call pretrained_config(...).images.normalisation first",
            stacklevel=4,
        )


def start_from(net: Network, source: str | Path) -> None:
    """Copy the weights of a trained network into a network with the same cell and size.

    The last layer keeps its own weights if the number of classes differs. An auxiliary head keeps
    its own weights too.

    Args:
        net: the network. It is changed.
        source: as for `load_pretrained`.

    Raises:
        ValueError: the trained network does not exist, or its cell or its size differs.
    """
    trained = load_pretrained(source)
    if trained.genotype != net.genotype:
        raise ValueError(
            f"expected the cell of {shown(str(source))}, got another; leave model.genotype out"
        )
    for key, value in trained.arguments.items():
        if net.arguments[key] != value:
            raise ValueError(
                f"expected {key} {value} as in {shown(str(source))}, got {net.arguments[key]}"
            )
    weights = trained.state_dict()
    if trained.num_classes != net.num_classes:
        weights = {k: v for k, v in weights.items() if not k.startswith("classifier.")}
    net.load_state_dict(weights, strict=False)


def pretrained_config(source: str | Path) -> BundleConfig:
    """Read the config of a bundle: the arguments of its network, and its training images.

    Args:
        source: as for `load_pretrained`.

    Raises:
        ValueError: the bundle does not exist, or its config is invalid. The message names the file.

    >>> images = pretrained_config("digits").images
    >>> images.image_size, len(images.classes)
    ((8, 8), 10)
    """
    with _found(source) as folder:
        path = folder / CONFIG
        data = read_json(path)
        try:
            return BundleConfig.from_dict(data, SEALED)
        except ValueError as error:
            raise ValueError(f"{shown_path(path)}: {error}") from None


@contextmanager
def _found(source: str | Path) -> Iterator[Path]:
    """Give the folder of a bundle, which is downloaded if it is a W&B artifact."""
    if is_artifact(source):
        files = {CONFIG: MAX_BYTES, GENOTYPE: MAX_BYTES, WEIGHTS: None}
        with artifact_files(str(source), files) as downloaded:
            yield downloaded
    else:
        yield find_bundle(source)


def _sealed(folder: Path, name: str, config: BundleConfig) -> bytes:
    """Read a file and compare it with its checksum in the config."""
    path = folder / name
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{shown_path(path)}: {error.strerror or shown(error)}") from None
    if _digest(content) != config.sha256[name]:
        raise ValueError(f"{shown_path(path)}: damaged, its checksum differs from {CONFIG}")
    return content


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _require_same(net: Network, tensors: Mapping[str, Tensor]) -> None:
    """Raise ``ValueError`` for the first tensor that is missing, unknown or has another shape or
    type."""
    wanted = net.state_dict()
    for name in sorted({*wanted, *tensors}):
        places = [_described(side.get(name)) for side in (wanted, tensors)]
        if places[0] != places[1]:
            raise ValueError(f"{shown(name)}: expected {places[0]} by {CONFIG}, got {places[1]}")


def _described(tensor: Tensor | None) -> str:
    if tensor is None:
        return "no tensor"
    return f"{'floats' if tensor.is_floating_point() else 'integers'} {tuple(tensor.shape)}"
