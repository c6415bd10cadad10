"""Trained networks as folders that anybody can load: saved, shipped by name, shared on a hub."""

from darts_noise.pretrained.bundle import load_pretrained, pretrained_config, save_pretrained
from darts_noise.pretrained.config import BundleConfig, BundleImages
from darts_noise.pretrained.shipped import list_pretrained

__all__ = [
    "BundleConfig",
    "BundleImages",
    "list_pretrained",
    "load_pretrained",
    "pretrained_config",
    "save_pretrained",
]
