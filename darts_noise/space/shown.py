"""A value in an error message: one short printable line, however long or strange the value is.

Genotypes come from files that anybody may have written, and what is wrong in them is quoted back.
"""

import reprlib

LONGEST = 60

_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = LONGEST


def shown(value: object) -> str:
    """The value's `repr`, cut to `LONGEST` characters, with what cannot be printed escaped.

    >>> shown([0] * 1000), shown("a\\nb")
    ('[0, 0, 0, 0, 0, 0, ...]', "'a\\\\nb'")
    """
    try:
        text = _REPR.repr(value)
    except Exception:
        # An integer of thousands of digits, a nesting too deep to print, a broken __repr__.
        text = f"<{type(value).__name__}>"
    return shortened(printable(text))


def printable(text: str) -> str:
    """The text itself, or with escapes where it has characters that cannot be printed."""
    return text if text.isprintable() else repr(text)[1:-1]


def shortened(text: str) -> str:
    """The text itself, or its beginning and an ellipsis where it is longer than `LONGEST`."""
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
