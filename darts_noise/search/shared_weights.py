"""Weights that the cells of a strategy share: a supernet that is trained one cell at a time.

A step trains the weights of one cell, and leaves all other operations of the supernet as they are.
Every cell of the space then inherits its weights and is measured without a training of its own
(Pham et al. 2018, arXiv:1802.03268; Li & Talwalkar 2019, arXiv:1902.07638). With a noise-fit
penalty there is a second set of weights: w are trained on the data, v on the noise.

A cell is measured with the batch-norm statistics of the images on which it is read. The running
statistics of shared weights mix those of all cells.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from darts_noise.data.batches import BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.data.seeds import Stream, drawing, generator
from darts_noise.errors import within
from darts_noise.finite import FiniteCheck, make_guardable
from darts_noise.nets.supernet import SuperNet
from darts_noise.reading import EVALUATION_BATCH, laid_out, own_statistics, read_fit
from darts_noise.search.candidate import Candidate
from darts_noise.search.candidate_trainings import CandidateTrainings
from darts_noise.search.construction import make_supernet, make_twin, weight_optimiser
from darts_noise.search.gradients import unrounded
from darts_noise.search.module import ADVICE, LOSSES
from darts_noise.space.genotype import Genotype


class Path(nn.Module):
    """The network of a cell with its weights in a supernet; see `SuperNet.path`.

    Its parameters are only those that the cell uses.
    """

    def __init__(self, net: SuperNet, genotype: Genotype) -> None:
        super().__init__()
        self.net, self.genotype = net, genotype
        self.unused = {id(p) for part in net.unused(genotype) for p in part.parameters()}

    def forward(self, x: Tensor) -> Tensor:
        return self.net.path(x, self.genotype)

    def named_parameters(self, *args: Any, **kwargs: Any) -> Iterator[tuple[str, nn.Parameter]]:
        named = super().named_parameters(*args, **kwargs)
        return ((name, p) for name, p in named if id(p) not in self.unused)


@dataclass
class Trained:
    """A set of shared weights, w or v, and its training.

    Attributes:
        split: ``train`` for w, ``noise`` for v.
        net: the supernet.
        optimiser: its optimiser.
        rate: learning rate at the start.
        stream: the batches.
        step: number of steps so far.
        losses: the losses since they were last read, on the device.
    """

    split: str
    net: SuperNet
    optimiser: Optimizer
    rate: float
    stream: BatchStream
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)

    def mean_loss(self) -> float:
        """Return the mean of the losses since the last call, and forget them."""
        mean = float(torch.stack(self.losses).mean()) if self.losses else math.nan
        self.losses.clear()
        return mean


class SharedWeights:
    """Weights w, and v with a noise-fit penalty, that all cells of a search share.

    The supernets have the search's space, size and optimisers. They are made at the first use.

    Args:
        trainings: the trainings of single cells, for the settings, the data and the device.
        budget: the budget of the search in gradient steps.
        said: is called with a line after each epoch of the training images.
        images: images to train w on, without v. None: the training images of the search.

    Attributes:
        budget: the budget of the search in gradient steps.
    """

    def __init__(
        self,
        trainings: CandidateTrainings,
        budget: int,
        said: Callable[[str], None] = lambda line: None,
        images: LabelledImages | None = None,
    ) -> None:
        self.trainings, self.budget, self.said, self.images = trainings, budget, said, images
        self.module, self.config = trainings.module, trainings.config
        self.finite = FiniteCheck(ADVICE, alone=True)

    def on(self, images: LabelledImages) -> "SharedWeights":
        """Return weights that start as w and are trained on other images, without v.

        Their steps count in the same budget.
        """
        return SharedWeights(self.trainings, self.budget, self.said, images)

    @property
    def steps(self) -> int:
        """Gradient steps so far. A strategy adds the steps of its own weights, a controller's."""
        return self.module.shared_steps

    @steps.setter
    def steps(self, number: int) -> None:
        self.module.shared_steps = number

    @cached_property
    def w(self) -> Trained:
        """The weights that are trained on the data."""
        data, config = self.trainings.data, self.config
        with drawing(config.seed):
            net = self._supernet()
        images = data.train if self.images is None else self.images
        stream = self.trainings.shuffled(images, data.augmentation)
        return self._trained("train", net, config.optimiser, config.learning_rate, stream)

    @cached_property
    def v(self) -> Trained | None:
        """The weights that are trained on the noise. None if λ is 0 or if w have other images."""
        noise, config = self.module.noise_set, self.config
        if noise is None or self.images is not None:
            return None
        net = make_twin(self._supernet, config.seed, 0)
        stream = self.trainings.shuffled(noise)
        return self._trained("noise", net, config.optimiser_of_twin, config.rate_of_twin, stream)

    @within("model")
    def _supernet(self) -> SuperNet:
        form, config = self.module.form, replace(self.config, supernet="textbook")
        net = make_supernet(self.module.space, form["num_classes"], form["in_channels"], config, ())
        return net.to(self.trainings.device)

    def _trained(
        self, split: str, net: SuperNet, kind: str, rate: float, stream: BatchStream
    ) -> Trained:
        optimiser = weight_optimiser(kind, net, rate, self.config)
        return Trained(split, net, make_guardable(optimiser), rate, stream)

    @property
    def epoch(self) -> int:
        """Number of calls of `train` in which w sees all training images."""
        return self.w.stream.batches_per_epoch

    def train(self, genotype: Genotype, progress: float = 0.0) -> None:
        """Train the weights of a cell: w by a step on the data, v by ``twin_steps`` on the noise.

        The weights of operations that the cell does not have stay as they are: they get neither a
        gradient nor momentum nor weight decay.

        Args:
            genotype: the cell.
            progress: from 0 to 1, the share of the training that is over. The learning rate falls
                with it by a cosine.

        Raises:
            NotFiniteError: a loss or a gradient is NaN or infinite.
        """
        w, *v = [self.w] if self.v is None else [self.w, self.v]
        for trained in [w, *v * self.config.twin_steps]:
            self._step(trained, genotype, progress)
        if w.step % self.epoch == 0:
            self.finite.read()
            line = f"shared weights  step {self.steps:,}/{self.budget:,}"
            for trained in [w, *v]:
                line += f"  {trained.split} loss {trained.mean_loss():.3f}"
            self.said(line)

    def _step(self, trained: Trained, genotype: Genotype, progress: float) -> None:
        config, net, optimiser = self.config, trained.net, trained.optimiser
        least = config.learning_rate_min
        rate = least + (trained.rate - least) * (1 + math.cos(math.pi * progress)) / 2
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, labels = trained.stream.batch(trained.step)
        with drawing(config.seed, Stream.SHARED, self.steps, device=self.trainings.device):
            loss = F.cross_entropy(unrounded(net.train().path(images, genotype)), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in net.parameters() if p.grad is not None]
        of = LOSSES[trained.split]
        self.finite.look(
            [(of, [loss.detach()]), (f"the gradient of {of}", gradients)],
            step=self.steps,
            epoch=trained.step // trained.stream.batches_per_epoch,
            rate=rate,
        )
        if config.gradient_clip > 0:
            nn.utils.clip_grad_norm_(net.parameters(), config.gradient_clip)
        self.finite.guard(optimiser)
        optimiser.step()
        trained.losses.append(loss.detach())
        trained.step += 1
        self.steps += 1

    def measured(self, genotype: Genotype, batch: int | None = None) -> Candidate:
        """Measure a cell with the weights that it inherits.

        Its objective is F as in a measurement of a cell that is trained alone, with w on the
        validation images and v on the noise.

        Args:
            genotype: the cell.
            batch: the number of a random batch of validation images and of one of noise, the same
                for every cell. None: all images.
        """
        self.finite.read()
        data, noise = self.trainings.data, self.module.noise_set
        images = self._images(data.validation, batch, data.config.crop_pct)
        net = Path(self.w.net, genotype)
        validation, terms = read_fit(net, images), self._terms(net, genotype, images)
        objective = validation.loss + self.module.objectives.total(terms)
        if not math.isfinite(objective):
            return Candidate(genotype, validation, terms=terms)
        if noise is None or self.v is None:
            return Candidate(genotype, validation, None, objective, terms=terms)
        fit = read_fit(Path(self.v.net, genotype), self._images(noise, batch))
        if not math.isfinite(fit.loss):
            return Candidate(genotype, validation, fit, terms=terms)
        objective += self.trainings.weighted_penalty(fit.loss)
        return Candidate(genotype, validation, fit, objective, terms=terms)

    def _terms(self, net: Path, genotype: Genotype, images: BatchStream) -> dict[str, float]:
        """Return the value of each objective, with batch norms as for the validation loss."""
        if not self.module.objectives:
            return {}
        batches = (laid_out(images.batch(k)[0]) for k in range(images.batches_per_epoch))
        with own_statistics(net, batches):
            return self.trainings.objectives_of(net, genotype, images)

    def _images(
        self, data: LabelledImages, batch: int | None, crop_pct: float = 1.0
    ) -> BatchStream:
        """Return all images or a batch of them, each once."""
        if batch is not None:
            order = torch.randperm(
                len(data), generator=generator(self.config.seed, Stream.SHARED, batch, len(data))
            )
            data = data.subset(order[: self.trainings.data.config.batch_size])
        return BatchStream(
            data,
            EVALUATION_BATCH,
            self.trainings.data.normalisation,
            crop_pct=crop_pct,
            drop_last=False,
            device=self.trainings.device,
        )
