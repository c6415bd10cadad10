"""Format any value as one short printable line for an error message, and a duration for a reader.

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


def readable_duration(seconds: float) -> str:
    """Return a duration in at most two units, rounded to seconds, or to minutes from one hour on.

    >>> [readable_duration(s) for s in (0.4, 59.6, 125, 3599.6, 11_550, 200_000)]
    ['0 s', '1 min 0 s', '2 min 5 s', '1 h 0 min', '3 h 12 min', '2 d 7 h']
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"
