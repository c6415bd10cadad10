"""The choice among discrete cells by what they do themselves, trained alone.

α weighs operations inside a mixture, and a mixture hides what one of its operations can memorise: a
supernet whose twin is near chance may hold a cell that fits the noise entirely. So α proposes, and
the objective of the search, measured on each proposed cell, decides:

    F(cell) = L_val(w*) + λ · P,    P = max(0, 1 − L_noise(v*) / log C)

w* and v* are the cell's own weights, trained from scratch on the data and on the noise. DARTS
(arXiv:1806.09055, section 3.1) chooses likewise, among the cells of four searches and by validation
accuracy; here one α proposes, and noise counts too. The test images have no part in it.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, derive_seed, generator
from darts_noise.nets.network import create_model
from darts_noise.nets.width import nearest_width
from darts_noise.noise.penalties.twin import noise_fit_penalty
from darts_noise.search.architecture import Architecture
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Cell, Genotype
from darts_noise.space.shown import shown

RATE, MOMENTUM, DECAY = 0.1, 0.9, 3e-4
"""SGD's on the data, since networks of the found cell are trained with it: a cell may learn with
Adam and never begin to with SGD. The rate falls to 0 on a cosine."""
NOISE_RATES = (3e-3, 1e-3)
"""Adam's on noise, which fits more of it than SGD; a training each, the better fit counts."""
NOISE_EPOCHS = 100
"""As in the `converged` measurement."""
MISSES = 100
"""So many proposals in a row that bring nothing new end the choice."""
FITTED = 0.05
"""A noise loss in nats below which P is within 0.02 of 1, and no training need go on."""
EVALUATION_BATCH = 64
WIDEST = 256
"""Channels, where the parameters decide how many."""


class Reading(NamedTuple):
    """A network on a set: mean cross-entropy in nats, and accuracy from 0 to 1."""

    loss: float
    accuracy: float

    def __str__(self) -> str:
        return f"{self.accuracy:.3f} (loss {self.loss:.3f})"


@dataclass(frozen=True)
class Candidate:
    """A proposed cell and what was measured of it.

    Attributes:
        genotype: the cell.
        validation: on the images that α learns from, after a training on those of w.
        noise: the better of the fits to the noise set, which ends where it is enough to rule the
            cell out; None where λ is 0, and where the validation loss alone rules it out.
        objective: F, or what it had grown to; None where noise was not measured but had to be.
    """

    genotype: Genotype
    validation: Reading
    noise: Reading | None = None
    objective: float | None = None

    @property
    def score(self) -> float:
        """The objective, and infinity where there is none."""
        return math.inf if self.objective is None else self.objective

    def __str__(self) -> str:
        parts = [f"val {self.validation}"]
        parts += [] if self.noise is None else [f"noise {self.noise}"]
        parts += [] if self.objective is None else [f"F {self.objective:.4f}"]
        return "  ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        genotype = {k: v for k, v in self.genotype.to_dict().items() if k != "meta"}
        readings = {
            name: None if reading is None else [finite(reading.loss), reading.accuracy]
            for name, reading in (("validation", self.validation), ("noise", self.noise))
        }
        return {"genotype": genotype, **readings, "objective": self.objective}

    @classmethod
    def from_dict(cls, data: object) -> "Candidate":
        """The candidate that `to_dict` has written; ``ValueError`` for anything else."""
        keys = {"genotype", "validation", "noise", "objective"}
        if not isinstance(data, Mapping) or data.keys() != keys or data["validation"] is None:
            raise ValueError(f"expected a candidate, got {shown(data)}")
        readings = [data["validation"], data["noise"], [data["objective"], 0.0]]
        for reading in readings:
            if reading is not None and not (
                isinstance(reading, list)
                and len(reading) == 2
                and type(reading[1]) is float
                and (reading[0] is None or type(reading[0]) is float)
            ):
                raise ValueError(f"expected a loss and an accuracy, got {shown(reading)}")
        validation, noise = (
            None if r is None else Reading(math.inf if r[0] is None else r[0], r[1])
            for r in readings[:2]
        )
        assert validation is not None
        genotype = Genotype.from_dict({**_mapping(data["genotype"]), "meta": {}})
        return cls(genotype, validation, noise, data["objective"])


