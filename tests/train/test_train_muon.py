"""Muon orthogonalises steps, and agrees with torch's optimisers where they do the same."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import Adam, Optimizer

import darts_noise as dn
from darts_noise.finite import FiniteCheck, make_guardable
from darts_noise.train.muon import BIASES, Muon, orthogonalised


@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 6), (1, 5)])
def test_keeps_the_singular_vectors_and_makes_the_values_about_equal(shape: tuple[int, int]):
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    values = torch.linspace(1.0, 0.2, min(shape))
    found = left.T @ orthogonalised(left @ values.diag() @ right) @ right.T
    off_diagonal = found - found.diag().diag()
    assert off_diagonal.abs().max() < 1e-5
    assert ((found.diag() > 0.6) & (found.diag() < 1.25)).all()


def stepped(optimiser: torch.optim.Optimizer, weight: nn.Parameter, steps: int = 6) -> torch.Tensor:
    for k in range(steps):
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(k))
        optimiser.step()
    return weight.detach()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("shape", [(4, 9), (9, 4)])
def test_matrices_step_as_with_torch(shape: tuple[int, int], decay: float):
    mine, other = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    ours = stepped(Muon([mine], 0.1, weight_decay=decay), mine)
    theirs = stepped(torch.optim.Muon([other], 0.1, weight_decay=decay, momentum=0.95), other)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)  # torch iterates in bfloat16


def test_a_kernel_is_a_matrix_with_a_row_for_each_output_channel():
    kernel, matrix = nn.Parameter(torch.ones(4, 3, 2, 2)), nn.Parameter(torch.ones(4, 12))
    for k in range(3):
        gradient = torch.randn(4, 12, generator=torch.Generator().manual_seed(k))
        kernel.grad, matrix.grad = gradient.view(4, 3, 2, 2), gradient
        kernel.grad = kernel.grad.to(memory_format=torch.channels_last)
    for weight in (kernel, matrix):
        Muon([weight], 0.1).step()
    torch.testing.assert_close(kernel.detach().flatten(1), matrix.detach())


@pytest.mark.parametrize("shape", [(5,), (5, 1, 1)])
def test_biases_step_as_with_adam(shape: tuple[int, ...]):
    mine, other = (nn.Parameter(torch.ones(shape)) for _ in range(2))
    ours = stepped(Muon([mine], 1.0), mine)
    torch.testing.assert_close(ours, stepped(Adam([other], BIASES), other))


def test_a_loaded_state_continues():
    weights = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3))]
    copies = [nn.Parameter(weight.detach().clone()) for weight in weights]
    optimisers = make_guardable(Muon(weights)), make_guardable(Muon(copies))  # as a search does

    def step(optimiser: Optimizer, parameters: list[nn.Parameter], k: int) -> None:
        for weight in parameters:
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(k))
        optimiser.step()

    step(optimisers[0], weights, 0)
    for same, weight in zip(copies, weights, strict=True):
        same.data.copy_(weight.data)
    optimisers[1].load_state_dict(copy.deepcopy(optimisers[0].state_dict()))
    for optimiser, parameters in zip(optimisers, (weights, copies), strict=True):
        step(optimiser, parameters, 1)
    for same, weight in zip(copies, weights, strict=True):
        assert same.equal(weight)


def test_a_step_after_a_failed_check_changes_nothing():
    """On CUDA, the check is read after the step."""
    weights = [nn.Parameter(torch.ones(3, 4)), nn.Parameter(torch.ones(3))]
    optimiser, check = Muon(weights), FiniteCheck("")
    for bad in (1.0, 0.0):
        check._found = torch.tensor(bad)
        check.guard(optimiser)
        for weight in weights:
            weight.grad = torch.full_like(weight, torch.nan if bad else 1.0)
        optimiser.step()
        optimiser.state.clear()
        assert all(weight.eq(1).all() == bool(bad) for weight in weights)


def test_the_grid_has_each_rate_of_each_optimiser():
    grid = dn.NoiseGrid((0.1,), (1e-3,), seeds=1, scales=(1,), muon_rates=(0.02, 0.05))
    points = [(point.optimiser, point.learning_rate) for point in grid]
    assert points == [("sgd", 0.1), ("adam", 1e-3), ("muon", 0.02), ("muon", 0.05)]
    assert len(grid) == 4


def test_a_step_that_is_skipped_does_not_decay_the_weights_either():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    rule = Muon([weight], lr=0.1, weight_decay=0.5)
    weight.grad = torch.ones(2, 2)
    rule.found_inf = torch.tensor(1.0)
    rule.step()
    assert torch.equal(weight.data, torch.ones(2, 2))
