"""Genotypes as papers and logs print them are read as data and written again."""

from collections import namedtuple

import numpy as np
import pytest

from darts_noise.space.genotype import Genotype
from darts_noise.space.genotype_text import STYLES
from darts_noise.space.published import list_genotypes, load_genotype

DARTS_V2 = load_genotype("darts_v2")
# As in the README's results and the logs of quark0/darts.
FLAT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat={0}, reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), "
    "('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), "
    "('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat={0})"
)
# One node of each kind in the forms of other projects; all mean the same cells.
TWO = Genotype(
    normal=[[("skip_connect", 0), ("sep_conv_3x3", 1)], [("sep_conv_5x5", 2), ("none", 0)]],
    normal_concat=[2, 3],
    reduce=[[("max_pool_3x3", 0), ("max_pool_3x3", 1)], [("skip_connect", 2), ("none", 1)]],
    reduce_concat=[2, 3],
)
BENCH = "|nor_conv_3x3~0|+|none~0|nor_conv_1x1~1|+|skip_connect~0|none~1|avg_pool_3x3~2|"
NamedGenotype = namedtuple("NamedGenotype", "normal normal_concat reduce reduce_concat connects")


@pytest.mark.parametrize("concat", ["range(2, 6)", "[2, 3, 4, 5]", "list(range(2, 6))", "None"])
@pytest.mark.parametrize(
    "line", ["{}", "DARTS_V2 = {}", "2019-01-01 10:00:00 genotype = {}\n", "{}  # (a)"]
)
def test_the_text_of_darts_is_read(concat, line):
    assert load_genotype(line.format(FLAT.format(concat))) == DARTS_V2


def edges(form: str) -> str:
    return form.format(
        *["('skip_connect', 0", "('sep_conv_3x3', 1", "('sep_conv_5x5', 2", "('none', 0"],
        *["('max_pool_3x3', 0", "('max_pool_3x3', 1", "('skip_connect', 2", "('none', 1"],
    )


@pytest.mark.parametrize(
    "form",
    [
        "normal=[[{}), {})], [{}), {})]], reduce=(({}), {})), ({}), {})))",  # nested
        "normal=[{}, 2), {}, 2), {}, 3), {}, 3)], reduce=[{}, 0), {}, 0), {}, 1), {}, 1)]",
        "normal=(({}, 0.13), {}, 0.12)), ({}, 0.1), {}, 1e-1))), normal_concat=None, "
        "reduce=(({}, -0.5), {}, 1.0)), ({}, 0.1), {}, 0.2))), connects=None",  # GDAS
        "normal=[{}, tensor(0.1)), {}, 0.2), {}, 0.3), {}, np.float32(0.4))], "
        "reduce=[{}), {}), {}), {})]",
    ],
)
def test_the_forms_of_other_projects_are_read(form):
    assert load_genotype(f"Genotype({edges(form)})") == TWO


def test_a_named_tuple_is_read():
    normal = [
        [("skip_connect", np.int64(0)), ("sep_conv_3x3", 1)],
        [("sep_conv_5x5", 2), ("none", 0)],
    ]
    reduce = [("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("none", 1)]
    named = NamedGenotype(normal, range(2, 4), reduce, {2, 3}, None)
    assert load_genotype(named) == TWO
    assert load_genotype(repr(named._replace(reduce_concat=[2, 3]))) == TWO


def test_a_cell_of_nas_bench_201_is_read():
    genotype = load_genotype(BENCH)
    # Its only input is the last block's output, and its output is its last node.
    assert genotype.normal[2] == (("skip_connect", 1), ("none", 2), ("avg_pool_3x3", 3))
    assert genotype.normal_concat == (4,)
    assert genotype.reduce == genotype.normal
    assert load_genotype(f"Structure(4 nodes with {BENCH})") == genotype


def test_a_log_gives_its_last_genotype(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text(
        f"epoch 0 {TWO.to_text()}\nepoch 1 genotype = {FLAT.format('range(2, 6)')}\nend\n"
    )
    assert load_genotype(log) == DARTS_V2
    log.write_text("Genotype(normal=[('conv_9x9', 0), ('conv_9x9', 1)], reduce=[])")
    with pytest.raises(
        ValueError, match=r"log.txt: normal\[0\]\[0\]: unknown operation 'conv_9x9'"
    ):
        load_genotype(log)


@pytest.mark.parametrize("style", STYLES)
def test_each_style_is_read_again(style):
    genotypes = [load_genotype(name) for name in list_genotypes()]
    genotypes = [load_genotype(BENCH)] if style == "nas_bench_201" else [*genotypes, TWO]
    for genotype in genotypes:
        assert load_genotype(genotype.to_text(style)) == genotype


def test_a_style_that_loses_something_is_refused():
    with pytest.raises(ValueError, match="did you mean 'nested'"):
        DARTS_V2.to_text("nestd")
    with pytest.raises(ValueError, match=r"expected two edges per node, got 1 in normal\[0\]"):
        load_genotype(BENCH).to_text("flat")
    with pytest.raises(ValueError, match="nas_bench_201: expected two equal cells"):
        DARTS_V2.to_text("nas_bench_201")
    macro = Genotype(TWO.normal, [2, 3], TWO.reduce, [2, 3], macro={"width": 0.5})
    with pytest.raises(ValueError, match="macro"):
        macro.to_text("nested")


@pytest.mark.parametrize(
    "text",
    [
        "Genotype(normal=__import__('os').system('true'), reduce=[])",
        "Genotype(normal=[('skip_connect', 0), open('x')], reduce=[])",
        "Genotype(normal=[x for x in ()], reduce=[])",
        "Genotype(**{'normal': []})",
        "Genotype(normal=[('skip_connect', 0)], reduce=[('skip_connect', 0)])",
        "Genotype(normal=[('skip_connect', 0, 5), ('skip_connect', 1, 2)], reduce=[])",
        "Genotype(normal=range(0, 10**9), reduce=[])",
        "Genotype(normal=[('skip_connect', 0, 0), ('skip_connect', 1, 99999999999)], reduce=[])",
        "Genotype(normal=range(0, 1, 0), reduce=[])",
        "Genotype(normal=[], normal_concat=range(1000000000000), reduce=[])",
        "Genotype(normal=[('skip_connect', 0)",
        "Genotype()",
        "Genotype(normal=[], reduce=[], surprise=[1])",
        "Genotype(normal=[('skip_connect', [0]), ('skip_connect', 1)], reduce=[])",
        "Genotype(" + "[" * 5000 + "]" * 5000 + ")",
        "Genotype(" + "-" * 50000 + "1)",
        "|nor_conv_3x3~99999999999999999999999999|",
        "Genotype(normal=[('skip_connect', 0), \x00], reduce=[])",
    ],
)
def test_anything_else_is_one_line_and_runs_nothing(text):
    with pytest.raises(ValueError, match=r"\w") as error:
        load_genotype(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def test_a_range_that_makes_no_step_is_refused():
    with pytest.raises(ValueError, match="expected a step other than 0"):
        load_genotype("Genotype(normal=range(0, 1, 0), reduce=[])")
