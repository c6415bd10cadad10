"""Share bundles on the Hugging Face Hub; it needs ``pip install 'darts_noise[hub]'``.

A repository on the Hub contains the files of a bundle. It is read with the same checks as a folder.
"""

import inspect
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin, snapshot_download

from darts_noise.atomic import write_text
from darts_noise.nets.network import Network
from darts_noise.pretrained.bundle import (
    load_pretrained,
    pretrained_config,
    save_pretrained,
)
from darts_noise.pretrained.config import BundleConfig, network_arguments
from darts_noise.pretrained.shipped import CARD, CONFIG, SEALED, WEIGHTS


class HubNetwork(  # type: ignore[call-arg]  # of the mixin, whose types are not read
    Network, PyTorchModelHubMixin, library_name="darts_noise"
):
    """A `Network` with ``from_pretrained``, ``save_pretrained`` and ``push_to_hub``.

    ``HubNetwork.from_pretrained("runs/train/latest/bundle").push_to_hub("me/digits")`` shares a
    trained network. ``HubNetwork.from_pretrained("me/digits")`` loads it on another machine. The
    arguments are the same as for `Network`. The files are the files of a bundle; see
    `darts_noise.pretrained.bundle`.

    Attributes:
        config: config of the bundle that the network was loaded from. None: a new network.
    """

    config: BundleConfig | None = None
    _readme: str | None = None

    def _save_pretrained(self, save_directory: Path) -> None:
        images = None if self.config is None else self.config.images
        save_pretrained(self, save_directory, images=images)
        # The figures on a card were measured with its weights, so copy it only if they are equal.
        if self.config is not None and self._readme is not None:
            saved = pretrained_config(save_directory).sha256
            if saved[WEIGHTS] == self.config.sha256[WEIGHTS]:
                write_text(save_directory / CARD, self._readme)

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, num_classes: int | None = None, **download: Any
    ) -> "HubNetwork":
        inspect.signature(snapshot_download).bind(model_id, **download)  # refuses other keywords
        folder = Path(model_id)
        if not folder.is_dir():
            files = [*SEALED, CONFIG, CARD]
            folder = Path(snapshot_download(model_id, allow_patterns=files, **download))
        loaded = load_pretrained(folder, num_classes=num_classes)
        arguments: dict[str, Any] = network_arguments(loaded)
        with torch.random.fork_rng(devices=[]):
            net = cls(loaded.genotype, **arguments)
        net.load_state_dict(loaded.state_dict())
        net.config = pretrained_config(folder)
        if num_classes is None and (folder / CARD).is_file():
            net._readme = (folder / CARD).read_text("utf-8")
        return net.eval()