def propose(arch: Architecture, random: torch.Generator, best: Genotype | None) -> Genotype:
    """A draw from α, or the best cell so far with one thing in it as such a draw has it.

    A draw takes each operation and macro choice with the probability that α gives it. One thing is
    an operation, whose predecessor stays, or a macro choice.
    """
    drawn = arch.draw(random)
    if best is None:
        return drawn
    changes = [
        replace(best, macro={**best.macro, name: value})
        for name, value in drawn.macro.items()
        if best.choice(name) != value
    ]
    for kind in ("normal", "reduce"):
        cell: Cell = getattr(best, kind)
        for node, (pairs, others) in enumerate(zip(cell, getattr(drawn, kind), strict=True)):
            operations = {predecessor: operation for operation, predecessor in others}
            for place, (operation, predecessor) in enumerate(pairs):
                new = operations.get(predecessor, operation)
                if new != operation:
                    changed = (*pairs[:place], (new, predecessor), *pairs[place + 1 :])
                    cells: dict[str, Any] = {kind: (*cell[:node], changed, *cell[node + 1 :])}
                    changes.append(replace(best, **cells))
    if not changes:
        return best
    return changes[int(torch.randint(len(changes), (), generator=random))]


def choose(
    module: SearchModule,
    data: ImageDataModule,
    told: Callable[[Sequence[Candidate]], None] = lambda found: None,
    known: Iterable[Candidate] = (),
) -> list[Candidate]:
    """Measures cells that α of an ended search proposes; `module.chosen` becomes the best.

    First the cell that α stands for; up to a third of the candidates are draws from α, and the
    others change one thing at a time in the best so far. The same α gives the same candidates with
    the same figures; torch's generator is left as it was. Of several processes one does all this.

    Args:
        module: the search.
        data: those of the search.
        told: is given the candidates so far, in the order in which they were measured, after each.
        known: candidates of this search that a run which was stopped has measured.

    Returns:
        The best first; behind those with an objective the others by their validation loss. There
        are fewer than ``candidates`` where a hundred proposals give nothing new.
    """
    arch, count, seed = module.arch, module.hparams["candidates"], module.hparams["seed"]
    trials, random = Trials(module, data, known), generator(seed, Stream.CANDIDATES)
    best = trials.measured(arch.genotype())
    found, misses = {best.genotype: best}, 0
    told([best])
    while len(found) < count and misses < MISSES:
        drawing = len(found) < math.ceil(count / 3)
        genotype = propose(arch, random, None if drawing else best.genotype)
        if genotype in found:
            misses += 1
            continue
        misses = 0
        found[genotype] = candidate = trials.measured(genotype, best.score)
        told(list(found.values()))
        if candidate.score < best.score:
            best = candidate
    meta = {**module.genotype().meta, "space": module.space.name, "candidates": len(found)}
    module.chosen = replace(best.genotype, meta=meta)
    return sorted(found.values(), key=lambda c: (c.score, c.validation.loss))


