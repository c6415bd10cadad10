"""Genotypes: a valid one survives a file unchanged, any other is a ValueError of one line."""

import copy
import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from darts_noise.space.genotype import (
    FORMAT,
    MAX_BYTES,
    MAX_EDGES_PER_NODE,
    MAX_META_BYTES,
    MAX_META_DEPTH,
    MAX_NODES,
    Genotype,
)
from darts_noise.space.operations import list_operations

DATA = {
    "format": FORMAT,
    "normal": [
        [["sep_conv_3x3", 0], ["skip_connect", 1]],
        [["sep_conv_3x3", 0], ["dil_conv_3x3", 2]],
    ],
    "normal_concat": [2, 3],
    "reduce": [[["max_pool_3x3", 0], ["skip_connect", 1]], [["skip_connect", 2]]],
    "reduce_concat": [3],
    "meta": {"space": "noise", "seed": 0, "noise_weight": 1.0, "none": None, "list": [1, "a"]},
}


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def edited(*keys, to):
    """`DATA` with the value at a path of keys replaced."""
    data = copy.deepcopy(DATA)
    place = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return data


def message_of(call, *args):
    """The message of the ValueError that the call raises: one short printable line."""
    with pytest.raises(ValueError, match=r"(?s).") as error:
        call(*args)
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 1200
    return message


# ---- validation ----

WRONG = {
    "nothing": (None, "expected an object, got None"),
    "list": ([DATA], "expected an object"),
    "deep list": (nested(10**5), "expected an object, got [["),
    "text": (json.dumps(DATA), "expected an object"),
    "format": (edited("format", to="darts_noise.genotype/2"), f"format: expected '{FORMAT}'"),
    "format of another type": (edited("format", to=[FORMAT]), "format: expected"),
    "no format": ({k: v for k, v in DATA.items() if k != "format"}, "format: expected"),
    "cell": (edited("normal", to=3), "normal: expected a list of nodes, got 3"),
    "cell as text": (edited("normal", to="ab"), "normal: expected a list of nodes, got 'ab'"),
    "cell as bytes": (edited("normal", to=b"ab"), "normal: expected a list of nodes"),
    "cell as an object": (edited("reduce", to={}), "reduce: expected a list of nodes, got {}"),
    "no node": (edited("normal", to=[]), f"normal: expected 1 to {MAX_NODES} nodes, got 0"),
    "many nodes": (
        edited("reduce", to=[[["none", 0]]] * (MAX_NODES + 1)),
        f"reduce: expected 1 to {MAX_NODES} nodes, got {MAX_NODES + 1}",
    ),
    "node": (
        edited("normal", 1, to=None),
        "normal[1]: expected a list of [operation, predecessor]",
    ),
    "no edge": (edited("normal", 1, to=[]), f"normal[1]: expected 1 to {MAX_EDGES_PER_NODE} edges"),
    "many edges": (
        edited("reduce", 0, to=[["none", 0]] * (MAX_EDGES_PER_NODE + 1)),
        f"reduce[0]: expected 1 to {MAX_EDGES_PER_NODE} edges, got {MAX_EDGES_PER_NODE + 1}",
    ),
    "edge": (edited("normal", 1, 0, to="ab"), "normal[1][0]: expected [operation, predecessor]"),
    "short edge": (edited("normal", 1, 1, to=["none"]), "normal[1][1]: expected [operation"),
    "long edge": (edited("normal", 1, 1, to=["none", 0, 0.1]), "normal[1][1]: expected [operation"),
    "operation": (
        edited("reduce", 1, 0, 0, to="skip_conect"),
        "reduce[1][0]: unknown operation 'skip_conect': did you mean 'skip_connect'?",
    ),
    "operation of another type": (
        edited("normal", 0, 1, 0, to=["none"]),
        "normal[0][1]: expected the name of an operation, got ['none']",
    ),
    "predecessor too high": (
        edited("normal", 0, 1, 1, to=2),
        "normal[0][1]: expected a predecessor from 0 to 1, got 2",
    ),
    "predecessor that follows": (
        edited("normal", 1, 1, 1, to=3),
        "normal[1][1]: expected a predecessor from 0 to 2, got 3",
    ),
    "concat of nothing": (edited("normal_concat", to=[]), "normal_concat: expected distinct"),
    "concat of an input": (
        edited("normal_concat", to=[1, 2]),
        "normal_concat: expected distinct states from 2 to 3, got [1, 2]",
    ),
    "concat beyond": (edited("reduce_concat", to=[4]), "reduce_concat: expected distinct states"),
    "concat twice": (edited("reduce_concat", to=[2, 2]), "reduce_concat: expected distinct"),
    "concat of a bool": (edited("reduce_concat", to=[True]), "reduce_concat: expected distinct"),
    "concat of lists": (edited("normal_concat", to=[[2]]), "normal_concat: expected distinct"),
    "concat as bytes": (
        edited("normal_concat", to=bytearray([2])),
        "normal_concat: expected a list",
    ),
    "concat without end": (edited("normal_concat", to=range(10**30)), "normal_concat: expected a"),
    "long concat": (edited("normal_concat", to=[2] * 10**6), "normal_concat: expected distinct"),
    "unknown key": (
        DATA | {"norml": []},
        "unknown key 'norml': allowed are format, normal, normal_concat, reduce, reduce_concat",
    ),
    "unknown key of another type": (DATA | {3: []}, "unknown key 3: allowed are"),
    "meta": (edited("meta", to=[1]), "meta: expected an object, got [1]"),
    "meta of None": (edited("meta", to=None), "meta: expected an object, got None"),
    "meta with a set": (edited("meta", "a", to={1}), "meta['a']: expected a JSON value, got {1}"),
    "meta with NaN": (
        edited("meta", "list", to=[float("nan")]),
        "meta['list'][0]: expected a JSON",
    ),
    "meta with infinity": (
        edited("meta", "a", to=float("inf")),
        "meta['a']: expected a JSON value",
    ),
    "meta with a huge integer": (edited("meta", "a", to=10**5000), "meta['a']: expected a JSON"),
    "meta with another key": (
        edited("meta", "a", to={1: 2}),
        "meta['a']: expected strings as keys",
    ),
    "deep meta": (edited("meta", "a", to=nested(MAX_META_DEPTH)), "nested more than"),
    "very deep meta": (edited("meta", "a", to=nested(10**5)), "nested more than"),
    "long meta": (edited("meta", "a", to="x" * MAX_META_BYTES), "meta: expected at most"),
    "deep cell": (edited("normal", to=nested(10**5)), "normal[0][0]: expected [operation, pred"),
    "deep pair": (edited("normal", 0, 0, to=[nested(10**5), 0]), "normal[0][0]: expected the name"),
    "deep predecessor": (
        edited("normal", 0, 0, 1, to=nested(10**5)),
        "normal[0][0]: expected a pre",
    ),
}


