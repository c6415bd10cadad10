"""The width at which a network has a given number of parameters."""

import pytest

from darts_noise.nets import width
from darts_noise.space.published import load_genotype


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
