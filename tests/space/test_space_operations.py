"""Every registered operation keeps the promises of the registry; single ones equal a reference.

A new operation is tested by the first half on the day it is registered.
"""

import itertools
import math

import pytest
import torch
from torch import nn

from darts_noise.space.operations import get_operation, list_operations, register_operation
from darts_noise.space.operations.identity import FactorisedReduce
from darts_noise.space.operations.pooling import BlurPool
from darts_noise.space.operations.registry import _REGISTRY, BUILT_IN

C = 4

every_operation = pytest.mark.parametrize("name", list_operations())
every_stride = pytest.mark.parametrize("stride", [1, 2])
every_affine = pytest.mark.parametrize("affine", [False, True])


def build(name, stride=1, affine=True, channels=C):
    torch.manual_seed(0)
    return get_operation(name).build(channels, stride, affine)


def seeded(module, x):
    torch.manual_seed(0)  # an operation may draw from torch's generator and from no other
    return module(x)


def distinct(*shape, dtype=torch.float64):
    """Values at least 0.03 from each other and from 0: no tie in a maximum, no kink of a ReLU."""
    n = math.prod(shape)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
    return ((order - n / 2 + 0.5) * (4 / n)).reshape(shape).to(dtype)


@every_operation
@every_stride
@every_affine
def test_shape_and_finite_values(name, stride, affine):
    module = build(name, stride, affine)
    for size in [(8, 8), (7, 7), (6, 9), (5, 2), (1, 1), (1, 4)]:
        out = module(distinct(2, C, *size, dtype=torch.float32))
        assert out.shape == (2, C, math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        assert out.isfinite().all()


@every_operation
@every_stride
def test_channels_are_kept(name, stride):
    for channels in (1, 2, 3, 16):
        if (stride, channels) == (2, 1) and name in ("skip_connect", "multi_residual_3x3"):
            with pytest.raises(ValueError, match="needs at least 2 channels, got 1"):
                build(name, stride, channels=channels)
            continue
        out = build(name, stride, channels=channels)(torch.ones(2, channels, 4, 4))
        assert out.shape[1] == channels


@every_operation
@every_stride
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_dtype_is_kept(name, stride, dtype):
    module = build(name, stride).to(dtype=dtype, memory_format=torch.channels_last)
    x = distinct(2, C, 5, 6, dtype=dtype).requires_grad_()
    out = module(x)
    assert out.dtype == dtype
    assert out.isfinite().all()


@every_operation
@every_stride
@every_affine
@pytest.mark.parametrize("training", [True, False], ids=["batch statistics", "running statistics"])
@pytest.mark.parametrize("size", [(4, 4), (3, 5)])
def test_gradient_equals_the_finite_difference(name, stride, affine, training, size):
    module = build(name, stride, affine, channels=2).double().train(training)
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d) and not training:
            m.running_mean.uniform_(-1, 1)
            m.running_var.uniform_(0.5, 2)
    x = distinct(2, 2, *size).requires_grad_()
    parameters = list(module.parameters())
    if not module(x).requires_grad:
        assert name in ("none", "noise")
        return

    def function(x, *values):
        named = zip(dict(module.named_parameters()), values, strict=True)
        torch.manual_seed(0)  # the same draws at every point
        return torch.func.functional_call(module, dict(named), (x,))

    # Each entry of the Jacobian in one setting, a random projection of it in the others.
    fast = name.startswith("multi") or not (affine and training and size == (4, 4))
    assert torch.autograd.gradcheck(
        function, (x, *parameters), eps=1e-6, atol=1e-6, rtol=1e-4, fast_mode=fast
    )


@every_operation
@every_stride
def test_gradient_is_finite_for_a_flat_image(name, stride):
    x = torch.zeros(2, C, 4, 4, requires_grad=True)
    out = build(name, stride)(x)
    if out.requires_grad:
        out.square().sum().backward()
        assert x.grad.isfinite().all()
    assert out.isfinite().all()


