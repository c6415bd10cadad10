"""Read the loss and the accuracy of a network on a fixed set of images, in eval mode.

A fit to noise is read with batch norms whose statistics are recomputed on the same images. Running
averages follow the weights slowly: without that, a network that fits a set after a few steps would
read near chance.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from darts_noise.compat import BatchNorm
from darts_noise.data.batches import BatchStream
from darts_noise.data.images import LabelledImages, Normalisation
from darts_noise.nets.body import Body, dtype_of
from darts_noise.reading_record import Reading

EVALUATION_BATCH = 64
"""On a CPU this takes less than half the time of batches of 256, which do not fit into the cache.
"""


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network in eval mode inside the context. Afterwards each module has its mode again."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def read(net: nn.Module, stream: BatchStream) -> Reading:
    """Read a network on all images of a stream. Its modules keep their modes."""
    loss = torch.zeros((), device=stream.device)
    right = torch.zeros((), dtype=torch.int64, device=stream.device)
    with evaluating(net), parametrize.cached():  # a bounded weight is computed once
        for k in range(stream.batches_per_epoch):
            images, labels = stream.batch(k)
            logits = net(laid_out(images)).float()
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
    size = len(stream.data)
    mean = float(loss) / size
    return Reading(mean if math.isfinite(mean) else math.inf, int(right) / size)


def read_fit(net: nn.Module, stream: BatchStream) -> Reading:
    """Do the same as `read`, with batch norms that have the statistics of the stream's images.

    If the network has batch norms, this passes twice over the images. The running statistics do not
    change. The stream must be shuffled, as `whole_set` is.
    """
    batches = (laid_out(stream.batch(k)[0]) for k in range(stream.batches_per_epoch))
    with own_statistics(net, batches):
        return read(net, stream)


@torch.no_grad()
def sees_one_image(net: nn.Module, stream: BatchStream) -> bool:
    """Return whether all images of a stream are equal behind a network's ``input_filter``.

    Then the network has the same logits for all of them, whatever its weights are. Modules that
    `create_model` did not make see the images themselves.
    """
    from lightning_fabric import is_wrapped

    own = net.module if is_wrapped(net) else net
    see = own.input_filter if isinstance(own, Body) else nn.Identity()
    first = None
    for k in range(stream.batches_per_epoch):
        seen = see(stream.batch(k)[0].to(dtype_of(net)))
        first = seen[:1] if first is None else first
        if not torch.equal(seen, first.expand_as(seen)):
            return False
    return True


def of_one_image(data: LabelledImages) -> Reading:
    """Return the reading of the best network that sees one image in all images."""
    shares = torch.bincount(data.labels).double() / len(data)
    return Reading(float(-torch.xlogy(shares, shares).sum()), data.chance)


@contextmanager
def own_statistics(net: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Give batch norms the statistics of these images inside the context; restore them after it.

    See `recompute_statistics` for the arguments.
    """
    norms = _batch_norms(net)
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    recompute_statistics(net, batches)
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)


@torch.no_grad()
def recompute_statistics(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Set the running statistics of all batch norms to the mean statistics of these images.

    All other modules are in eval mode during the passes. Afterwards all modules have the modes that
    they had before. A batch of one image is left out, because it may have no variance.

    Args:
        net: a discrete network.
        batches: images (B, C, H, W) in random order, because a batch of one class would have the
            statistics of that class. They are not used if there is no batch norm.
    """
    if not (norms := _batch_norms(net)):
        return
    momenta = [norm.momentum for norm in norms]
    seen = 0
    with evaluating(net):
        for norm in norms:
            norm.training = True
        for images in batches:
            if len(images) > 1:
                seen += len(images)
                for norm in norms:
                    if seen == len(images):
                        norm.reset_running_stats()  # a NaN times 0 would stay one
                    norm.momentum = len(images) / seen
                net(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _batch_norms(net: nn.Module) -> list[BatchNorm]:
    """Return the batch norms that have running statistics."""
    norms = [module for module in net.modules() if isinstance(module, BatchNorm)]
    return [norm for norm in norms if norm.track_running_stats]


def whole_set(
    data: LabelledImages, normalisation: Normalisation, device: torch.device
) -> BatchStream:
    """Return a stream for `read_fit`: every image once, always in the same random order."""
    return BatchStream(data, EVALUATION_BATCH, normalisation, drop_last=False, device=device)


def laid_out(images: Tensor) -> Tensor:
    """Return images (B, C, H, W) with the channels of a pixel together in memory: it is faster."""
    return images.to(memory_format=torch.channels_last)
