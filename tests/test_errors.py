"""The message for unknown names."""

import pytest

from darts_noise.errors import unknown


def test_lists_the_valid_names_in_order_and_suggests_the_nearest() -> None:
    error = unknown("operation", "sep_conv3x3", ["skip_connect", "sep_conv_3x3"])
    assert isinstance(error, ValueError)
    assert str(error) == (
        "unknown operation 'sep_conv3x3': did you mean 'sep_conv_3x3'? "
        "(valid: sep_conv_3x3, skip_connect)"
    )


@pytest.mark.parametrize("valid", [[], ["skip_connect"]])
def test_suggests_nothing_where_nothing_is_near(valid: list[str]) -> None:
    assert "did you mean" not in str(unknown("operation", "zzz", valid))