@every_operation
@every_stride
@every_affine
def test_batch_norms_learn_a_scale_where_asked(name, stride, affine):
    module = build(name, stride, affine)
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all((m.weight is not None) == (m.bias is not None) == affine for m in norms)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert bool(norms) == (bool(convolutions) and not name.startswith("selu"))
    assert all(m.bias is None for m in convolutions)
    # Without a scale nothing but the convolutions is learnt.
    learnt = sum(p.numel() for p in module.parameters())
    weights = sum(m.weight.numel() for m in convolutions)
    assert learnt == weights + affine * 2 * C * len(norms)


@every_operation
@every_stride
def test_exported_program_gives_the_same(name, stride):
    module = build(name, stride).eval()
    x = distinct(2, C, 5, 6, dtype=torch.float32)
    program = torch.export.export(module, (x,)).module()
    torch.testing.assert_close(seeded(program, x), seeded(module, x), rtol=0, atol=0)


@every_operation
@every_stride
@every_affine
def test_state_dict_round_trip(name, stride, affine):
    module, x = build(name, stride, affine), distinct(2, C, 6, 6, dtype=torch.float32)
    module(x)  # moves the running statistics
    torch.manual_seed(1)
    other = get_operation(name).build(C, stride, affine)
    other.load_state_dict(module.state_dict(), strict=True)
    torch.testing.assert_close(seeded(other.eval(), x), seeded(module.eval(), x), rtol=0, atol=0)


@every_operation
@every_stride
def test_input_is_left_as_it_was(name, stride):
    x = distinct(2, C, 4, 4, dtype=torch.float32)
    kept = x.clone()
    build(name, stride)(x)
    assert torch.equal(x, kept)


@every_operation
@every_stride
def test_tensors_can_be_written_to_in_place(name, stride):
    # DistributedDataParallel broadcasts buffers so; an expanded tensor refuses.
    for tensor in itertools.chain(build(name, stride).buffers(), build(name, stride).parameters()):
        tensor.data.copy_(tensor.data.clone())
        assert tensor.is_contiguous()


# ---- single operations against independent references ----


@every_stride
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_none_gives_zeros_whatever_comes_in(stride, bad):
    out = build("none", stride)(torch.full((1, C, 5, 5), bad))
    assert out.shape[-1] == (5 if stride == 1 else 3)
    assert torch.equal(out, torch.zeros_like(out))


@every_stride
def test_noise_is_standard_normal_whatever_comes_in(stride):
    module, x = build("noise", stride), torch.full((8, C, 65, 64), math.nan, requires_grad=True)
    one, other = module(x), module.eval()(x)
    for out in (one, other):
        assert not out.requires_grad
        assert out.mean().abs() < 0.02
        assert abs(out.std() - 1) < 0.02
    assert abs(torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1]) < 0.02


def test_skip_is_the_identity_at_stride_1():
    x = distinct(1, C, 3, 3)
    assert torch.equal(build("skip_connect")(x), x)
    assert not list(build("skip_connect").parameters())