@pytest.mark.parametrize(("data", "place"), WRONG.values(), ids=WRONG.keys())
def test_each_error_names_its_place(data, place):
    assert place in message_of(Genotype.from_dict, data)


@pytest.mark.parametrize("key", ["normal", "normal_concat", "reduce", "reduce_concat"])
def test_missing_key(key):
    data = {k: v for k, v in DATA.items() if k != key}
    assert message_of(Genotype.from_dict, data).startswith(f"missing key '{key}'")


@pytest.mark.parametrize(
    "predecessor",
    [
        -1,
        True,
        False,
        0.0,
        1.5,
        "0",
        None,
        [0],
        {},
        float("nan"),
        float("inf"),
        10**5000,
        -(10**5000),
    ],
    ids=lambda p: type(p).__name__ if isinstance(p, int) and abs(p) > 9 else repr(p),
)
def test_a_predecessor_is_an_integer_in_range(predecessor):
    message = message_of(Genotype.from_dict, edited("normal", 0, 0, 1, to=predecessor))
    assert message.startswith("normal[0][0]: expected a predecessor from 0 to 1, got")


@pytest.mark.parametrize(
    "text", ["x" * (1 << 20), "a\nb\r\x00\x1b[2J", "\ud800\udfff", "\u202e\u2028"]
)
def test_strange_text_is_shortened_and_escaped(text):
    for place in [("normal", 0, 0, 0), ("normal", 0, 0, 1), ("format",), ("normal",), (text,)]:
        message = message_of(Genotype.from_dict, edited(*place, to=text))
        assert text not in message
    assert Genotype.from_dict(edited("meta", "a", to=text[:99])).meta["a"] == text[:99]


