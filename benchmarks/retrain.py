"""Compare `TrainModule` with a plain training loop: images per second and memory.

    python -m benchmarks.retrain
    python -m benchmarks.retrain --device cuda --precision bf16 --compile --channels 36 \\
        --cells 20 --batch 96

The package's side is the Trainer as in `train.py`: images as uint8 in the device's memory,
augmentation of whole batches, channels_last, clipping and metrics. Options add bf16 and
torch.compile. The plain loop is the loop of most training scripts: torchvision's transforms of
single images in a DataLoader with default settings, the same network in float32 and NCHW, and
`torch.optim.SGD` with default settings. Both follow the recipe of DARTS (arXiv:1806.09055,
appendix A.1.2): crop, flip, cutout, auxiliary head, momentum, weight decay, clipping. Both are in
their first epoch, in which the drop-path rate is 0.

The sides take turns in one process, one round of steps each. The first round is a warm-up. A
separate process measures the peak memory of each side, minus the memory before its first step. The
images are random with a fixed seed. The command writes
``docs/results/retrain_<device>_<precision>.json``; ``--compile`` adds ``_compile`` to the name.
"""

import argparse
import multiprocessing
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

import darts_noise as dn
from benchmarks.commands import store, surroundings
from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import Batch, BatchStream, EpochLoader
from darts_noise.data.images import LabelledImages, Normalisation, channel_statistics
from darts_noise.nets.network import WithAuxiliary

CROP_PADDING, CUTOUT, AUXILIARY_WEIGHT, CLIP = 4, 16, 0.4, 5.0
SIDES = ("plain", "package")


def random_images(size: int = 10_000) -> LabelledImages:
    """Return random images (size, 3, 32, 32) and labels of ten classes, as in CIFAR-10."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, 3, 32, 32), generator=random, dtype=torch.uint8)
    labels = torch.randint(10, (size,), generator=random)
    return LabelledImages(images, labels, tuple("0123456789"))


def train_stream(data: LabelledImages, batch: int, device: str) -> BatchStream:
    """Return the stream of the package's training batches."""
    augmentation = Augmentation(CROP_PADDING, flip=True, cutout=CUTOUT)
    return BatchStream(
        data, batch, channel_statistics(data.images), augmentation=augmentation, device=device
    )


class Turns(pl.Callback):
    """A callback that divides the Trainer's steps into rounds and calls ``others`` after each.

    Attributes:
        seconds: seconds of each round of ``steps`` steps. The first round is a warm-up.
    """

    def __init__(self, steps: int, others: Callable[[], object]) -> None:
        self.steps, self.others = steps, others
        self.seconds: list[float] = []

    def on_train_start(self, *_: Any) -> None:
        self.started = now()

    def on_train_batch_end(self, *args: Any) -> None:
        number = args[-1]
        if (number + 1) % self.steps == 0:
            self.seconds.append(now() - self.started)
            self.others()
            self.started = now()


