"""Published cells equal their authors' repositories; `load_genotype` finds any cell."""

from pathlib import Path

import pytest

from darts_noise.space.genotype import Genotype
from darts_noise.space.operations import list_operations
from darts_noise.space.published import list_genotypes, load_genotype, printed_counts

# Copied a second time, in the flat form of the authors' files: operations, then predecessors.
SHORT = {
    "s3": "sep_conv_3x3",
    "s5": "sep_conv_5x5",
    "s7": "sep_conv_7x7",
    "d3": "dil_conv_3x3",
    "d5": "dil_conv_5x5",
    "m": "max_pool_3x3",
    "a": "avg_pool_3x3",
    "i": "skip_connect",
    "f": "conv_7x1_1x7",
}
AUTHORS = {
    "nasnet": (
        ("s5 s3 s5 s3 a i a a s3 i", "1 0 0 0 1 0 0 0 1 1", "2 3 4 5 6"),
        ("s5 s7 m s7 a s5 i a s3 m", "1 0 1 0 1 0 3 2 2 1", "4 5 6"),
    ),
    "amoebanet": (
        ("a m s3 s5 s3 a s3 i i a", "0 1 0 2 0 3 1 1 0 1", "4 5 6"),
        ("a s3 m s7 s7 a m m f s3", "0 1 0 2 0 1 0 1 0 5", "3 4 6"),
    ),
    "pc_darts_cifar": (
        ("s3 i s3 d3 s5 s3 a d3", "1 0 0 1 0 1 0 1", "2 3 4 5"),
        ("s5 m s5 s5 s3 s3 s3 s3", "1 0 1 2 0 3 1 2", "2 3 4 5"),
    ),
    "pc_darts_imagenet": (
        ("i s3 s3 i s3 s3 s3 d5", "1 0 0 1 1 3 1 4", "2 3 4 5"),
        ("s3 i d5 m s3 s3 s5 s3", "0 1 2 1 2 1 0 3", "2 3 4 5"),
    ),
    "gdas": (
        ("i i i s5 s3 i s5 s3", "0 1 0 2 3 0 4 3", "2 3 4 5"),
        ("s5 s3 s5 s5 d5 s3 s5 s5", "0 1 2 1 2 1 0 1", "2 3 4 5"),
    ),
    "p_darts": (
        ("i d3 i s3 s3 s3 s3 d5", "0 1 0 1 1 3 0 4", "2 3 4 5"),
        ("a s5 s3 d5 m d3 d3 d5", "0 1 0 2 0 1 1 3", "2 3 4 5"),
    ),
}


def cell(operations, predecessors, concat):
    pairs = list(
        zip((SHORT[o] for o in operations.split()), map(int, predecessors.split()), strict=True)
    )
    return [pairs[i : i + 2] for i in range(0, len(pairs), 2)], [int(s) for s in concat.split()]


@pytest.mark.parametrize("name", AUTHORS)
def test_cells_equal_the_authors_files(name):
    normal, reduce = AUTHORS[name]
    assert load_genotype(name) == Genotype(*cell(*normal), *cell(*reduce))


@pytest.mark.parametrize("name", ["darts_v1", "darts_v2"])
def test_darts_cells_equal_the_reference(golden, name):
    expected = golden["genotypes"][name.upper()]
    genotype = load_genotype(name).to_dict()
    assert {key: genotype[key] for key in expected} == expected


def test_names():
    assert list_genotypes() == sorted([*AUTHORS, "darts_v1", "darts_v2"])


@pytest.mark.parametrize("name", list_genotypes())
def test_every_cell_has_a_source_and_uses_every_node(name):
    genotype = load_genotype(name)
    assert genotype.meta["name"] == name
    assert "arXiv:" in genotype.meta["source"]
    assert printed_counts(name)
    for kind in ("normal", "reduce"):
        nodes = getattr(genotype, kind)
        used = {p for node in nodes for _, p in node} | set(getattr(genotype, f"{kind}_concat"))
        assert used >= set(range(2, len(nodes) + 2))
        assert {operation for node in nodes for operation, _ in node} <= set(list_operations())
    assert Genotype.from_dict(genotype.to_dict()) == genotype


def test_a_count_that_differs_says_why():
    differing = {n for n in list_genotypes() if any(c.differs for c in printed_counts(n))}
    assert differing == {"darts_v1", "nasnet"}
    with pytest.raises(ValueError, match="unknown genotype 'gdass': did you mean 'gdas'"):
        printed_counts("gdass")


@pytest.mark.parametrize("name", ["darts_v2", "DARTS_V2", "Darts_v2"])
def test_names_in_any_case(name):
    assert load_genotype(name) == load_genotype("darts_v2")


def test_a_caller_cannot_change_the_published_cell():
    load_genotype("gdas").meta["name"] = "mine"
    assert load_genotype("gdas").meta["name"] == "gdas"


def test_paths_and_run_directories(tmp_path):
    genotype = load_genotype("p_darts")
    assert load_genotype(genotype) is genotype
    genotype.to_json(tmp_path / "run" / "genotype.json")
    genotype.to_json(tmp_path / "cell.json")
    genotype.to_json(tmp_path / "no_suffix")
    genotype.to_json(tmp_path / "Genotype (1).json")
    for source in ("run", "cell.json", "no_suffix", "run/genotype.json", "Genotype (1).json"):
        assert load_genotype(tmp_path / source) == genotype
        assert load_genotype(str(tmp_path / source)) == genotype
    (tmp_path / "latest").symlink_to("run")
    assert load_genotype(tmp_path / "latest").meta == genotype.meta


def test_a_name_is_the_published_cell_even_beside_a_directory(tmp_path, monkeypatch):
    (tmp_path / "gdas").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_genotype("gdas").meta["name"] == "gdas"


def test_what_is_none_of_these(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "bad.json").write_text("{")
    for source, message in [
        ("darts_v3", "unknown genotype 'darts_v3': did you mean 'darts_v2'?"),
        ("zzz", "or a path to a .json file or to a run directory"),
        (tmp_path / "run", "run: no genotype.json in this directory"),
        (tmp_path / "bad.json", "bad.json: not JSON"),
        (tmp_path / "missing.json", "missing.json: No such file"),
        (None, "expected a name, a path or a Genotype, got None"),
        (3, "expected a name, a path or a Genotype, got 3"),
        ({"normal": []}, "expected a name, a path or a Genotype"),
        ("x" * (1 << 20), "xxx"),
        (Path("x" * 300), "xxx"),
        ("a\x00b", "a\\x00b"),
        ("line\nbreak", "line\\nbreak"),
        ("\ud800", "ud800"),
    ]:
        with pytest.raises(ValueError, match=r"(?s).") as error:
            load_genotype(source)
        assert message in str(error.value)
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("DARTS_V2", "darts_v2"),
        ("DARTS", "darts_v2"),
        ("PDARTS", "p_darts"),
        ("P-DARTS", "p_darts"),
        ("PC_DARTS", "pc_darts_cifar"),
        ("PC_DARTS_image", "pc_darts_imagenet"),
        ("GDAS_V1", "gdas"),
        ("NASNet-A", "nasnet"),
    ],
)
def test_the_names_that_authors_write_are_found(alias, name):
    assert load_genotype(alias).meta["name"] == name


def test_a_name_with_a_slip_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'darts_v2'"):
        load_genotype("DARTS_V3")


def test_the_name_of_a_trained_network_points_to_its_loader():
    with pytest.raises(ValueError, match=r"call load_pretrained\('mnist'\)"):
        load_genotype("mnist")