def test_meta_is_where_it_comes_from_and_no_part_of_equality():
    a, b = Genotype.from_dict(DATA), Genotype.from_dict(edited("meta", to={"seed": 1}))
    assert a == b
    assert hash(a) == hash(b)
    assert a.meta != b.meta
    assert a != Genotype.from_dict(edited("reduce_concat", to=[2, 3]))
    assert Genotype.from_dict({k: v for k, v in DATA.items() if k != "meta"}).meta == {}


def test_does_not_share_its_meta_with_the_caller():
    meta = {"a": [1]}
    genotype = Genotype.from_dict(edited("meta", to=meta))
    meta["a"].append(2)
    genotype.to_dict()["meta"]["b"] = 3
    assert genotype.meta == {"a": [1]}


def test_is_frozen_and_can_be_copied():
    genotype = Genotype.from_dict(DATA)
    with pytest.raises(AttributeError):
        genotype.normal = ()
    for other in (copy.copy(genotype), copy.deepcopy(genotype)):
        assert other == genotype
        assert other.meta == genotype.meta


def test_lists_and_tuples_are_the_same():
    g = Genotype([[["none", 0]]], [2], [[["none", 1]]], [2])
    assert g == Genotype(((("none", 0),),), (2,), ((("none", 1),),), (2,))
    assert g.normal == ((("none", 0),),)


# ---- files ----


def test_json_round_trip(tmp_path):
    genotype = Genotype.from_dict(DATA)
    path = tmp_path / "folder" / "genotype.json"
    genotype.to_json(path)
    assert json.loads(path.read_text()) == DATA
    again = Genotype.from_json(str(path))
    assert again == genotype
    assert again.meta == genotype.meta
    assert genotype.to_dict() == DATA


def text_of(**changes):
    return json.dumps(DATA | changes)


FILES = {
    "empty": (b"", "not JSON (line 1: Expecting value)"),
    "not JSON": (b'{"format":\n 3,,}', "not JSON (line 2:"),
    "code": (b"__import__('os').system('true')", "not JSON"),
    "not UTF-8": (b'{"format": "\xff"}', "not UTF-8 text"),
    "too large": (b" " * (MAX_BYTES + 1), f"expected at most {MAX_BYTES} bytes"),
    "too large by a byte": (
        text_of().encode().ljust(MAX_BYTES + 1),
        f"expected at most {MAX_BYTES} bytes",
    ),
    "deep list": (b"[" * 500_000, "nested too deeply"),
    "deep object": (b'{"a":' * 100_000, "nested too deeply"),
    "list": (b"[]", "expected an object, got []"),
    "number": (b"3", "expected an object, got 3"),
    "format": (text_of(format="other/1").encode(), "format: expected"),
    "unknown key": (text_of(extra=1).encode(), "unknown key 'extra'"),
    "NaN": (text_of(normal_concat=[float("nan")]).encode(), "normal_concat: expected distinct"),
    "huge integer": (
        text_of().replace('["sep_conv_3x3", 0]', '["none", ' + "9" * 100_000 + "]").encode(),
        "integer",
    ),
    "large integer": (
        text_of().replace('["sep_conv_3x3", 0]', '["none", ' + "9" * 4000 + "]").encode(),
        "normal[0][0]: expected a predecessor from 0 to 1, got 99999",
    ),
    "bool": (
        text_of().replace('["sep_conv_3x3", 0]', '["none", true]').encode(),
        "normal[0][0]: expected a predecessor from 0 to 1, got True",
    ),
}


@pytest.mark.parametrize(("content", "reason"), FILES.values(), ids=FILES.keys())
def test_each_file_error_names_the_file(tmp_path, content, reason):
    path = tmp_path / "genotype.json"
    path.write_bytes(content)
    message = message_of(Genotype.from_json, path)
    assert message.startswith(f"{path}: ")
    assert reason in message


def test_a_file_of_the_largest_size_is_read(tmp_path):
    path = tmp_path / "genotype.json"
    path.write_bytes(text_of().encode().ljust(MAX_BYTES))
    assert Genotype.from_json(path) == Genotype.from_dict(DATA)


def test_what_was_written_can_be_read_however_large(tmp_path):
    node = [["conv_7x1_1x7", 0]] * MAX_EDGES_PER_NODE
    cell, concat = [node] * MAX_NODES, list(range(2, MAX_NODES + 2))
    big = Genotype(cell, concat, cell, concat, {"a": "x" * (MAX_META_BYTES - 10)})
    big.to_json(tmp_path / "genotype.json")
    assert Genotype.from_json(tmp_path / "genotype.json").meta == big.meta


