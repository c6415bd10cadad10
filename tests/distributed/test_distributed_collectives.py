"""Averages and batch norm of two processes equal those of one process with all values."""

from pathlib import Path
from typing import NoReturn

import pytest
import torch
import torch.nn.functional as F
from imitated_gpu import GPU, imitated_gpu
from torch import Tensor
from two_processes import alone_in_a_group, in_two_processes

from darts_noise.distributed import collectives
from darts_noise.distributed.agreement import OutOfStepError, checksum, require_agreement
from darts_noise.distributed.batch_norm import synchronised_batch_norm

PARTS = [slice(0, 2), slice(2, 7)]  # unequal


def images() -> Tensor:
    # A mean that is large beside the deviation, in which a sum of squares would lose the variance.
    return 100 + torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def normalised(x: Tensor, synchronised: bool) -> list[Tensor]:
    """The output, a second derivative of its fourth powers, and the running statistics."""
    x = x.clone().requires_grad_()
    mean, variance = torch.zeros(3), torch.ones(3)
    scale = torch.tensor([1.0, 2.0, 3.0])
    norm = synchronised_batch_norm if synchronised else _plain
    y = norm(x, mean, variance, scale, scale, 0.1, 1e-5)
    [first] = torch.autograd.grad(y.pow(4).sum(), x, create_graph=True)
    [second] = torch.autograd.grad(first.pow(2).sum(), x)
    return [y.detach(), first.detach(), second, mean, variance]


def _plain(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, m: float, eps: float
) -> Tensor:
    return F.batch_norm(x, mean, variance, weight, bias, True, m, eps)


def normalised_part() -> list[Tensor]:
    return normalised(images()[PARTS[collectives.process_rank()]], True)


def test_batch_norm_over_processes_is_that_of_the_whole_batch(tmp_path: Path) -> None:
    whole = normalised(images(), False)
    first, second = in_two_processes(normalised_part, tmp_path)
    for k, tolerance in ((0, 1e-4), (1, 1e-3), (2, 1e-2)):
        together = torch.cat([first[k], second[k]])
        torch.testing.assert_close(together, whole[k], rtol=tolerance, atol=tolerance)
    for k in (3, 4):
        torch.testing.assert_close(first[k], whole[k])
        assert torch.equal(first[k], second[k])


def test_batch_norm_over_processes_never_waits_for_a_gpu() -> None:
    with imitated_gpu() as gpu:
        x, mean, variance = images().to(GPU), *torch.ones(2, 3).to(GPU)
        gpu.waits.clear()
        synchronised_batch_norm(x, mean, variance, None, None, 0.1, 1e-5)
        assert gpu.waits == []


def of_a_step() -> list[Tensor]:
    """The gradient in a of mean_r (a · x_r − η ∂_w mean_r (w · a² · x_r))², with w in between."""
    x = torch.tensor([1.0, 3.0])[collectives.process_rank()]
    a, w = torch.tensor(2.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    [inner] = torch.autograd.grad(w * a**2 * x, w, create_graph=True)
    [inner] = collectives.average_over_processes([inner])
    outer = (a * x - 0.5 * inner).square()
    return collectives.average_over_processes(torch.autograd.grad(outer, a))


def test_an_average_is_differentiated_through(tmp_path: Path) -> None:
    a = torch.tensor(2.0, requires_grad=True)
    x = torch.tensor([1.0, 3.0])
    (a * x - 0.5 * a**2 * x.mean()).square().mean().backward()
    for [found] in in_two_processes(of_a_step, tmp_path):
        torch.testing.assert_close(found, a.grad)


def told() -> list[str]:
    """What each process says of agreements and of what only the first makes."""
    rank = collectives.process_rank()
    said = []
    same, other = torch.ones(3), torch.ones(3)
    other[1] += rank * 1e-7  # the least that float32 can differ
    require_agreement({"α": [same], "w": [same, same]}, 0)
    try:
        require_agreement({"α": [same], "v": [same, other]}, 41)
    except OutOfStepError as error:
        said.append(str(error))

    def refuse() -> None:
        raise FileExistsError("taken")

    try:
        collectives.on_first_process(refuse)
    except (FileExistsError, collectives.CollectiveError) as error:
        said.append(f"{type(error).__name__}: {error}")
    said.append(str(collectives.on_first_process(lambda: f"made by {rank}")))
    said.append(str(collectives.from_every_process(rank)))
    answers = torch.tensor([True, rank == 0, False])
    said.append(str(collectives.true_everywhere(answers).tolist()))
    return said


def test_processes_tell_each_other_what_differs_and_what_failed(tmp_path: Path) -> None:
    first, second = in_two_processes(told, tmp_path)
    assert first[0] == second[0]
    assert first[0].startswith("the 2 processes hold different v after step 42: ")
    assert (first[1], second[1]) == ("FileExistsError: taken", "CollectiveError: taken")
    for said in (first, second):
        assert said[2:] == ["made by 0", "[0, 1]", "[True, False, False]"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_checksum_tells_swapped_tensors_and_signs_of_zero(dtype: torch.dtype) -> None:
    a, b = torch.ones(2, dtype=dtype), torch.zeros(2, dtype=dtype)
    assert checksum([a, b]) == checksum([a.clone(), b.clone()])
    assert checksum([a, b]) != checksum([b, a])
    assert checksum([a, b]) != checksum([a, -b])


def test_alone_nothing_is_asked_of_torch_distributed() -> None:
    x = torch.ones(2, requires_grad=True)
    assert collectives.average_over_processes([x])[0] is x
    assert collectives.on_first_process(lambda: 3) == 3
    assert collectives.from_every_process(4) == [4]
    require_agreement({"α": [x]}, 0)


def test_a_group_of_one_is_asked_as_one_of_many_is(
    device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told that they are two, each function goes through the backend."""
    x, scale = images().to(device), torch.ones(3, device=device)
    expected = F.batch_norm(x, None, None, scale, scale, True, 0.1, 1e-5)
    w = torch.tensor([1.0, 3.0], device=device, requires_grad=True)
    monkeypatch.setattr(collectives, "process_count", lambda: 2)
    with alone_in_a_group(device):
        found = synchronised_batch_norm(x, scale.clone(), scale.clone(), scale, scale, 0.1, 1e-5)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        [half] = collectives.average_over_processes([w.square()])
        [slope] = torch.autograd.grad(half.sum(), w, create_graph=True)
        assert torch.equal(slope, w)
        assert torch.autograd.grad(slope.sum(), w)[0].tolist() == [1.0, 1.0]
        assert collectives.true_everywhere(w > 2).tolist() == [False, True]
        assert collectives.on_first_process(lambda: {"made": 1}) == {"made": 1}
        assert collectives.from_every_process("said")[0] == "said"


def without_the_other() -> str | None:
    """What the first process finds when the second has left; the second has nothing to say."""
    total = torch.ones(1)
    collectives.average_over_processes([total])
    if collectives.process_rank() == 1:
        return None
    with pytest.raises(RuntimeError) as lost:
        average_for_ever(total)
    return collectives.lost_process(lost.value)


def average_for_ever(x: Tensor) -> NoReturn:
    while True:
        collectives.average_over_processes([x])


def test_a_process_that_has_ended_is_one_line_in_the_others(tmp_path: Path) -> None:
    first, _ = in_two_processes(without_the_other, tmp_path)
    assert first.startswith("process 0 of 2: another process has ended")
    assert collectives.lost_process(RuntimeError("Connection closed by peer")) is None  # alone
