"""Searches and trainings on an imitated GPU: one device for all tensors, and no wait in a step."""

import pytest
import torch
from imitated_gpu import GPU, fabric, fit, imitated_gpu, in_a_child

import darts_noise as dn
from darts_noise.examine.label_complexity import predicted_losses
from darts_noise.train.loop import Recipe, each_epoch
from darts_noise.train.noise_training import TrainingSet, measure_fit

SEARCH = {"nodes": 1, "channels": 4, "num_cells": 3, "stem": "small", "noise_samples": 32}
TRAIN = {"channels": 4, "num_cells": 3, "stem": "small", "auxiliary_weight": 0.0}
AUGMENTED = {"crop_padding": 1, "flip": True, "cutout": 2}


def slow(*settings):
    return [pytest.param(each, marks=pytest.mark.slow) for each in settings]


def images(**settings):
    data = dn.ImageDataModule("digits", train_samples=120, batch_size=16, **settings)
    data.setup()
    return data


def searched(settings):
    data = images(**AUGMENTED)
    module = dn.SearchModule(dn.SearchConfig(**{"space": "darts", **SEARCH, **settings}))
    module.build(data)
    return fit(module, data), module.search_step


@pytest.mark.parametrize(
    "settings",
    [
        {"space": "bounded", "optimiser": "muon"},
        {"variants": "gdas"},
        {"objectives": {"adversarial": {}, "multiply_adds": {}, "prunability": {}}},
        *slow(
            {"space": "noise"},
            {"space": "low_pass"},
            {"space": "nas_bench_201"},
            {"supernet": "textbook"},
            {"hypergradient": "finite_difference"},
            {"hypergradient": "exact"},
            {"penalty": "gram"},
            {"penalty": "lookahead"},
            {"penalty": "shared"},
            *({"variants": name} for name in ("oles", "p_darts", "pc_darts", "reinmax", "snas")),
            *({"variants": name} for name in ("robust_darts", "smooth_darts_adversarial")),
        ),
    ],
    ids=str,
)
def test_a_search(settings):
    assert in_a_child(searched, settings) == ([], 3)


def trained(settings, of_data, precision):
    data, module = images(**of_data), dn.TrainModule(dn.TrainConfig(**TRAIN, **settings))
    module.build(dn.load_pretrained("digits").genotype, data.num_classes, data.in_channels)
    return fit(module, data, precision=precision)


@pytest.mark.parametrize(
    ("settings", "of_data"),
    [
        ({"drop_path": 0.2, "mixup": 0.4, "cutmix": 0.3, "ema_decay": 0.9}, AUGMENTED),
        ({"optimiser": "muon"}, {}),
        ({"adversarial_eps": 0.03, "adversarial_steps": 2}, {}),
        ({"noisy_labels": "co_teaching"}, {"wrong_labels": 0.2}),
        ({"noisy_labels": "small_loss", "optimiser": "adam"}, {"wrong_labels": 0.2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("precision", ["32-true", *slow("bf16-mixed")])
def test_a_training(settings, of_data, precision):
    assert in_a_child(trained, settings, of_data, precision) == []


def measured(optimiser):
    data, size = images(), {"num_classes": 10, "in_channels": 1, "channels": 4, "num_cells": 3}
    task = TrainingSet("noise", data.train, data.normalisation, 16, 2.0, each_epoch)

    def make():
        return dn.create_model("darts_v2", **size)

    with imitated_gpu():
        recipe = Recipe(optimiser, 0.1, 3)
        return measure_fit(make, task, recipe, fabric(), network="net", seed=0, base_seed=0)


def predicted():
    with imitated_gpu():
        kernel = torch.eye(4, dtype=torch.float64, device=GPU)
        return len(predicted_losses(kernel, kernel[0], 0.1, 3))


def test_a_prediction_from_a_tangent_kernel():
    assert in_a_child(predicted) == 4


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "muon"])
def test_a_measurement_of_noise_fit(optimiser):
    assert in_a_child(measured, optimiser).epochs == 3
