"""Write the card of a bundle: Markdown that begins with metadata for model hubs.

The metadata have the format of the Hugging Face Hub
(https://huggingface.co/docs/hub/model-cards#model-card-metadata).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from darts_noise.pretrained.config import BundleConfig, BundleImages
from darts_noise.report.card import markdown
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import as_text

TAGS = ("image-classification", "neural-architecture-search", "darts", "pytorch")
METRICS = {"test_accuracy": "Test accuracy", "noise_accuracy": "Training-noise accuracy"}


def model_card(config: BundleConfig, genotype: Genotype, card: Mapping[str, Any]) -> str:
    """Return the text of ``README.md``.

    Args:
        config: the config of the bundle.
        genotype: the genotype of the network.
        card: the result card of the training. Empty: no card.
    """
    head = yaml.safe_dump(_metadata(config, card), sort_keys=False, allow_unicode=True)
    parts = [f"---\n{head}---", f"# {_title(config)}", _about(config, genotype), USE]
    if card:
        # The cell may be a path on the author's machine. Show only its last part.
        card = {**card, "cell": Path(str(card.get("cell", "unnamed"))).name}
        parts.append(f"## Result\n\n{markdown(card).strip()}\n\n{READING}")
    return "\n\n".join(parts) + "\n"


USE = """## Use

```python
import darts_noise as dn

net = dn.load_pretrained("path/to/this/folder")
body = dn.load_pretrained("path/to/this/folder", features_only=True)  # returns maps of every size
images = dn.pretrained_config("path/to/this/folder").images  # size, classes and normalisation
# logits = net(images.inputs(pixels)), with pixels (B, C, H, W) and values from 0 to 255
```"""

READING = (
    "Training-noise accuracy is the accuracy of the same cell after training from scratch on "
    "images that must not be learnt. Lower means that the cell memorises less. Compare it only "
    "with a control under the same protocol."
)


def _title(config: BundleConfig) -> str:
    return "A cell network" + ("" if config.images is None else f" for {config.images.name}")


def _about(config: BundleConfig, genotype: Genotype) -> str:
    arguments = ", ".join(f"{key} {value}" for key, value in config.model.items())
    text = (
        "A network of cells from a differentiable architecture search with `darts_noise`. The "
        "search penalises architectures that can memorise noise.\n\n"
        f"Arguments of the network: {arguments}."
    )
    if genotype.macro:
        choices = ", ".join(f"{key} {as_text(value)}" for key, value in genotype.macro.items())
        text += f" Choices for the whole network: {choices}."
    if (images := config.images) is not None:
        height, width = images.image_size
        text += (
            f"\n\nThe training images have {height}×{width} pixels.{_cut(images)} To normalise an "
            f"image, scale it to [0, 1], subtract the mean {_figures(images.mean)} and divide by "
            f"the standard deviation {_figures(images.std)}."
        )
    return text


def _cut(images: BundleImages) -> str:
    if images.crop_pct == 1:
        return ""
    height, width = images.image_size
    return (
        f" The network was tested on the central {images.crop_pct:.4g} of the height and width of "
        f"each image, scaled to {height}×{width}."
    )


def _figures(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def _metadata(config: BundleConfig, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata at the beginning of the card."""
    data: dict[str, Any] = {
        "library_name": "darts_noise",
        "pipeline_tag": "image-classification",
        "tags": list(TAGS),
    }
    if config.images is None:
        return data
    name = config.images.name
    data |= {"datasets": [name], "metrics": ["accuracy"]}
    metrics = [
        {"type": "accuracy", "name": title, "value": card[key]}
        for key, title in METRICS.items()
        if isinstance(card.get(key), float)
    ]
    if metrics:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"type": name, "name": name},
            "metrics": metrics,
        }
        data["model-index"] = [{"name": _title(config), "results": [result]}]
    return data
