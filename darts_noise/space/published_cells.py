"""Published cells as data, with the parameter counts that the papers print.

To add a cell, add an entry to `CELLS`. Predecessor 0 is the output of the cell before the last;
predecessor 1 is the output of the last cell. Each cell is copied from the repository that its
source names.
"""

from dataclasses import dataclass

from darts_noise.space.genotype import Cell


@dataclass(frozen=True)
class PrintedCount:
    """The number of parameters that a paper prints for a network of a cell.

    Attributes:
        millions: millions of parameters as printed, without the auxiliary head.
        channels: channels of the first cell's states.
        num_cells: number of cells.
        stem: ``cifar`` or ``imagenet``.
        num_classes: size of the last layer.
        differs: the reason why a network of this package has another number. Empty: the numbers
            agree.
    """

    millions: float
    channels: int
    num_cells: int
    stem: str
    num_classes: int
    differs: str = ""


@dataclass(frozen=True)
class PublishedCell:
    """A cell with its name, its source (paper; repository) and the printed parameter counts.

    See `Genotype` for the other attributes.
    """

    name: str
    source: str
    normal: Cell
    normal_concat: tuple[int, ...]
    reduce: Cell
    reduce_concat: tuple[int, ...]
    printed: tuple[PrintedCount, ...] = ()


def _cifar10(millions: float, differs: str = "") -> PrintedCount:
    return PrintedCount(millions, 36, 20, "cifar", 10, differs)


def _imagenet(millions: float, channels: int = 48) -> PrintedCount:
    return PrintedCount(millions, channels, 14, "imagenet", 1000)


ALL = (2, 3, 4, 5)

