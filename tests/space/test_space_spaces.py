"""Search spaces: the order of α's rows, and what a space may be."""

from dataclasses import replace

import pytest

from darts_noise.errors import SettingError
from darts_noise.space.genotype import MAX_NODES
from darts_noise.space.operations import list_operations
from darts_noise.space.spaces import _SPACES, Space, get_space, list_spaces, register_space


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr("darts_noise.space.spaces._SPACES", dict(_SPACES))


def test_edges_of_the_darts_cell_are_in_the_order_of_its_alphas():
    edges = get_space("darts").edges
    # Node i stands behind i(i + 3)/2 edges, since every earlier one has one input more.
    assert [edges.index((0, node)) for node in range(4)] == [0, 2, 5, 9]
    assert len(edges) == 14


@pytest.mark.parametrize("nodes", [1, 2, 4, 7, MAX_NODES])
def test_edges_are_all_pairs_grouped_by_node(nodes):
    edges = get_space("darts", nodes).edges
    assert len(edges) == len(set(edges)) == nodes * (nodes + 3) // 2
    assert edges == sorted(edges, key=lambda edge: (edge[1], edge[0]))
    assert all(0 <= predecessor < node + 2 for predecessor, node in edges)


def test_the_authors_order_of_operations():
    assert get_space("darts").operations == (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )


def test_listed_spaces_are_sorted_and_of_registered_operations():
    assert list_spaces() == sorted(list_spaces())
    assert {"darts", "noise", "nas_bench_201"} <= set(list_spaces())
    for name in list_spaces():
        space = get_space(name)
        assert space.name == name
        assert set(space.operations) <= set(list_operations())


def test_get_space_takes_a_name_or_a_space_and_another_number_of_nodes():
    space = get_space("noise")
    assert get_space(space) is space
    assert get_space("noise", nodes=2) == replace(space, nodes=2)
    assert get_space(space, nodes=2).operations == space.operations
    assert get_space("noise").nodes == 4


def test_the_candidates_of_robust_darts_s1_are_those_of_the_authors():
    """Zela et al. 2020: the pairs of each edge, in letters, with the edges of a node as a word."""
    letters = {
        "m": "max_pool_3x3",
        "a": "avg_pool_3x3",
        "s": "skip_connect",
        "c": "sep_conv_3x3",
        "d": "dil_conv_3x3",
        "D": "dil_conv_5x5",
    }
    expected = {
        "normal": "sdsD sDscsd msscscsd scmssddDdD",
        "reduce": "mamd mamasD mamcsdsD mamasDsDsD",
    }
    space = get_space("robust_darts_s1", nodes=4)
    for kind, words in expected.items():
        pairs = words.replace(" ", "")
        candidates = [
            {letters[a], letters[b]} for a, b in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        assert [set(names) for names in space.candidates(kind)] == candidates
        lengths = [sum(node == to for _, to in space.edges) for node in range(4)]
        assert [len(word) // 2 for word in words.split()] == lengths
    for name, operations in {
        "s2": {"skip_connect", "sep_conv_3x3"},
        "s3": {"none", "skip_connect", "sep_conv_3x3"},
        "s4": {"noise", "sep_conv_3x3"},
    }.items():
        space = get_space(f"robust_darts_{name}", nodes=3)
        for kind in ("normal", "reduce"):
            assert [set(names) for names in space.candidates(kind)] == [operations] * 9


def test_candidates_of_edges_need_their_number_of_nodes():
    with pytest.raises(SettingError, match=r"nodes: expected 4, .* 'robust_darts_s1' .* got 3"):
        get_space("robust_darts_s1", nodes=3)
    space = Space("s", ("none", "noise", "skip_connect"), 1, allowed={"normal": [["noise"]] * 2})
    assert space.candidates("normal") == (("noise",),) * 2
    assert space.candidates("reduce") == (space.operations,) * 2
    assert hash(space) == hash(get_space(space, nodes=1))


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        ({"normal": [["skip_connect"]]}, r"allowed\['normal'\]: .* of 2 edges, got 1"),
        ({"other": [["skip_connect"]] * 2}, "expected 'normal' or 'reduce'"),
        ({"reduce": [["skip_connect"], ["noise"]]}, r"allowed\['reduce'\]\[1\]: expected some of"),
        ({"reduce": [["skip_connect"], ["none"]]}, r"allowed\['reduce'\]\[1\]: expected some of"),
        ({"reduce": [[], ["skip_connect"]]}, r"allowed\['reduce'\]\[0\]: expected some of"),
    ],
)
def test_candidates_of_edges_are_checked(allowed, message, registry):
    with pytest.raises(ValueError, match=message):
        register_space("mine", ["none", "skip_connect"], nodes=1, allowed=allowed)
    assert "mine" not in list_spaces()


def test_register_once(registry):
    space = register_space("tiny", ["none", "skip_connect"], nodes=2)
    assert get_space("tiny") is space
    assert space.operations == ("none", "skip_connect")
    with pytest.raises(ValueError, match="space 'tiny' is registered already"):
        register_space("tiny", ["skip_connect"])
    with pytest.raises(ValueError, match="unknown operation"):
        register_space("other", ["nothing_like_it"])
    assert "other" not in list_spaces()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"operations": ("skip_conect",)}, "did you mean 'skip_connect'"),
        ({"operations": ("none", "none")}, "an operation is listed twice"),
        ({"operations": ("none",)}, "expected an operation besides 'none'"),
        ({"operations": ()}, "expected an operation besides 'none'"),
        ({"operations": "skip_connect"}, "unknown operation 's'"),
        ({"nodes": 0}, f"nodes: expected 1 to {MAX_NODES}, got 0"),
        ({"nodes": MAX_NODES + 1}, "nodes: expected"),
        ({"nodes": True}, "nodes: expected .* got True"),
        ({"nodes": 2.0}, r"nodes: expected .* got 2\.0"),
        ({"nodes": "4"}, "nodes: expected .* got '4'"),
        ({"kept_edges": 0}, "kept_edges: expected 1 to 16, got 0"),
    ],
)
def test_each_error_names_the_setting(settings, message):
    with pytest.raises(ValueError, match=message):
        Space(**{"name": "s", "operations": ("skip_connect",)} | settings)


def test_unknown_space():
    with pytest.raises(ValueError, match="unknown space 'dart': did you mean 'darts'"):
        get_space("dart")
    with pytest.raises(ValueError, match="expected the name of a space or a Space, got 3"):
        get_space(3)
    with pytest.raises(ValueError, match="unknown space") as error:
        get_space("x\n" * 10**6)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