def test_paths_that_are_no_file(tmp_path):
    assert "No such file" in message_of(Genotype.from_json, tmp_path / "missing.json")
    assert "directory" in message_of(Genotype.from_json, tmp_path)
    assert "File name too long" in message_of(Genotype.from_json, tmp_path / ("x" * (1 << 20)))
    message_of(Genotype.from_json, "a\x00b")
    message_of(Genotype.from_json, tmp_path / "line\nbreak\x1b")
    message_of(Genotype.from_json, "\ud800.json")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs a file without an end")
def test_a_file_without_an_end():
    assert f"at most {MAX_BYTES} bytes" in message_of(Genotype.from_json, "/dev/zero")


@pytest.mark.parametrize("failing", ["os.fsync", "os.replace", "os.chmod"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "genotype.json"
    Genotype.from_dict(DATA).to_json(path)
    before = path.read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(failing, fail)
    with pytest.raises(OSError, match="disk full"):
        Genotype.from_dict(edited("reduce_concat", to=[2, 3])).to_json(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["genotype.json"]


# ---- any genotype, any object ----

INTEGERS_64 = st.integers(-(2**64) + 1, 2**64 - 1)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | INTEGERS_64
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def cells(draw):
    count = draw(st.integers(1, 6))
    names = st.sampled_from(list_operations())
    nodes = [
        draw(st.lists(st.tuples(names, st.integers(0, i + 1)), min_size=1, max_size=4))
        for i in range(count)
    ]
    states = st.lists(st.integers(2, count + 1), min_size=1, max_size=count, unique=True)
    return nodes, draw(states)


@settings(max_examples=200, deadline=None)
@given(cells(), cells(), st.dictionaries(st.text(), JSON_VALUES, max_size=4))
def test_any_valid_genotype_survives_a_file(tmp_path_factory, normal, reduce, meta):
    path = tmp_path_factory.getbasetemp() / "any.json"
    genotype = Genotype(*normal, *reduce, meta)
    genotype.to_json(path)
    again = Genotype.from_json(path)
    assert again == genotype
    assert again.meta == genotype.meta == meta
    assert Genotype.from_dict(genotype.to_dict()) == genotype


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 7),
    st.integers(),
    st.integers(4400, 4401).map(lambda digits: 10**digits),
    st.floats(),
    st.text(st.characters(), max_size=8),  # all of Unicode, surrogates too
    st.sampled_from(list_operations()),
    st.sampled_from(["x" * (1 << 20), "\ud800", "\x00", "a\nb", FORMAT]),
    st.binary(max_size=4),
)
KEYS = st.sampled_from(list(DATA)) | st.text(max_size=4)
OBJECTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=2).map(tuple),
        st.dictionaries(KEYS, inner, max_size=6),
    ),
    max_leaves=12,
)
PLACES = st.sampled_from(
    [
        *((key,) for key in DATA),
        ("normal", 0),
        ("normal", 1, 0),
        ("reduce", 0, 0, 0),
        ("reduce", 1, 0, 1),
        ("normal_concat", 0),
        ("meta", "space"),
        ("other",),
    ]
)


def valid_or_one_line(data):
    try:
        genotype = Genotype.from_dict(data)
    except ValueError:
        message_of(Genotype.from_dict, data)
    else:
        assert Genotype.from_dict(json.loads(json.dumps(genotype.to_dict()))) == genotype


@settings(max_examples=500, deadline=None)
@given(OBJECTS)
def test_only_a_value_error_escapes_any_object(data):
    valid_or_one_line(data)


@settings(max_examples=700, deadline=None)
@given(PLACES, OBJECTS)
def test_only_a_value_error_escapes_a_damaged_genotype(place, value):
    valid_or_one_line(edited(*place, to=value))


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_only_a_value_error_escapes_a_damaged_file(tmp_path_factory, data):
    content = bytearray(json.dumps(DATA, indent=data.draw(st.sampled_from([None, 1]))).encode())
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(start + 8, len(content))))
    fragment = st.sampled_from(
        [b"NaN", b"true", b"[[", b"}", b"-1", b"1e999", b'"\\ud800"', b"\xff"]
    )
    content[start:end] = data.draw(st.binary(max_size=6) | fragment)
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_bytes(content)
    try:
        Genotype.from_json(path)
    except ValueError:
        assert message_of(Genotype.from_json, path).startswith(f"{path}: ")