class Trials:
    """Trainings of discrete cells, all with the same initial seed and order of the batches.

    Args:
        module: the search whose settings and noise they have.
        data: its data.
        known: what need not be measured again.
    """

    def __init__(
        self, module: SearchModule, data: ImageDataModule, known: Iterable[Candidate] = ()
    ) -> None:
        self.known = {candidate.genotype: candidate for candidate in known}
        self.module, self.data, self.settings = module, data, module.hparams
        self.seed = derive_seed(module.hparams["seed"], Stream.CANDIDATES)

    def on_data(self, genotype: Genotype) -> Reading:
        """Trained on the images of w, read on those of α."""
        data, settings = self.data, self.settings
        stream = self._shuffled(data.train, data.augmentation)
        net = self._network(genotype)
        optimiser = SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
        self._train(net, optimiser, stream, settings["candidate_epochs"])
        return self._read(net, data.validation, data.crop_pct)

    def on_noise(
        self, genotype: Genotype, noise: LabelledImages, enough: float = FITTED
    ) -> Reading:
        """The better fit of `NOISE_RATES` to the search's noise, read on the same images.

        Args:
            genotype: the cell.
            noise: the images.
            enough: a loss in nats; once it is reached, nothing further is trained.
        """
        fits = []
        for rate in NOISE_RATES:
            net = self._network(genotype)
            optimiser = Adam(net.parameters(), rate)
            loss = self._train(net, optimiser, self._shuffled(noise), NOISE_EPOCHS, enough)
            read = self._read(net, noise)
            # Batch norms that were stopped early have no good running statistics yet.
            fits.append(Reading(min(loss, read.loss), read.accuracy))
            if loss <= enough:
                break
        return min(fits)

    def measured(self, genotype: Genotype, least: float = math.inf) -> Candidate:
        """The cell with its figures.

        Args:
            genotype: the cell.
            least: the smallest objective so far. Since P only adds to L_val, noise is not measured
                where L_val is not below it; and since P grows with the training, that ends where
                the objective has grown to it.
        """
        if genotype in self.known:
            return self.known[genotype]
        validation = self.on_data(genotype)
        if validation.loss >= least:
            return Candidate(genotype, validation)
        noise = self.module.noise_set
        if noise is None:
            return Candidate(genotype, validation, None, validation.loss)
        weight, guess = self.settings["noise_weight"], math.log(noise.num_classes)
        enough = guess * (1 - (least - validation.loss) / weight)  # of L_noise, where F is least
        fit = self.on_noise(genotype, noise, max(enough, FITTED))
        penalty = float(noise_fit_penalty(torch.tensor(fit.loss), noise.num_classes))
        objective = validation.loss + weight * penalty
        return Candidate(genotype, validation, fit, objective)

    def _shuffled(
        self, data: LabelledImages, augmentation: Augmentation | None = None
    ) -> BatchStream:
        return BatchStream(
            data,
            min(self.data.batch_size, len(data)),
            self.data.normalisation,
            seed=self.seed,
            augmentation=augmentation,
            device=self.module.device,
        )

    def _network(self, genotype: Genotype) -> nn.Module:
        """Of as many parameters, or as wide, as the settings say; the same at each call."""
        settings = self.settings

        def make(channels: int) -> nn.Module:
            net: nn.Module = create_model(
                genotype,
                num_classes=self.module.num_classes,
                in_channels=self.module.in_channels,
                channels=channels,
                num_cells=settings["num_cells"],
                stem=settings["stem"],
                stem_stride=settings["stem_stride"],
            )
            return net

        def count(channels: int) -> int:
            return sum(p.numel() for p in make(channels).parameters())

        with torch.random.fork_rng(devices=[]):
            channels = settings["channels"]
            if settings["candidate_parameters"] is not None:
                channels = nearest_width(count, settings["candidate_parameters"], WIDEST)
            torch.manual_seed(self.seed)
            return make(channels).to(self.module.device)

    def _train(
        self,
        net: nn.Module,
        optimiser: Optimizer,
        stream: BatchStream,
        epochs: int,
        enough: float = -math.inf,
    ) -> float:
        """The last epoch's mean loss, after so many epochs or once it is `enough`."""
        net.train()
        clip = self.settings["gradient_clip"]
        steps = epochs * stream.batches_per_epoch
        schedule = CosineAnnealingLR(optimiser, steps)
        losses: list[Tensor] = []
        mean = math.inf
        for step in range(steps):
            images, labels = stream.batch(step)
            loss = F.cross_entropy(net(_laid_out(images)), labels)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimiser.step()
            schedule.step()
            losses.append(loss.detach())
            if len(losses) == stream.batches_per_epoch:
                mean = float(torch.stack(losses).mean())
                losses.clear()
                if mean <= enough:
                    break
        return mean if math.isfinite(mean) else math.inf

    @torch.no_grad()
    def _read(self, net: nn.Module, data: LabelledImages, crop_pct: float = 1.0) -> Reading:
        stream = BatchStream(
            data,
            min(EVALUATION_BATCH, len(data)),
            self.data.normalisation,
            crop_pct=crop_pct,
            shuffle=False,
            drop_last=False,
            device=self.module.device,
        )
        net.eval()
        loss, right = torch.zeros(2, device=self.module.device)
        for k in range(stream.batches_per_epoch):
            images, labels = stream.batch(k)
            logits = net(_laid_out(images))
            loss += F.cross_entropy(logits, labels, reduction="sum")
            right += (logits.argmax(1) == labels).sum()
        mean = float(loss) / len(data)
        # A training that diverged has learnt nothing: on the data the worst, on noise harmless.
        return Reading(mean if math.isfinite(mean) else math.inf, float(right) / len(data))


def finite(loss: float) -> float | None:
    """The loss; None, which JSON can hold, where it is infinite."""
    return loss if math.isfinite(loss) else None


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f"genotype: expected an object, got {shown(value)}")
    return value


def _laid_out(images: Tensor) -> Tensor:
    return images.to(memory_format=torch.channels_last)
