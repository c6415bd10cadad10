"""Images whose pixels tell their origin, for the tests of the families."""

import torch

from darts_noise.data.images import LabelledImages


def numbered(n=30, channels=1, height=6, width=5, classes=5):
    """Image i has the value of its place, 0 to H·W − 1, plus 30 per channel, and i in the last row.

    Its label is i modulo the number of classes, so that an image gives away its label.
    """
    places = torch.arange(height * width).view(1, 1, height, width)
    images = (places + 30 * torch.arange(channels).view(1, -1, 1, 1)).repeat(n, 1, 1, 1)
    images[:, :, -1, -1] = 200 + torch.arange(n)[:, None]  # larger than any place
    names = tuple(f"class {c}" for c in range(classes))
    return LabelledImages(images.to(torch.uint8), torch.arange(n) % classes, names)


def coloured(n=40, height=16, width=12, classes=4):
    """Images of random colours, which have no structure that could hide an error."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (n, 3, height, width), generator=generator, dtype=torch.uint8)
    return LabelledImages(images, torch.arange(n) % classes, tuple("abcdefgh"[:classes]))


def number_of(images):
    """Which of the numbered images each one is: its largest value tells."""
    return images.flatten(1).amax(1).long() - 200
