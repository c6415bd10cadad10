"""A length of time as a person reads it."""


def readable_duration(seconds: float) -> str:
    """Two units at most, rounded to the second and, from an hour on, to the minute.

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
