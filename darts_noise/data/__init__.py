"""Data: a name becomes uint8 images, in memory or in files, splits, and batches on the device.

Importing this package registers the data sets; a file with a new one is imported here. Nothing in
it imports another part of darts_noise, except the message for unknown names.
"""

from darts_noise.data import digits, image_folder, torchvision_datasets
from darts_noise.data.augment import Augmentation, cutout, random_crop, random_flip
from darts_noise.data.batches import Batch, BatchStream, EpochLoader
from darts_noise.data.colour import color_jitter
from darts_noise.data.crops import crop_and_scale
from darts_noise.data.datasets import list_datasets, load_dataset, register_dataset
from darts_noise.data.file_images import FileImages
from darts_noise.data.images import (
    ImageDataset,
    LabelledImages,
    Normalisation,
    channel_statistics,
)
from darts_noise.data.module import ImageDataModule
from darts_noise.data.splits import stratified_split, stratified_subset

__all__ = [
    "Augmentation",
    "Batch",
    "BatchStream",
    "EpochLoader",
    "FileImages",
    "ImageDataModule",
    "ImageDataset",
    "LabelledImages",
    "Normalisation",
    "channel_statistics",
    "color_jitter",
    "crop_and_scale",
    "cutout",
    "digits",
    "image_folder",
    "list_datasets",
    "load_dataset",
    "random_crop",
    "random_flip",
    "register_dataset",
    "stratified_split",
    "stratified_subset",
    "torchvision_datasets",
]
