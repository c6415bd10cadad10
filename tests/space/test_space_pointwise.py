"""1×1 convolutions with a stride equal PyTorch's."""

import pytest
import torch
import torch.nn.functional as F

from darts_noise.space.operations.pointwise import PointwiseConv


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("channels", [(4, 8), (9, 5)])
def test_as_the_librarys(stride, channels):
    torch.manual_seed(0)
    ours = PointwiseConv(*channels, stride).double()
    x = torch.randn(3, channels[0], 7, 6, dtype=torch.float64)
    torch.testing.assert_close(ours(x), F.conv2d(x, ours.weight, stride=stride))


@pytest.mark.parametrize("channels", [1, 4, 7])
def test_few_channels_in_channels_last_are_trained(channels):
    """The library's own backward pass has ended the process here."""
    torch.manual_seed(0)
    conv = PointwiseConv(channels, 8, 2)
    for _ in range(50):
        x = torch.randn(32, channels, 8, 8, requires_grad=True)
        conv(x.to(memory_format=torch.channels_last)).square().sum().backward()
        assert torch.count_nonzero(x.grad[:, :, 1::2]) == 0
