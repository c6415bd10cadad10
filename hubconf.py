"""The entry points of torch.hub, as in ``torch.hub.load(".", "load_pretrained", "digits",
source="local")``, where ``.`` is a clone of this repository."""

from darts_noise import create_model, list_pretrained, load_pretrained

dependencies = ["torch", "torchvision", "pytorch_lightning", "torchmetrics", "safetensors"]

__all__ = ["create_model", "list_pretrained", "load_pretrained"]