CELLS = (
    PublishedCell(
        name="nasnet",
        source="NASNet-A (Zoph et al. 2018, arXiv:1707.07012; quark0/darts)",
        normal=(
            (("sep_conv_5x5", 1), ("sep_conv_3x3", 0)),
            (("sep_conv_5x5", 0), ("sep_conv_3x3", 0)),
            (("avg_pool_3x3", 1), ("skip_connect", 0)),
            (("avg_pool_3x3", 0), ("avg_pool_3x3", 0)),
            (("sep_conv_3x3", 1), ("skip_connect", 1)),
        ),
        normal_concat=(2, 3, 4, 5, 6),
        reduce=(
            (("sep_conv_5x5", 1), ("sep_conv_7x7", 0)),
            (("max_pool_3x3", 1), ("sep_conv_7x7", 0)),
            (("avg_pool_3x3", 1), ("sep_conv_5x5", 0)),
            (("skip_connect", 3), ("avg_pool_3x3", 2)),
            (("sep_conv_3x3", 2), ("max_pool_3x3", 1)),
        ),
        reduce_concat=(4, 5, 6),
        printed=(
            # Table 1 of DARTS, "obtained by training the corresponding architectures using our
            # setup". The NASNet paper prints 3.3 and 5.3 million for another skeleton.
            _cifar10(3.1, differs="DARTS prints no width; 36 channels give 3.8, 32 give 3.1"),
        ),
    ),
    PublishedCell(
        name="amoebanet",
        source="AmoebaNet-A (Real et al. 2019, arXiv:1802.01548; quark0/darts)",
        normal=(
            (("avg_pool_3x3", 0), ("max_pool_3x3", 1)),
            (("sep_conv_3x3", 0), ("sep_conv_5x5", 2)),
            (("sep_conv_3x3", 0), ("avg_pool_3x3", 3)),
            (("sep_conv_3x3", 1), ("skip_connect", 1)),
            (("skip_connect", 0), ("avg_pool_3x3", 1)),
        ),
        normal_concat=(4, 5, 6),
        reduce=(
            (("avg_pool_3x3", 0), ("sep_conv_3x3", 1)),
            (("max_pool_3x3", 0), ("sep_conv_7x7", 2)),
            (("sep_conv_7x7", 0), ("avg_pool_3x3", 1)),
            (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            (("conv_7x1_1x7", 0), ("sep_conv_3x3", 5)),
        ),
        reduce_concat=(3, 4, 6),
        printed=(
            # Table 1 of DARTS, trained in its setup. The AmoebaNet paper prints 3.2 and 5.1 million
            # for another skeleton.
            _cifar10(3.1),
        ),
    ),
    PublishedCell(
        name="darts_v1",
        source="DARTS, version 1 (Liu et al. 2018, arXiv:1806.09055; quark0/darts)",
        normal=(
            (("sep_conv_3x3", 1), ("sep_conv_3x3", 0)),
            (("skip_connect", 0), ("sep_conv_3x3", 1)),
            (("skip_connect", 0), ("sep_conv_3x3", 1)),
            (("sep_conv_3x3", 0), ("skip_connect", 2)),
        ),
        normal_concat=ALL,
        reduce=(
            (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            (("skip_connect", 2), ("max_pool_3x3", 0)),
            (("max_pool_3x3", 0), ("skip_connect", 2)),
            (("skip_connect", 2), ("avg_pool_3x3", 0)),
        ),
        reduce_concat=ALL,
        printed=(
            # The best cell in the first release of the authors' code. Some papers call it the
            # first-order cell, but the DARTS paper draws no first-order cell to compare it with.
            _cifar10(3.3, differs="the paper's first-order row; this cell gives 3.2"),
        ),
    ),
    PublishedCell(
        name="darts_v2",
        source="DARTS, second order (Liu et al. 2019, arXiv:1806.09055; quark0/darts)",
        normal=(
            (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)),
            (("sep_conv_3x3", 1), ("skip_connect", 0)),
            (("skip_connect", 0), ("dil_conv_3x3", 2)),
        ),
        normal_concat=ALL,
        reduce=(
            (("max_pool_3x3", 0), ("max_pool_3x3", 1)),
            (("skip_connect", 2), ("max_pool_3x3", 1)),
            (("max_pool_3x3", 0), ("skip_connect", 2)),
            (("skip_connect", 2), ("max_pool_3x3", 1)),
        ),
        reduce_concat=ALL,
        printed=(
            _cifar10(3.3),
            _imagenet(4.7),
        ),
    ),
    PublishedCell(
        name="pc_darts_cifar",
        source="PC-DARTS on CIFAR-10 (Xu et al. 2020, arXiv:1907.05737; yuhuixu1993/PC-DARTS)",
        normal=(
            (("sep_conv_3x3", 1), ("skip_connect", 0)),
            (("sep_conv_3x3", 0), ("dil_conv_3x3", 1)),
            (("sep_conv_5x5", 0), ("sep_conv_3x3", 1)),
            (("avg_pool_3x3", 0), ("dil_conv_3x3", 1)),
        ),
        normal_concat=ALL,
        reduce=(
            (("sep_conv_5x5", 1), ("max_pool_3x3", 0)),
            (("sep_conv_5x5", 1), ("sep_conv_5x5", 2)),
            (("sep_conv_3x3", 0), ("sep_conv_3x3", 3)),
            (("sep_conv_3x3", 1), ("sep_conv_3x3", 2)),
        ),
        reduce_concat=ALL,
        printed=(
            _cifar10(3.6),
            _imagenet(5.3),
        ),
    ),
    PublishedCell(
        name="pc_darts_imagenet",
        source="PC-DARTS on ImageNet (Xu et al. 2020, arXiv:1907.05737; yuhuixu1993/PC-DARTS)",
        normal=(
            (("skip_connect", 1), ("sep_conv_3x3", 0)),
            (("sep_conv_3x3", 0), ("skip_connect", 1)),
            (("sep_conv_3x3", 1), ("sep_conv_3x3", 3)),
            (("sep_conv_3x3", 1), ("dil_conv_5x5", 4)),
        ),
        normal_concat=ALL,
        reduce=(
            (("sep_conv_3x3", 0), ("skip_connect", 1)),
            (("dil_conv_5x5", 2), ("max_pool_3x3", 1)),
            (("sep_conv_3x3", 2), ("sep_conv_3x3", 1)),
            (("sep_conv_5x5", 0), ("sep_conv_3x3", 3)),
        ),
        reduce_concat=ALL,
        printed=(_imagenet(5.3),),
    ),
    PublishedCell(
        name="gdas",
        source="GDAS (Dong & Yang 2019, arXiv:1910.04465; D-X-Y/AutoDL-Projects)",
        normal=(
            (("skip_connect", 0), ("skip_connect", 1)),
            (("skip_connect", 0), ("sep_conv_5x5", 2)),
            (("sep_conv_3x3", 3), ("skip_connect", 0)),
            (("sep_conv_5x5", 4), ("sep_conv_3x3", 3)),
        ),
        normal_concat=ALL,
        reduce=(
            (("sep_conv_5x5", 0), ("sep_conv_3x3", 1)),
            (("sep_conv_5x5", 2), ("sep_conv_5x5", 1)),
            (("dil_conv_5x5", 2), ("sep_conv_3x3", 1)),
            (("sep_conv_5x5", 0), ("sep_conv_5x5", 1)),
        ),
        reduce_concat=ALL,
        printed=(
            _cifar10(3.4),
            _imagenet(5.3, channels=50),
        ),
    ),
    PublishedCell(
        name="p_darts",
        source="P-DARTS on CIFAR-10 (Chen et al. 2019, arXiv:1904.12760; chenxin061/pdarts)",
        normal=(
            (("skip_connect", 0), ("dil_conv_3x3", 1)),
            (("skip_connect", 0), ("sep_conv_3x3", 1)),
            (("sep_conv_3x3", 1), ("sep_conv_3x3", 3)),
            (("sep_conv_3x3", 0), ("dil_conv_5x5", 4)),
        ),
        normal_concat=ALL,
        reduce=(
            (("avg_pool_3x3", 0), ("sep_conv_5x5", 1)),
            (("sep_conv_3x3", 0), ("dil_conv_5x5", 2)),
            (("max_pool_3x3", 0), ("dil_conv_3x3", 1)),
            (("dil_conv_3x3", 1), ("dil_conv_5x5", 3)),
        ),
        reduce_concat=ALL,
        printed=(
            _cifar10(3.4),
            _imagenet(4.9),
        ),
    ),
)
