"""Every published cell as a network: it trains, and has the number of parameters of its paper."""

import pytest
import torch

import darts_noise as dn
from darts_noise.space.published import printed_counts

EXACT = [(n, c) for n in dn.list_genotypes() for c in printed_counts(n) if not c.differs]
DIFFERENT = [(n, c) for n in dn.list_genotypes() for c in printed_counts(n) if c.differs]


def millions(name, count):
    with torch.device("meta"):
        net = dn.create_model(
            name,
            channels=count.channels,
            num_cells=count.num_cells,
            stem=count.stem,
            num_classes=count.num_classes,
        )
    return round(sum(p.numel() for p in net.parameters()) / 1e6, 1)


@pytest.mark.parametrize(("name", "count"), EXACT, ids=[f"{n}-{c.stem}" for n, c in EXACT])
def test_parameter_count_is_the_printed_one(name, count):
    assert millions(name, count) == count.millions


@pytest.mark.parametrize(("name", "count"), DIFFERENT, ids=[n for n, _ in DIFFERENT])
def test_a_count_said_to_differ_does(name, count):
    assert millions(name, count) != count.millions
    assert f"{millions(name, count)}" in count.differs


@pytest.mark.parametrize("name", dn.list_genotypes())
@pytest.mark.parametrize(("stem", "side"), [("small", 8), ("cifar", 9), ("imagenet", 40)])
def test_every_parameter_gets_a_gradient(name, stem, side):
    torch.manual_seed(0)
    net = dn.create_model(name, num_classes=3, channels=2, num_cells=4, stem=stem, drop_path=0.1)
    logits = net(torch.randn(4, 3, side, side))
    assert logits.shape == (4, 3)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    for parameter_name, parameter in net.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", dn.list_genotypes())
def test_output_is_as_wide_as_the_states_it_concatenates(name):
    genotype = dn.load_genotype(name)
    net = dn.create_model(genotype, channels=4, num_cells=3, stem="small").eval()
    # Cells: normal, reduction, reduction.
    first = net.cells[0](*net.stem(torch.randn(1, 3, 8, 8)))
    assert first.shape == (1, 4 * len(genotype.normal_concat), 8, 8)
    second = net.cells[1](net.stem(torch.randn(1, 3, 8, 8))[1], first)
    assert second.shape == (1, 8 * len(genotype.reduce_concat), 4, 4)
