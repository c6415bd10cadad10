"""The entry points of torch.hub. In a clone of this repository:
``torch.hub.load(".", "load_pretrained", "digits", source="local")``."""

from darts_noise import create_model, list_pretrained, load_pretrained

dependencies = ["torch", "torchvision", "pytorch_lightning", "torchmetrics", "safetensors"]

__all__ = ["create_model", "list_pretrained", "load_pretrained"]
