"""Measure single cells: train each one alone and from scratch, on the data and on the noise."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, derive_seed, drawing
from darts_noise.errors import within
from darts_noise.nets.width import narrowest, nearest_width, parameter_count
from darts_noise.reading import (
    EVALUATION_BATCH,
    of_one_image,
    read,
    read_fit,
    sees_one_image,
    whole_set,
)
from darts_noise.reading_record import Reading
from darts_noise.search.candidate import Candidate
from darts_noise.search.module import SearchModule
from darts_noise.search.objectives import TrainedCell
from darts_noise.space.genotype import Genotype
from darts_noise.train.loop import Recipe, Training, train_from_scratch
from darts_noise.train.module import usual_optimiser

RATES, DECAY = {"sgd": 0.1, "muon": 0.02}, 3e-4
"""Learning rates on the data, and the weight decay of SGD. The optimiser is the one that trains the
network of the chosen cell: some cells learn with Muon but not with SGD."""
NOISE_TRAININGS = (("muon", 0.02), ("adam", 3e-3))
"""Optimisers and learning rates on noise, the one that usually fits most first. The better fit
counts."""
NOISE_EPOCHS = 100
"""Epochs on noise, as in the protocol `converged`."""
FITTED = 0.05
"""Noise loss in nats at which the noise counts as fitted, and the training stops."""


class CandidateTrainings:
    """The trainings of cells, all with the same seed for the initial weights and the image order.

    Args:
        module: the search, for its settings and its noise.
        data: the data of the search.
        known: cells that are already measured.

    Attributes:
        steps: optimiser steps of all trainings so far.
        terms: value of each objective of the search for the last network that was trained on data.
        peak_epochs: see `Strategy`. Default: 1.
    """

    def __init__(
        self, module: SearchModule, data: ImageDataModule, known: Iterable[Candidate] = ()
    ) -> None:
        if module.noise_set is None:  # the module was loaded from a checkpoint
            module.prepare(data)
        self.known = {(candidate.genotype, candidate.share): candidate for candidate in known}
        self.module, self.data, self.config = module, data, module.config
        self.seed = derive_seed(module.config.seed, Stream.CANDIDATES)
        self.steps, self.peak_epochs = 0, 1
        self.terms: dict[str, float] = {}
        self.ruled_out = False
        # Lightning moves a module to the CPU at the end of its fit.
        trainer = data.trainer
        self.device = module.device if trainer is None else trainer.strategy.root_device

    @property
    def shared_steps(self) -> int:
        """Number of updates of weights that the cells of a strategy share."""
        return self.module.shared_steps

    @shared_steps.setter
    def shared_steps(self, number: int) -> None:
        self.module.shared_steps = number

    def measured(
        self, genotype: Genotype, least: float = math.inf, share: float = 1.0
    ) -> Candidate:
        """Measure a cell.

        Args:
            genotype: the cell.
            least: the smallest F so far. If L_val + Σ weight · T is not below it, noise is not
                measured, because P only adds to it. The training on noise stops when F reaches it,
                because P grows during the training.
            share: share of the epochs; see `epochs`.
        """
        if (genotype, share) in self.known:
            return self.known[genotype, share]
        before = self.steps
        accuracies: list[float] | None = [] if self.peak_epochs > 1 else None
        candidate = self._measured(genotype, least, share, accuracies)
        peak = max(accuracies) if accuracies else None
        return replace(candidate, steps=self.steps - before, share=share, peak=peak)

    def _measured(
        self, genotype: Genotype, least: float, share: float, accuracies: list[float] | None
    ) -> Candidate:
        channels = self.channels(genotype)
        validation = self.on_data(genotype, channels, share=share, accuracies=accuracies)
        noise, terms = self.module.noise_set, self.terms
        on_data: float = validation.loss + self.module.objectives.total(terms)
        if not on_data < (math.inf if noise is None else least):
            return Candidate(genotype, validation, terms=terms)
        if noise is None:
            return Candidate(genotype, validation, None, on_data, terms=terms)

        def objective(noise_loss: float) -> float:
            return on_data + self.weighted_penalty(noise_loss)

        def enough(noise_loss: float) -> bool:
            return objective(noise_loss) >= least

        fit = self.on_noise(genotype, channels, noise, enough, share=share)
        if not math.isfinite(fit.loss):  # all trainings diverged
            return Candidate(genotype, validation, fit, terms=terms)
        value = objective(fit.loss)
        return Candidate(genotype, validation, fit, value, terms=terms, bound=self.ruled_out)

    def weighted_penalty(self, noise_loss: float) -> float:
        """Return λ · P for a loss in nats on the noise of the search."""
        assert self.module.noise_set is not None
        classes = self.module.noise_set.num_classes
        penalty = self.module.penalty.of_fit(torch.tensor(noise_loss), classes)
        return self.config.noise_weight * float(penalty)

    def channels(self, genotype: Genotype) -> int:
        """Return the channels of the networks: for ``candidate_parameters``, or the supernet's."""
        parameters = self.config.candidate_parameters
        if parameters is None:
            return self.config.channels
        form = self.module.form
        least = narrowest(genotype, form["stem"])
        return nearest_width(parameter_count(genotype, **form), parameters, least=least)

    def epochs(self, share: float = 1.0) -> tuple[int, int]:
        """Return a share of `NOISE_EPOCHS` and of ``candidate_epochs``, rounded up."""
        return math.ceil(share * NOISE_EPOCHS), math.ceil(share * self.config.candidate_epochs)

    def full_steps(self) -> int:
        """Return the optimiser steps of the measurement of one cell that is trained in full."""
        noise, (on_noise, on_data) = self.module.noise_set, self.epochs()
        steps = on_data * self.shuffled(self.data.train).batches_per_epoch
        if noise is not None:
            steps += len(NOISE_TRAININGS) * on_noise * self.shuffled(noise).batches_per_epoch
        return steps

    def parameters(self, genotype: Genotype) -> int:
        """Return the number of parameters of the network of a cell."""
        return parameter_count(genotype, **self.module.form)(self.channels(genotype))

    def on_data(
        self,
        genotype: Genotype,
        channels: int,
        share: float = 1.0,
        accuracies: list[float] | None = None,
    ) -> Reading:
        """Train on the images that train w, and read on the images that train α.

        This also sets `terms`.

        Args:
            genotype: the cell.
            channels: channels of the network.
            share: share of the epochs; see `epochs`.
            accuracies: a list that gets the accuracies after the last `peak_epochs` epochs.
        """
        data, config = self.data, self.config
        optimiser, epochs = usual_optimiser(genotype), self.epochs(share)[1]
        recipe = Recipe(
            optimiser,
            RATES[optimiser],
            epochs,
            weight_decay=DECAY if optimiser == "sgd" else 0.0,
            gradient_clip=config.gradient_clip,
        )
        stream = self.shuffled(data.train, data.augmentation)
        from_ = (epochs - self.peak_epochs) * stream.batches_per_epoch

        def look(net: nn.Module, steps: int, loss: float) -> bool:
            if accuracies is not None and steps > from_:
                accuracies.append(read(net, self._validation()).accuracy)
            return False

        training = self._train(genotype, channels, stream, recipe, look)
        self.terms = self.objectives_of(training.net, genotype, self._validation())
        return read(training.net, self._validation())

    def objectives_of(
        self, net: nn.Module, genotype: Genotype, validation: BatchStream
    ) -> dict[str, float]:
        """Return the value of each objective of the search for a trained network of a cell."""
        channels = self.channels(genotype)
        cell = TrainedCell(net, lambda: self.module.discrete(genotype, channels), validation)
        with drawing(self.seed, Stream.OBJECTIVES, device=self.device), within("model"):
            return self.module.objectives.of_cell(cell)

    def on_noise(
        self,
        genotype: Genotype,
        channels: int,
        noise: LabelledImages,
        enough: Callable[[float], bool] = lambda loss: False,
        share: float = 1.0,
    ) -> Reading:
        """Train on noise with each of `NOISE_TRAININGS`, and return the better fit.

        This also sets `ruled_out`: whether `enough` has stopped the trainings.

        A network that sees one image in all of them is not trained to the end: `of_one_image` is
        what it would fit.

        Args:
            genotype: the cell.
            channels: channels of the network.
            noise: the images.
            enough: whether to stop at a loss in nats. The training always stops at `FITTED`.
            share: share of the epochs; see `epochs`.
        """
        epochs, _ = self.epochs(share)
        same = whole_set(noise, self.data.normalisation, self.device)

        def fitted(net: nn.Module, steps: int, loss: float) -> bool:
            if not fits and steps == stream.batches_per_epoch and sees_one_image(net, same):
                fits.append(of_one_image(noise))
                return True
            self.ruled_out = loss > FITTED and enough(loss)
            return loss <= FITTED or self.ruled_out

        self.ruled_out = False
        fits: list[Reading] = []
        for optimiser, rate in NOISE_TRAININGS:
            recipe = Recipe(optimiser, rate, epochs, gradient_clip=self.config.gradient_clip)
            stream = self.shuffled(noise)
            training = self._train(genotype, channels, stream, recipe, fitted)
            fits.append(read_fit(training.net, same))
            if training.stopped:
                break
        return min(fits)

    def shuffled(
        self, data: LabelledImages, augmentation: Augmentation | None = None
    ) -> BatchStream:
        """Return the batches of a training on these images."""
        return BatchStream(
            data,
            min(self.data.config.batch_size, len(data)),
            self.data.normalisation,
            seed=self.seed,
            augmentation=augmentation,
            device=self.device,
        )

    def _validation(self) -> BatchStream:
        return BatchStream(
            self.data.validation,
            EVALUATION_BATCH,
            self.data.normalisation,
            crop_pct=self.data.config.crop_pct,
            shuffle=False,
            drop_last=False,
            device=self.device,
        )

    def _train(
        self,
        genotype: Genotype,
        channels: int,
        stream: BatchStream,
        recipe: Recipe,
        look: Callable[[nn.Module, int, float], bool],
    ) -> Training:
        """Train a new network until a `look` after an epoch stops it, or to the last epoch."""
        devices: Any = [self.device.index or 0] if self.device.type == "cuda" else 1
        training = train_from_scratch(
            lambda: self.module.discrete(genotype, channels),
            stream,
            recipe,
            Fabric(accelerator=self.device.type, devices=devices),
            seed=self.seed,
            look=look,
        )
        self.steps += training.steps
        return training
