"""Macro choices as data: what is allowed, what a genotype stores, what a space may search."""

import pytest

import darts_noise as dn
from darts_noise.space.macro import MACRO, check_macro
from darts_noise.space.spaces import Space, get_space

CELL = [[("sep_conv_3x3", 0), ("skip_connect", 1)]]


def genotype(**macro):
    return dn.Genotype(CELL, [2], CELL, [2], macro=macro)


def test_a_genotype_keeps_its_choices_in_json(tmp_path):
    found = genotype(normalisation="none", width=0.5)
    found.to_json(tmp_path / "g.json")
    again = dn.Genotype.from_json(tmp_path / "g.json")
    assert again == found
    assert again.macro == {"normalisation": "none", "width": 0.5}
    assert again != genotype()
    assert hash(again) == hash(found)


@pytest.mark.parametrize("name", MACRO)
def test_every_value_of_every_choice_is_kept(name, tmp_path):
    for value in MACRO[name]:
        genotype(**{name: value}).to_json(tmp_path / "g.json")
        assert dn.Genotype.from_json(tmp_path / "g.json").macro == {name: value}


def test_silence_is_dartss_own():
    silent = genotype()
    assert "macro" not in silent.to_dict()
    assert {name: silent.choice(name) for name in MACRO} == {
        "normalisation": "batch",
        "input_filter": "none",
        "pooling": "none",
        "width": 1.0,
        "reduction": "strided",
        "reductions": "both",
        "gain": "free",
        "logit_scale": 1.0,
        "logit_scaling": "fixed",
        "colour": "all",
        "contrast": "none",
        "filters": "none",
        "positions": 1.0,
        "features": "all",
        "initialisation": "usual",
    }


def test_an_integer_of_json_is_the_same_width():
    assert check_macro("width", 1) == ("width", 1.0)
    assert isinstance(genotype(width=1).macro["width"], float)


@pytest.mark.parametrize(
    ("macro", "message"),
    [
        ({"normalisaton": "none"}, "did you mean 'normalisation'"),
        ({"normalisation": "instance"}, "expected one of 'batch', 'layer', 'none', got 'instance'"),
        ({"width": 2}, "expected one of 1.0, 0.75, 0.5, 0.25, got 2"),
        ({"width": True}, "got True"),
        ({"pooling": ["none"]}, "expected one of"),
        ({3: "none"}, "expected the name of a choice"),
        ([], "macro: expected an object"),
    ],
)
def test_other_choices_are_refused(macro, message):
    with pytest.raises(ValueError, match=message) as caught:
        dn.Genotype(CELL, [2], CELL, [2], macro=macro)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("values", [[], ["batch", "batch"], ["batch", "group"]])
def test_a_space_searches_distinct_choices_that_exist(values):
    with pytest.raises(ValueError, match="normalisation"):
        Space("mine", ("skip_connect",), macro={"normalisation": values})


def test_the_strongest_candidate_is_chosen():
    space = Space(
        "mine",
        ("skip_connect",),
        nodes=1,
        macro={"width": [1.0, 0.25], "pooling": ["none", "average_4"]},
    )
    arch = dn.Architecture(space)
    arch.macro["width"].data = 1.0 * arch.macro["width"].new_tensor([[0, 3]])
    arch.macro["pooling"].data = arch.macro["pooling"].new_tensor([[0.5, 0.1]])
    assert arch.genotype().macro == {"width": 0.25, "pooling": "none"}
    assert arch.figures()["share/width/0.25"] > 0.9
    decided = dn.Architecture(get_space("bounded", 1)).figures()
    assert "alpha/entropy_logit_scale" in decided
    assert not [name for name in decided if "gain" in name or "reduction" in name]


def test_named_candidates_replace_those_of_a_space_and_others_stay():
    space = get_space("bounded")
    with pytest.raises(dn.SettingError, match=r"macro\.gain: expected some of .*'free'\?$"):
        space.with_macro({"gain": ["fre"]})
    own = {"reductions": ("first",), "logit_scale": (1.0, 64.0), "gain": ("free", "bounded")}
    changed = dict(space.with_macro(own).macro)
    assert changed == {**dict(space.macro), **own}
    with pytest.raises(dn.SettingError, match="macro: unknown macro choice 'redutcions'"):
        space.with_macro({"redutcions": ["first"]})
