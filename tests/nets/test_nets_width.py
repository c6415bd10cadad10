"""The width at which a network has a given number of parameters."""

import pytest

from darts_noise.nets import width
from darts_noise.nets.stems import STEMS
from darts_noise.space.genotype import Genotype
from darts_noise.space.macro import MACRO
from darts_noise.space.published import load_genotype

CONVOLUTIONS = [[("conv_3x3", 0), ("conv_3x3", 1)]]


@pytest.mark.parametrize("macro", [{}, {"normalisation": "none", "input_filter": "blur_3x3"}])
def test_the_networks_that_are_counted_take_no_memory(macro, monkeypatch):
    made, create_model = [], width.create_model

    def kept(*args, **form):
        made.append(create_model(*args, **form))
        return made[-1]

    monkeypatch.setattr(width, "create_model", kept)
    genotype = load_genotype("darts_v2")
    genotype.macro.update(macro)
    with pytest.raises(ValueError, match=r"parameters: expected about .* got 100,000,000,000"):
        width.channels_for(genotype, 10**11, num_cells=3)
    assert all(p.is_meta for net in made for p in net.parameters())


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("factor", MACRO["width"])
def test_every_stem_and_width_has_a_network_of_this_size(stem, factor):
    genotype = Genotype(CONVOLUTIONS, [2], CONVOLUTIONS, [2], macro={"width": factor})
    form = {"num_cells": 3, "stem": stem}
    channels = width.channels_for(genotype, 60_000, **form, auxiliary=stem == "cifar")
    count = width.parameter_count(genotype, **form)
    assert abs(count(channels) - 60_000) < abs(count(channels + 1) - 60_000) + 1
    least = width.narrowest(genotype, stem)
    width.create_model(genotype, **form, channels=least)
    with pytest.raises(ValueError, match=r"channels|parameters"):
        width.create_model(genotype, **form, channels=least - 1)


@pytest.mark.parametrize(
    ("choice", "value"), [(name, value) for name, values in MACRO.items() for value in values]
)
def test_the_count_is_that_of_the_network_for_every_macro_choice(choice, value):
    genotype = Genotype(
        CONVOLUTIONS, [2], CONVOLUTIONS, [2], macro={"gain": "bounded", choice: value}
    )
    counted = width.parameter_count(genotype, num_cells=3, stem="small")(6)
    net = width.create_model(genotype, num_cells=3, stem="small", channels=6)
    assert counted == sum(p.numel() for p in net.parameters())
