"""Ensembles: networks that decide together, and how accurate they are under attack.

Each member maps images to logits. A rule combines the probabilities p_m of the members m:

- ``mean``: the class with the largest mean probability [1].
- ``max``: the class of the most confident member, which has the largest probability of all.
- ``vote``: the class of most members [2]; of several, the one with the largest mean probability.

References:
    [1] Lakshminarayanan et al., Simple and scalable predictive uncertainty estimation using deep
        ensembles, NeurIPS 2017, arXiv:1612.01474.
    [2] Breiman, Bagging predictors, Machine Learning 24 (1996).
    [3] Guo et al., On calibration of modern neural networks, ICML 2017, arXiv:1706.04599.
    [4] Athalye et al., Obfuscated gradients give a false sense of security, ICML 2018,
        arXiv:1802.00420, section 4.1.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torchmetrics.functional.classification import binary_calibration_error

from darts_noise.attacks.gradient import ascend
from darts_noise.attacks.pixels import Ball, device_of
from darts_noise.attacks.settings import ATTACKS, ENSEMBLE, AttackConfig
from darts_noise.data.seeds import Stream, generator
from darts_noise.errors import SettingError, unknown
from darts_noise.examine.attacks import BY_NAME, attack_images

BINS = 15
"""Bins of the calibration error [3]."""
SINGLE = "single"
MEMBER, OUTSIDE, ITSELF = "member", "outside", "itself"


class Combined(NamedTuple):
    """The decision of an ensemble about images.

    Attributes:
        scores: (B, C): the class is the one with the largest score. They have a gradient.
        confidence: (B,): the probability that the rule gives this class.
    """

    scores: Tensor
    confidence: Tensor


def mean(log_probabilities: Tensor) -> Combined:
    """Combine the members' log-probabilities (M, B, C): scores are log (1/M) Σ_m p_m."""
    scores = log_probabilities.logsumexp(0) - math.log(len(log_probabilities))
    return Combined(scores, scores.amax(1).exp())


def most_confident(log_probabilities: Tensor) -> Combined:
    """Combine the members' log-probabilities (M, B, C): scores are log max_m p_m."""
    scores = log_probabilities.amax(0)
    return Combined(scores, scores.amax(1).exp())


def vote(log_probabilities: Tensor) -> Combined:
    """Combine the members' log-probabilities (M, B, C): scores are the numbers of votes.

    Half of the mean probability is added, which decides between equal numbers. Votes have no
    gradient, so the gradient of the scores is that of `mean` [4].
    """
    soft = mean(log_probabilities).scores
    votes = F.one_hot(log_probabilities.argmax(2), soft.shape[1]).sum(0)
    decided = votes + soft.exp() / 2
    share = votes.gather(1, decided.argmax(1, keepdim=True))[:, 0] / len(log_probabilities)
    return Combined(decided.detach() + (soft - soft.detach()), share.to(soft))


Rule = Callable[[Tensor], Combined]
RULES: Mapping[str, Rule] = MappingProxyType({"mean": mean, "max": most_confident, "vote": vote})


class Ensemble(nn.Module):
    """Networks that decide together: images (B, C, H, W) → scores (B, classes).

    It can be attacked as one network: its scores have a gradient.

    Args:
        members: each maps images to logits (B, classes).
        rule: how they decide: ``mean``, ``max`` or ``vote``. Default: ``mean``.

    Raises:
        SettingError: there are no members, or the rule does not exist.
    """

    def __init__(self, members: Sequence[nn.Module], rule: str = "mean") -> None:
        super().__init__()
        if rule not in RULES:
            raise SettingError("rule", unknown("rule", rule, RULES))
        if not members:
            raise SettingError("members", "expected one network or more, got none")
        self.members, self.rule = nn.ModuleList(members), rule

    def log_probabilities(self, images: Tensor) -> Tensor:
        """Return the log-probabilities (M, B, classes) of the members."""
        return torch.stack([F.log_softmax(net(images), dim=1) for net in self.members])

    def forward(self, images: Tensor) -> Tensor:
        return RULES[self.rule](self.log_probabilities(images)).scores


