"""Measure the share of a step's time that making its batches takes, in search and training.

    python -m benchmarks.loading
    python -m benchmarks.loading --device cuda --precision bf16 --compile

A noise-aware search step needs three batches: training and validation images with crop and flip,
and noise without augmentation. A training step needs one batch, with crop, flip and cutout. All
batches are made on the device from uint8 images in memory, and normalised. The search step is the
step of `benchmarks.search_step`. The training step is the Trainer's step, as in
`benchmarks.retrain`. Batches and steps take turns in one process. The share is the time of the
batches divided by the time of the step including its batches. The images are random with a fixed
seed.

Images that do not fit into memory are decoded for every batch. The rate is that of one core, for
the two photographs of scikit-learn (427×640 pixels), each with a random crop scaled to 224×224:
with the package's reader, which uses Pillow, and with torchvision's decoder. The command writes
``docs/results/loading_<device>_<precision>.json``.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import sklearn.datasets
import torch
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as tvf

from benchmarks.commands import store, surroundings
from benchmarks.retrain import Turns, now, quiet, random_images, run_package, train_stream
from benchmarks.search_step import Step
from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import BatchStream
from darts_noise.data.crops import Crop, random_crops
from darts_noise.data.decoding import Decoding
from darts_noise.data.images import LabelledImages, channel_statistics
from darts_noise.noise.families import make_noise


class Batches:
    """A timer that makes batches of some streams.

    Attributes:
        seconds: the seconds for one batch of each stream, per call of `make`.
    """

    def __init__(self, *streams: BatchStream) -> None:
        self.streams = streams
        self.seconds: list[float] = []

    def make(self) -> None:
        started = now()
        for stream in self.streams:
            stream.batch(len(self.seconds))
        self.seconds.append(now() - started)


def search_streams(data: LabelledImages, batch: int, device: str) -> list[BatchStream]:
    """Return the streams of training, validation and noise batches, as in `SearchModule`."""
    normalisation, half = channel_statistics(data.images), len(data) // 2
    augmentation = Augmentation(crop_padding=4, flip=True)
    splits = [data.subset(range(half)), data.subset(range(half, len(data)))]
    noise = make_noise("uniform", 1000, data)
    return [
        *(
            BatchStream(s, batch, normalisation, augmentation=augmentation, device=device)
            for s in splits
        ),
        BatchStream(noise, batch, normalisation, device=device),
    ]


def share(batches: Sequence[float], steps: Sequence[float]) -> dict[str, Any]:
    """Return the share of the batches in the steps.

    Args:
        batches: seconds for the batches of each step.
        steps: seconds of each step including its batches.
    """
    percent = [100 * b / s for b, s in zip(batches, steps, strict=True)]
    return {
        "median_percent": round(median(percent), 2),
        "range_percent": [round(min(percent), 2), round(max(percent), 2)],
        "batches_median_s": round(median(batches), 5),
        "step_median_s": round(median(steps), 4),
    }


def of_search(args: argparse.Namespace, data: LabelledImages) -> dict[str, Any]:
    batches = Batches(*search_streams(data, args.search_batch, args.device))
    sizes = argparse.Namespace(**vars(args), batch=args.search_batch, stem="cifar")
    step = Step("shared, noise-aware", sizes)
    seconds = []
    for _ in range(args.repeats + 1):
        batches.make()
        seconds.append(step.run() + batches.seconds[-1])
    return share(batches.seconds[1:], seconds[1:])


def of_training(args: argparse.Namespace, data: LabelledImages) -> dict[str, Any]:
    batches = Batches(train_stream(data, args.train_batch, args.device))
    turns = Turns(args.steps, batches.make)
    form = argparse.Namespace(**vars(args), batch=args.train_batch)
    run_package(form, data, args.repeats + 1, turns)
    return share(batches.seconds[1:], [s / args.steps for s in turns.seconds[1:]])


def of_decoding(repeats: int) -> dict[str, float]:
    """Return the images that one core decodes and crops in a second, by reader."""
    photographs = sorted((Path(sklearn.datasets.__file__).parent / "images").glob("*.jpg"))
    files, shape = photographs * 16, (224, 224)
    crops = random_crops(len(files), torch.Generator())

    def with_torchvision(file: Path, crop: Crop) -> None:
        image = decode_image(str(file), ImageReadMode.RGB, apply_exif_orientation=True)
        tvf.resized_crop(image, *crop(*image.shape[1:]), size=list(shape), antialias=True)

    def rate(read: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats + 1):  # the first is a warm-up
            started = time.process_time()
            read()
            seconds.append(time.process_time() - started)
        return round(len(files) / median(seconds[1:]))

    return {
        "package": rate(lambda: Decoding(files, shape, False, crops).result()),
        "torchvision": rate(lambda: [*map(with_torchvision, files, crops)]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="compile the training's network")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--steps", type=int, default=3, help="training steps between two batches")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--search-batch", type=int, default=16)
    parser.add_argument("--train-batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(args.threads)
    data = random_images()
    setting = ("compile", "channels", "cells", "search_batch", "train_batch", "threads")
    result = {
        "command": (
            f"python -m benchmarks.loading --device {args.device} --precision {args.precision}"
            f"{' --compile' if args.compile else ''} --channels {args.channels} "
            f"--cells {args.cells} --search-batch {args.search_batch} "
            f"--train-batch {args.train_batch}"
        ),
        "setting": {k: getattr(args, k) for k in setting},
        **surroundings(args.device),
        "repeats": args.repeats,
        "search": of_search(args, data),
        "training": of_training(args, data),
        "decoding_images_per_s": of_decoding(args.repeats),
    }
    store(f"loading_{args.device}_{args.precision}", result)
    for kind in ("search", "training", "decoding_images_per_s"):
        print(kind, result[kind])


if __name__ == "__main__":
    main()
