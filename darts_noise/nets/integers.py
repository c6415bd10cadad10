"""Check that sizes are integers."""

from numbers import Integral

from darts_noise.errors import SettingError
from darts_noise.shown import shown


def require_integers(**values: object) -> None:
    """Raise a ``ValueError`` that names the first argument that is not an integer.

    >>> require_integers(channels="8")
    Traceback (most recent call last):
    darts_noise.errors.SettingError: channels: expected an integer, got '8'
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise SettingError(name, f"expected an integer, got {shown(value)}")