@dataclass(frozen=True)
class EnsembleResult:
    """The accuracy of an ensemble. ``single`` is its first member alone.

    Attributes:
        members: number of networks.
        images: number of test images.
        norm: ``linf`` or ``l2``.
        eps: the sizes of a change that were tried, ascending, with pixels from 0 to 1.
        attacks: the attacks.
        accuracy: ``single`` and each rule → accuracy without an attack.
        calibration: the same → expected calibration error: the mean distance of confidence and
            accuracy, over `BINS` equal bins of the confidence.
        attacked: where the examples were made → ``single`` and each rule → accuracy for each of
            `eps`. An image must resist all attacks at all sizes up to this one. ``member``: made on
            the first member. ``outside``: made on a network outside the ensemble. ``itself``: made
            on what classifies them, the scores of this rule, and also on those of ``mean``, which
            are the smoothest.
        warnings: signs that the attacks on the ensemble overstate its robustness.
    """

    members: int
    images: int
    norm: str
    eps: tuple[float, ...]
    attacks: tuple[str, ...]
    accuracy: Mapping[str, float]
    calibration: Mapping[str, float]
    attacked: Mapping[str, Mapping[str, tuple[float, ...]]]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a JSON object."""
        return {"format": ENSEMBLE, **vars(self)}


def evaluate_members(
    members: Sequence[nn.Module],
    images: Tensor,
    labels: Tensor,
    config: AttackConfig,
    outside: nn.Module | None = None,
) -> EnsembleResult:
    """Measure the accuracy of an ensemble without and under attack, for each rule.

    Args:
        members: each maps pixels from 0 to 1, (B, C, H, W), to logits. They are in eval mode.
        images: (N, C, H, W), from 0 to 1.
        labels: (N,), int64.
        config: the attacks.
        outside: another such network, to make examples on. None: none.
    """
    whole = Ensemble(members)
    sources = {MEMBER: members[0], **({} if outside is None else {OUTSIDE: outside})}
    with parametrize.cached():  # otherwise, every call would rescale every weight
        clean = _decisions(whole, images, config.batch_size)
        right = {name: found.scores.argmax(1) == labels for name, found in clean.items()}
        resisting = {
            source: _resisting(net, whole, images, labels, config, right)
            for source, net in sources.items()
        }
        on_mean = _resisting(whole, whole, images, labels, config, right)
    attacked = {source: _accuracies(found) for source, found in resisting.items()}
    deciders = {SINGLE: members[0], **{rule: Ensemble(members, rule) for rule in RULES}}
    itself, warnings = {}, []
    for name, net in deciders.items():
        own = attack_images(net, images, labels, config)
        itself[name] = torch.stack([own.strongest > size for size in config.sizes])
        if name != SINGLE:
            itself[name] &= on_mean[name]
        warnings += [f"{name}: {text}" for text in own.warnings]
    return EnsembleResult(
        len(members),
        len(images),
        config.norm,
        config.sizes,
        config.attacks,
        {name: float(correct.double().mean()) for name, correct in right.items()},
        {
            name: float(binary_calibration_error(c.confidence, right[name].long(), n_bins=BINS))
            for name, c in clean.items()
        },
        {**attacked, ITSELF: _accuracies(itself)},
        tuple(warnings),
    )


def _decisions(whole: Ensemble, images: Tensor, batch_size: int) -> dict[str, Combined]:
    """Return what the first member alone and each rule decide about images (N, C, H, W)."""
    device = device_of(whole)
    with torch.no_grad():
        parts = torch.split(images, batch_size)
        found = [whole.log_probabilities(part.to(device)).float().cpu() for part in parts]
    log_probabilities = torch.cat(found, dim=1)
    by_rule = {name: rule(log_probabilities) for name, rule in RULES.items()}
    return {SINGLE: mean(log_probabilities[:1]), **by_rule}


def _resisting(
    source: nn.Module,
    whole: Ensemble,
    images: Tensor,
    labels: Tensor,
    config: AttackConfig,
    right: Mapping[str, Tensor],
) -> dict[str, Tensor]:
    """Return which images resist examples that are made on one network, whoever classifies them.

    Args:
        source: the network.
        whole: the ensemble.
        images, labels, config: as for `evaluate_members`.
        right: who → which images (N,) it classifies right without an attack.

    Returns:
        Who → (sizes, N), bool.
    """
    left, rows = dict(right), {name: list[Tensor]() for name in right}
    for size in config.sizes:
        for attack in config.attacks:
            changed = examples(source, images, labels, config, attack, size)
            for name, found in _decisions(whole, changed, config.batch_size).items():
                left[name] = left[name] & (found.scores.argmax(1) == labels)
        for name, resists in left.items():
            rows[name].append(resists)
    return {name: torch.stack(resists) for name, resists in rows.items()}


def _accuracies(resisting: Mapping[str, Tensor]) -> dict[str, tuple[float, ...]]:
    return {name: tuple(rows.double().mean(1).tolist()) for name, rows in resisting.items()}


def examples(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: AttackConfig,
    attack: str,
    size: float,
) -> Tensor:
    """Return the images (N, C, H, W) after an attack on a network, for other networks.

    ``pgd`` makes all its steps from one start, also after an image is fooled: such examples fool
    other networks more often.

    Args:
        net, images, labels, config: as for `attack_images`.
        attack: its name.
        size: the size of a change, one of ``config.sizes``.
    """
    device, ball = device_of(net), Ball(config.norm, size)
    key, changed = (ATTACKS.index(attack), config.sizes.index(size)), []
    for i, part in enumerate(torch.split(torch.arange(len(images)), config.batch_size)):
        random = generator(config.seed, Stream.ATTACK, *key, i)
        given = images[part].to(device), labels[part].to(device)
        if attack == "pgd":
            found = ascend(net, *given, ball, config.steps, random)
        else:
            found = BY_NAME[attack](net, *given, ball, config, random)
        changed.append(found.cpu())
    return torch.cat(changed)
