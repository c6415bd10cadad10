"""The setting of a penalty in a config, and the messages for a wrong one."""

import pytest
import torch

import darts_noise as dn
from darts_noise.noise.penalties import (
    LossPenalty,
    list_penalties,
    make_penalty,
    penalty,
    penalty_name,
    register_penalty,
)


@pytest.mark.parametrize("name", list_penalties())
def test_a_name_and_a_mapping_without_settings_are_the_same(name):
    kinds = {type(make_penalty(setting)) for setting in (name, {name: None}, {name: {}})}
    assert len(kinds) == 1
    assert penalty_name(name) == penalty_name({name: {}}) == name


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("twn", "penalty: unknown penalty 'twn': did you mean 'twin'"),
        ({"twin": {"from": "log"}}, "unknown setting of 'twin' 'from': did you mean 'form'"),
        ({"twin": {"form": "lgo"}}, "penalty.twin.form: unknown form 'lgo': did you mean 'log'"),
        ({"twin": {"form": 3}}, "penalty.twin.form: expected a word, got 3"),
        ({"twin": 3}, r"penalty.twin: expected settings, as in \{form: log\}, got 3"),
        ({"twin": None, "gram": None}, "penalty: expected the name of a penalty, or one"),
        ({}, "penalty: expected the name of a penalty"),
        (None, "penalty: expected the name of a penalty"),
        ({"lookahead": {"learning_rate": float("nan")}}, "expected a finite number, got nan"),
    ],
)
def test_a_wrong_one_is_refused_in_one_line(setting, message):
    with pytest.raises(ValueError, match=message) as error:
        make_penalty(setting)
    assert "\n" not in str(error.value)


def test_one_of_your_own_is_a_class_under_a_name(monkeypatch):
    monkeypatch.setattr(penalty, "_PENALTIES", dict(penalty._PENALTIES))

    @dn.register_penalty("halved")
    class Halved(LossPenalty):
        def __init__(self, factor: float = 0.5) -> None:
            self.factor = factor

        def of_loss(self, noise_loss, num_classes):
            return self.factor * (1 - noise_loss / num_classes).clamp(min=0)

    assert "halved" in dn.list_penalties()
    module = dn.SearchModule(penalty={"halved": {"factor": 1}})
    assert module.penalty.of_loss(torch.tensor(4.0), 10) == pytest.approx(0.6)
    with pytest.raises(ValueError, match="penalty 'halved' is registered already"):
        register_penalty("halved")
