"""Ensembles: the rules by hand, and attacks that know the rule."""

import pytest
import torch
from torch import nn

import darts_noise as dn
from darts_noise.errors import SettingError
from darts_noise.examine.ensembles import RULES, SINGLE, evaluate_members

DIFFER = [[0.46, 0.44, 0.10], [0.46, 0.44, 0.10], [0.02, 0.28, 0.70]]
"""One image: the mean is 0.313, 0.387, 0.3; the most confident says 2; most members say 0."""
QUICK = dn.AttackConfig(attacks=("fgsm", "pgd"), eps=(0.05, 0.2), steps=5, starts=1, samples=None)


def combined(rule, *probabilities):
    return RULES[rule](torch.tensor(probabilities).log()[:, None])


@pytest.mark.parametrize(
    ("rule", "probabilities", "label", "confidence"),
    [
        ("mean", DIFFER, 1, 1.16 / 3),
        ("max", DIFFER, 2, 0.70),
        ("vote", DIFFER, 0, 2 / 3),
        ("vote", [[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]], 1, 0.5),  # equal votes: the mean decides
        ("vote", [[0.1, 0.2, 0.7]], 2, 1.0),
    ],
)
def test_a_rule_by_hand(rule, probabilities, label, confidence):
    found = combined(rule, *probabilities)
    assert found.scores.argmax(1).tolist() == [label]
    assert found.confidence.item() == pytest.approx(confidence)


def linear(*seeds):
    """Linear networks on pixels of 4×4 images."""
    made = []
    for seed in seeds:
        torch.manual_seed(seed)
        made.append(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    return made


@pytest.fixture
def images():
    torch.manual_seed(9)
    return torch.rand(60, 1, 4, 4)


def test_a_vote_has_the_gradient_of_the_mean(images):
    gradients = []
    for rule in ("mean", "vote"):
        x = images.clone().requires_grad_()
        dn.Ensemble(linear(0, 1, 2), rule)(x)[:, 0].sum().backward()
        gradients.append(x.grad)
    assert gradients[0].abs().sum() > 0
    torch.testing.assert_close(*gradients)


def test_an_attack_on_an_ensemble_knows_its_rule(images):
    """Its own examples fool a rule more often than those that are made on another network."""
    nets = linear(0, 1, 2)
    labels = dn.Ensemble(nets)(images).argmax(1)
    found = evaluate_members(nets, images, labels, QUICK, outside=linear(7)[0])
    assert set(found.attacked) == {"member", "outside", "itself"}
    for rule in RULES:
        assert found.accuracy["mean"] == 1.0 >= found.accuracy[rule]
        own = found.attacked["itself"][rule]
        for source in ("member", "outside"):
            fixed = found.attacked[source][rule]
            assert found.accuracy[rule] >= fixed[0] >= fixed[1]
            assert own[1] < fixed[1]
    assert found.attacked["member"][SINGLE] == found.attacked["itself"][SINGLE]
    assert found.attacked["outside"][SINGLE][1] > found.attacked["itself"][SINGLE][1]


def test_copies_of_one_network_decide_as_the_network(images):
    [net] = linear(0)
    labels = torch.arange(60) % 3
    found = evaluate_members([net, net], images, labels, QUICK)
    for figures in (found.accuracy, found.attacked["itself"], found.attacked["member"]):
        assert len({*figures.values()}) == 1
    assert found.calibration["mean"] == pytest.approx(found.calibration[SINGLE])
    wrong = 1 - found.accuracy["vote"]  # both copies agree: the confidence is 1
    assert found.calibration["vote"] == pytest.approx(wrong, abs=1e-6)


def test_a_wrong_rule_and_no_members_are_refused():
    with pytest.raises(SettingError, match="did you mean 'vote'"):
        dn.Ensemble(linear(0), "votes")
    with pytest.raises(SettingError, match="members: expected one"):
        dn.Ensemble([])