def normalised(x):
    """Batch norm with batch statistics and no scale, written out."""
    mean = x.mean((0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt()


def convolved(x, kernel, stride, padding, dilation=1, depthwise=False):
    """A convolution as loops over the output's pixels: x (B, C, H, W), kernel (O, I, kh, kw)."""
    (b, c, h, w), (o, _, kh, kw) = x.shape, kernel.shape
    rows = (h + 2 * padding[0] - dilation * (kh - 1) - 1) // stride[0] + 1
    columns = (w + 2 * padding[1] - dilation * (kw - 1) - 1) // stride[1] + 1
    out = torch.zeros(b, o, rows, columns, dtype=x.dtype)
    for i, j, k, m in itertools.product(range(rows), range(columns), range(kh), range(kw)):
        y = i * stride[0] - padding[0] + k * dilation
        z = j * stride[1] - padding[1] + m * dilation
        if 0 <= y < h and 0 <= z < w:
            pixel, weight = x[:, :, y, z], kernel[:, :, k, m]
            out[:, :, i, j] += pixel * weight[:, 0] if depthwise else pixel @ weight.T
    assert not depthwise or o == c
    return out


def weights_of(module):
    return [m.weight for m in module.modules() if isinstance(m, nn.Conv2d)]


def pointwise(x, weight):
    return torch.einsum("bchw,oc->bohw", x, weight[:, :, 0, 0])


@every_stride
@pytest.mark.parametrize("size", [(4, 4), (5, 3)])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_separable_convolution_written_out(stride, size, kernel):
    module, x = (
        build(f"sep_conv_{kernel}x{kernel}", stride, False, 2).double(),
        distinct(2, 2, *size),
    )
    first, mix, second, mix_again = weights_of(module)
    pad = (kernel // 2,) * 2
    expected = convolved(x.relu(), first, (stride, stride), pad, depthwise=True)
    expected = normalised(pointwise(expected, mix))
    expected = convolved(expected.relu(), second, (1, 1), pad, depthwise=True)
    torch.testing.assert_close(module(x), normalised(pointwise(expected, mix_again)))


@every_stride
@pytest.mark.parametrize("size", [(6, 6), (5, 7)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_dilated_convolution_written_out(stride, size, kernel):
    module, x = (
        build(f"dil_conv_{kernel}x{kernel}", stride, False, 2).double(),
        distinct(2, 2, *size),
    )
    depthwise, mix = weights_of(module)
    pad = (2 * (kernel // 2),) * 2
    expected = convolved(x.relu(), depthwise, (stride, stride), pad, dilation=2, depthwise=True)
    torch.testing.assert_close(module(x), normalised(pointwise(expected, mix)))


@every_stride
@pytest.mark.parametrize("size", [(7, 6), (2, 5)])
def test_random_dilation_written_out(stride, size):
    """A call in train mode has one of the dilations; in eval mode it is the average of all."""
    module, x = build("random_dil_conv_3x3", stride, False, 2).double(), distinct(2, 2, *size)
    depthwise, mix = weights_of(module)
    of_dilation = [
        pointwise(convolved(x.relu(), depthwise, (stride, stride), (d, d), d, depthwise=True), mix)
        for d in (1, 2, 3)
    ]
    drawn = []
    for _ in range(60):
        out = module(x)
        found = [torch.allclose(out, normalised(expected)) for expected in of_dilation]
        drawn.append(found.index(True))
    assert all(9 <= drawn.count(d) <= 31 for d in range(3))
    module.eval()
    norm = module[-1]
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    average = sum(norm(expected) for expected in of_dilation) / 3
    torch.testing.assert_close(module(x), average)


@pytest.mark.parametrize("training", [True, False])
def test_30_selu_convolutions_keep_mean_0_and_variance_1(training):
    """On a map without a border: beyond each side is the other side, not the zero padding."""
    torch.manual_seed(0)
    x = torch.randn(16, 64, 6, 6)
    with torch.no_grad():
        for _ in range(30):
            layer = get_operation("selu_conv_3x3").build(64, 1, False).train(training)
            x = layer(nn.functional.pad(x, (1, 1, 1, 1), mode="circular"))[:, :, 1:-1, 1:-1]
    assert abs(x.mean()) < 0.05
    assert abs(x.var() - 1) < 0.1


@every_stride
def test_selu_convolution_written_out(stride):
    module, x = build("selu_conv_3x3", stride, channels=2).double(), distinct(2, 2, 5, 4)
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    active = scale * torch.where(x > 0, x, alpha * (x.exp() - 1))
    (weight,) = weights_of(module)
    expected = convolved(active, weight, (stride, stride), (1, 1))
    torch.testing.assert_close(module.eval()(x), expected)
    assert not torch.allclose(module.train()(x), expected)


@every_stride
def test_multi_residual_is_the_identity_plus_its_branches(stride):
    module, x = build("multi_residual_3x3", stride, False, 2).double(), distinct(2, 2, 5, 4)
    identity = module.paths[0](x)
    if stride == 1:
        assert torch.equal(identity, x)
    else:
        assert isinstance(module.paths[0], FactorisedReduce)
    *_, a, b, c, d = weights_of(module)
    branches = 0
    for first, second in ((a, b), (c, d)):
        inside = normalised(convolved(x.relu(), first, (stride, stride), (1, 1)))
        branches += normalised(convolved(inside.relu(), second, (1, 1), (1, 1)))
    torch.testing.assert_close(module(x) - identity, branches)
    with torch.no_grad():
        for weight in (a, b, c, d):
            weight.zero_()
    assert torch.equal(module(x), identity)


@pytest.mark.parametrize(
    ("name", "reach"),
    [("dil_conv_3x3", 2), ("dil_conv_5x5", 4), ("sep_conv_3x3", 2), ("sep_conv_5x5", 4)],
)
def test_receptive_field(name, reach):
    module = build(name, 1, False, 1).double().eval()
    for weight in weights_of(module):
        nn.init.ones_(weight)
    x = torch.ones(1, 1, 15, 15, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x)[0, 0, 7, 7], x)
    touched = gradient[0, 0].nonzero()
    assert touched.min() == 7 - reach
    assert touched.max() == 7 + reach


@every_stride
def test_factorised_convolution_written_out(stride):
    module, x = build("conv_7x1_1x7", stride, False, 2).double(), distinct(2, 2, 5, 6)
    wide, tall = weights_of(module)
    assert (wide.shape[2:], tall.shape[2:]) == ((1, 7), (7, 1))
    expected = convolved(x.relu(), wide, (1, stride), (0, 3))
    expected = convolved(expected, tall, (stride, 1), (3, 0))
    torch.testing.assert_close(module(x), normalised(expected))


@every_stride
def test_a_map_of_one_pixel_has_the_right_gradient_in_bf16(stride):
    """oneDNN's own gradient of the weights is read from memory that nobody has written."""
    torch.manual_seed(0)
    convolution = get_operation("conv_3x3").build(16, stride, False)[1]
    x = torch.randn(16, 16, 1, 1)
    [expected] = torch.autograd.grad(convolution(x).square().sum(), convolution.weight)
    for _ in range(10):
        junk = torch.full((100_000,), torch.nan)
        del junk
        with torch.autocast("cpu", torch.bfloat16):
            loss = convolution(x).float().square().sum()
        [found] = torch.autograd.grad(loss, convolution.weight)
        assert (found - expected).norm() < 0.05 * expected.norm()


@every_stride
@pytest.mark.parametrize("name", ["conv_1x1", "conv_3x3", "nor_conv_1x1", "nor_conv_3x3"])
def test_plain_convolution_written_out(stride, name):
    module, x = build(name, stride, False, 2).double(), distinct(2, 2, 5, 4)
    (weight,) = weights_of(module)
    assert weight.shape == (2, 2, int(name[-1]), int(name[-1]))
    pad = (weight.shape[-1] // 2,) * 2
    expected = convolved(x.relu(), weight, (stride, stride), pad)
    torch.testing.assert_close(module(x), normalised(expected))


@every_stride
@pytest.mark.parametrize(
    ("name", "reduce"),
    [("max_pool_3x3", lambda window: window.amax()), ("avg_pool_3x3", lambda w: w.mean())],
)
def test_pooling_looks_at_pixels_of_the_image_only(stride, name, reduce):
    x = distinct(1, 1, 5, 4) - 10  # all below zero: a padding of zeros would win
    out = build(name, stride, channels=1)(x)
    for i, j in itertools.product(range(out.shape[2]), range(out.shape[3])):
        y, z = i * stride, j * stride
        window = x[0, 0, max(y - 1, 0) : y + 2, max(z - 1, 0) : z + 2]
        torch.testing.assert_close(out[0, 0, i, j], reduce(window))


def test_blur_kernel_is_a_mean_that_removes_the_highest_frequency():
    blur = BlurPool(C, 1).double()
    torch.testing.assert_close(blur.kernel.sum((1, 2, 3)), torch.ones(C, dtype=torch.float64))
    constant = torch.full((1, C, 6, 7), 3.0, dtype=torch.float64)
    torch.testing.assert_close(blur(constant), constant)
    stripes = (-1.0) ** torch.arange(8, dtype=torch.float64)
    for pattern in (stripes.expand(8, 8), stripes[:, None].expand(8, 8), stripes.outer(stripes)):
        out = blur(pattern.expand(1, C, 8, 8))
        torch.testing.assert_close(out, torch.zeros_like(out))


@every_stride
def test_blur_written_out(stride):
    x = distinct(1, 2, 5, 4)
    weights = {-1: 0.25, 0: 0.5, 1: 0.25}

    def mirror(index, length):
        return -index if index < 0 else 2 * (length - 1) - index if index >= length else index

    out = build("blur_pool_3x3", stride, channels=2).double()(x)
    for i, j in itertools.product(range(out.shape[2]), range(out.shape[3])):
        expected = sum(
            weights[a] * weights[b] * x[0, :, mirror(i * stride + a, 5), mirror(j * stride + b, 4)]
            for a, b in itertools.product(weights, weights)
        )
        torch.testing.assert_close(out[0, :, i, j], expected)


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (3, 5), (1, 1)])
@pytest.mark.parametrize(("c_in", "c_out"), [(2, 4), (3, 5), (4, 2)])
def test_factorized_reduce_by_slices(size, c_in, c_out):
    torch.manual_seed(0)
    module, x = FactorisedReduce(c_in, c_out, affine=False).double(), distinct(2, c_in, *size)
    straight, shifted = module.straight.weight, module.shifted.weight
    rows, columns = (math.ceil(side / 2) for side in size)
    canvas = torch.zeros(2, c_in, 2 * rows, 2 * columns, dtype=torch.float64)
    canvas[:, :, : size[0], : size[1]] = x.relu()
    even, odd = canvas[:, :, 0::2, 0::2], canvas[:, :, 1::2, 1::2]
    expected = normalised(torch.cat([pointwise(even, straight), pointwise(odd, shifted)], dim=1))
    torch.testing.assert_close(module(x), expected)


def test_search_normalises_what_has_no_norm_of_its_own():
    for name in BUILT_IN:
        operation = get_operation(name)
        normed = any(isinstance(m, nn.BatchNorm2d) for m in build(name).modules())
        other = operation.kind in ("skip", "noise", "none")
        assert operation.normalise_in_search != (normed or other), name


# ---- the registry ----


def test_lists_are_sorted_and_filtered_by_kind():
    names = list_operations()
    assert names == sorted(names)
    kinds = ("convolution", "dilated", "pooling", "skip", "noise", "none")
    assert sorted(itertools.chain.from_iterable(map(list_operations, kinds))) == names
    assert list_operations("none") == ["none"]


def test_the_names_that_are_known_without_torch_are_those_that_are_registered():
    own = "darts_noise.space.operations."
    registered = {
        name: get_operation(name).kind
        for name in list_operations()
        if get_operation(name).build.__module__.startswith(own)
    }
    assert registered == BUILT_IN


def test_registers_once_under_the_builder_s_name_or_another(monkeypatch):
    monkeypatch.setattr("darts_noise.space.operations.registry._REGISTRY", dict(_REGISTRY))

    @register_operation("skip")
    def a_new_one(channels, stride, affine):
        return nn.Identity()

    assert get_operation("a_new_one").build is a_new_one
    register_operation("skip", name="the_same")(a_new_one)
    assert get_operation("the_same").build is a_new_one
    with pytest.raises(ValueError, match="'a_new_one' is registered already"):
        register_operation("skip")(a_new_one)
    with pytest.raises(ValueError, match="'none' is registered already"):
        register_operation("none", name="none")(a_new_one)
    assert "a_new_one" not in _REGISTRY


def test_unknown_kind():
    with pytest.raises(ValueError, match=r"expected a kind among convolution, .*, got 'conv'"):
        register_operation("conv")


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(
        ValueError, match=r"unknown operation 'sep_conv3x3': did you mean 'sep_conv_3x3'"
    ):
        get_operation("sep_conv3x3")


@pytest.mark.parametrize("name", [None, 3, ["none"], {"none": 1}, b"none", float("nan")])
def test_a_name_is_a_string(name):
    with pytest.raises(ValueError, match="expected the name of an operation"):
        get_operation(name)


@pytest.mark.parametrize("name", ["x" * (1 << 20), "a\nb\x00\x1b[31m", "\ud800", "\u2028"])
def test_strange_names_are_quoted_on_one_short_line(name):
    with pytest.raises(ValueError, match="unknown operation") as error:
        get_operation(name)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 600
