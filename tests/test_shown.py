"""Values in error messages: one printable line, however long or strange."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darts_noise.shown import LONGEST, shortened, shown


class Broken:
    def __repr__(self):
        raise RuntimeError("no")


class Lines:
    def __repr__(self):
        return "a\nb\x1b"


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("a\nb", r"'a\nb'"),
        ("\ud800", r"'\ud800'"),
        (None, "None"),
        ([1, 2], "[1, 2]"),
        (10**5000, "<int>"),
        (Lines(), r"a\nb\x1b"),
    ],
    ids=["integer", "line break", "surrogate", "none", "list", "huge integer", "lines"],
)
def test_known_values(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "x" * (1 << 20),
        [0] * 10**6,
        {i: i for i in range(10**5)},
        nested(10**5),
        Broken(),
        b"\0" * 99,
    ],
    ids=["string", "list", "object", "nested", "broken", "bytes"],
)
def test_long_and_broken_values(value):
    text = shown(value)
    assert text.isprintable()
    assert 0 < len(text) <= LONGEST


@given(st.recursive(st.text() | st.integers() | st.floats() | st.binary(), st.lists))
def test_any_value(value):
    assert shown(value).isprintable()
    assert len(shown(value)) <= LONGEST


def test_shortened_keeps_what_fits():
    assert shortened("x" * LONGEST) == "x" * LONGEST
    assert shortened("x" * (LONGEST + 1)) == "x" * (LONGEST - 3) + "..."