def now() -> float:
    """Return the time in seconds, after the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def run_package(
    args: argparse.Namespace, data: LabelledImages, rounds: int, callback: pl.Callback
) -> None:
    """Train with `TrainModule` for ``rounds`` rounds of steps in one epoch."""
    torch.manual_seed(0)
    module = dn.TrainModule(
        channels=args.channels,
        num_cells=args.cells,
        auxiliary_weight=AUXILIARY_WEIGHT,
        compile=args.compile,
    ).build(dn.load_genotype("darts_v2"), data.num_classes, 3)
    trainer = pl.Trainer(
        max_epochs=1,
        limit_train_batches=rounds * args.steps,
        gradient_clip_val=CLIP,
        accelerator=args.device,
        devices=1,
        precision="bf16-mixed" if args.precision == "bf16" else "32-true",
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, EpochLoader(train_stream(data, args.batch, args.device)))


class Cutout:
    """Cutout: sets a square of one image (C, H, W) to zero, in place (arXiv:1708.04552)."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, image: Tensor) -> Tensor:
        _, H, W = image.shape
        y, x = (int(torch.randint(side, ())) - self.length // 2 for side in (H, W))
        image[:, max(y, 0) : max(y + self.length, 0), max(x, 0) : max(x + self.length, 0)] = 0
        return image


class OneByOne(Dataset[tuple[Tensor, int]]):
    """A data set like torchvision's CIFAR10: one PIL image at a time, then the transform."""

    def __init__(self, data: LabelledImages, normalisation: Normalisation) -> None:
        assert isinstance(data.images, Tensor)
        self.pixels = data.images.permute(0, 2, 3, 1).contiguous().numpy()
        self.labels = data.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(data.shape[-1], padding=CROP_PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(normalisation.mean, normalisation.std),
                Cutout(CUTOUT),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), self.labels[index]


class PlainLoop:
    """A plain training loop."""

    def __init__(self, args: argparse.Namespace, data: LabelledImages) -> None:
        torch.manual_seed(0)
        self.device = args.device
        self.net = dn.create_model(
            "darts_v2", channels=args.channels, num_cells=args.cells, auxiliary=True
        ).to(args.device)
        self.optimiser = torch.optim.SGD(
            self.net.parameters(), lr=0.025, momentum=0.9, weight_decay=3e-4
        )
        images = OneByOne(data, channel_statistics(data.images))
        self.loader = DataLoader(
            images,
            args.batch,
            shuffle=True,
            num_workers=args.workers,
            persistent_workers=args.workers > 0,
        )
        self.batches = self._endless()

    def _endless(self) -> Iterator[Batch]:
        while True:
            yield from self.loader

    def run(self, steps: int) -> float:
        """Make ``steps`` steps and return their seconds."""
        started = now()
        self.net.train()
        for _ in range(steps):
            images, labels = (t.to(self.device) for t in next(self.batches))
            out = self.net(images)
            assert isinstance(out, WithAuxiliary)
            loss = F.cross_entropy(out.logits, labels)
            loss = loss + AUXILIARY_WEIGHT * F.cross_entropy(out.auxiliary, labels)
            self.optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
            self.optimiser.step()
        return now() - started


class Peak(pl.Callback):
    """The peak memory of a training in MiB, minus the memory before the first step."""

    def __init__(self, device: str) -> None:
        self.device = device

    def on_train_start(self, *_: Any) -> None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.held = self._most()

    def _most(self) -> int:
        if self.device == "cuda":
            return torch.cuda.max_memory_allocated() >> 10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @property
    def mib(self) -> int:
        return (self._most() - self.held) // 1024


def peak(side: str, args: argparse.Namespace) -> int:
    """Return the peak memory of one round of one side in MiB."""
    quiet()
    torch.set_num_threads(args.threads)
    data, found = random_images(), Peak(args.device)
    if side == "package":
        run_package(args, data, 1, found)
    else:
        loop = PlainLoop(args, data)
        found.on_train_start()
        loop.run(args.steps)
    return found.mib


def quiet() -> None:
    """Silence Lightning's warnings about a Trainer without validation and workers."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def side(seconds: list[float], images: int, memory: int) -> dict[str, Any]:
    """Return the figures of one side, from the seconds of rounds of ``images`` images.

    The spread is the rate of the fastest round minus the rate of the slowest, divided by the
    median.
    """
    rates = sorted(images / s for s in seconds)
    return {
        "images_per_s": [round(r, 1) for r in rates],
        "median_images_per_s": round(median(rates), 1),
        "spread": round((rates[-1] - rates[0]) / median(rates), 3),
        "peak_mib": memory,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--compile", action="store_true", help="compile the package's network")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps of a round")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--cells", type=int, default=8)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--workers", type=int, default=0, help="workers of the plain DataLoader")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    quiet()
    torch.set_num_threads(args.threads)
    memory = {}
    for name in SIDES:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[name] = pool.apply(peak, (name, args))
    data = random_images(max(10_000, (args.rounds + 1) * args.steps * args.batch))
    loop, plain = PlainLoop(args, data), []
    turns = Turns(args.steps, lambda: plain.append(loop.run(args.steps)))
    run_package(args, data, args.rounds + 1, turns)
    seconds = {"plain": plain[1:], "package": turns.seconds[1:]}
    images = args.steps * args.batch
    ratios = [p / q for p, q in zip(*seconds.values(), strict=True)]
    setting = ("compile", "channels", "cells", "batch", "steps", "workers", "threads")
    result = {
        "command": (
            f"python -m benchmarks.retrain --device {args.device} --precision {args.precision}"
            f"{' --compile' if args.compile else ''} --channels {args.channels} "
            f"--cells {args.cells} --batch {args.batch} --rounds {args.rounds} --steps {args.steps}"
        ),
        "setting": {"genotype": "darts_v2", **{k: getattr(args, k) for k in setting}},
        **surroundings(args.device),
        "sides": {name: side(seconds[name], images, memory[name]) for name in SIDES},
        "package_over_plain": round(median(ratios), 2),
        "package_over_plain_range": [round(min(ratios), 2), round(max(ratios), 2)],
        "memory_package_over_plain": round(memory["package"] / memory["plain"], 2),
    }
    store(f"retrain_{args.device}_{args.precision}{'_compile' * args.compile}", result)
    for name in SIDES:
        print(name, result["sides"][name])
    print({k: v for k, v in result.items() if "over" in k})


if __name__ == "__main__":
    main()
