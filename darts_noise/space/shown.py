"""Format any value as one short printable line for an error message.

Genotypes come from untrusted files, and error messages quote their values.
"""

import reprlib

LONGEST = 60

_REPR = reprlib.Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = LONGEST


def shown(value: object) -> str:
    """Return the value's `repr`, cut to `LONGEST` characters, with unprintable characters escaped.

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
    """Return the text; escape it if it has unprintable characters."""
    return text if text.isprintable() else repr(text)[1:-1]


def shortened(text: str) -> str:
    """Return the text, cut to `LONGEST` characters with an ellipsis at the end."""
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
