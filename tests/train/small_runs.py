"""Networks of a few cells and runs of a few steps, for the tests of the training."""

import pytorch_lightning as pl
import torch

import darts_noise as dn

SMALL = {"channels": 4, "num_cells": 3, "stem": "small", "auxiliary_weight": 0.0}
ONE_NODE = dn.Genotype(
    normal=[[["dil_conv_3x3", 0], ["skip_connect", 1]]],
    normal_concat=[2],
    reduce=[[["max_pool_3x3", 0], ["dil_conv_3x3", 1]]],
    reduce_concat=[2],
)


def small_module(genotype="darts_v1", num_classes=10, in_channels=1, **settings):
    torch.manual_seed(0)
    module = dn.TrainModule(**{**SMALL, **settings})
    return module.build(dn.load_genotype(genotype), num_classes, in_channels)


def small_trainer(epochs=2, callbacks=(), **settings):
    checkpoints = any(isinstance(c, pl.callbacks.ModelCheckpoint) for c in callbacks)
    return pl.Trainer(
        **{
            "max_epochs": epochs,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": checkpoints,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "callbacks": list(callbacks),
            **settings,
        }
    )


def weights(module):
    """Copies of all weights and BN statistics of the network, by name."""
    return {k: v.clone() for k, v in module.net.state_dict().items()}


def assert_equal_weights(a, b, **tolerance):
    """Equality of all floating-point entries; exact unless a tolerance is given."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        if value.is_floating_point():
            tolerance = tolerance or {"rtol": 0, "atol": 0}
            torch.testing.assert_close(
                value, b[name], msg=lambda m, n=name: f"{n}: {m}", **tolerance
            )
