"""Trainings of single cells, alone and from scratch, by which a search chooses among candidates."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, derive_seed
from darts_noise.nets.network import create_model
from darts_noise.nets.width import nearest_channels
from darts_noise.noise.penalties.twin import noise_fit_penalty
from darts_noise.reading import EVALUATION_BATCH, Reading, laid_out, read
from darts_noise.search.candidate import Candidate
from darts_noise.search.module import SearchModule
from darts_noise.space.genotype import Genotype

RATE, MOMENTUM, DECAY = 0.1, 0.9, 3e-4
"""SGD's on the data, since networks of the found cell are trained with it: a cell may learn with
Adam and never begin to with SGD. The rate falls to 0 on a cosine."""
NOISE_RATES = (3e-3, 1e-3)
"""Adam's on noise, which fits more of it than SGD; a training each, the better fit counts."""
NOISE_EPOCHS = 100
"""As in the `converged` measurement."""
FITTED = 0.05
"""A noise loss in nats below which P is within 0.02 of 1, and no training need go on."""


class Trials:
    """Measures cells, all with the same initial seed and order of the batches.

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
        # Lightning leaves a module on the CPU once its fit has ended.
        trainer = data.trainer
        self.device = module.device if trainer is None else trainer.strategy.root_device
        self._form = {
            "num_classes": module.num_classes,
            "in_channels": module.in_channels,
            **{key: module.hparams[key] for key in ("num_cells", "stem", "stem_stride")},
        }

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
        channels = self.channels(genotype)
        validation = self.on_data(genotype, channels)
        if validation.loss >= least:
            return Candidate(genotype, validation)
        noise = self.module.noise_set
        if noise is None:
            return Candidate(genotype, validation, None, validation.loss)
        weight, guess = self.settings["noise_weight"], math.log(noise.num_classes)
        enough = guess * (1 - (least - validation.loss) / weight)  # of L_noise, where F is least
        fit = self.on_noise(genotype, channels, noise, max(enough, FITTED))
        if not math.isfinite(fit.loss):  # what no training could follow says nothing
            return Candidate(genotype, validation, fit)
        penalty = float(noise_fit_penalty(torch.tensor(fit.loss), noise.num_classes))
        objective = validation.loss + weight * penalty
        return Candidate(genotype, validation, fit, objective)

    def channels(self, genotype: Genotype) -> int:
        """The width of the network: that of ``candidate_parameters``, or that of the supernet."""
        parameters = self.settings["candidate_parameters"]
        if parameters is None:
            return int(self.settings["channels"])
        return nearest_channels(genotype, parameters, **self._form)

    def network(self, genotype: Genotype, channels: int) -> nn.Module:
        """The same weights at each call; torch's generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self.seed)  # and no GPU's
            net: nn.Module = create_model(genotype, channels=channels, **self._form)
        return net.to(self.device)

    def on_data(self, genotype: Genotype, channels: int) -> Reading:
        """Trained on the images of w, read on those of α."""
        data = self.data
        net = self.network(genotype, channels)
        optimiser = SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
        stream = self._shuffled(data.train, data.augmentation)
        self._train(net, optimiser, stream, self.settings["candidate_epochs"])
        return read(net, self._in_order(data.validation, data.crop_pct))

    def on_noise(
        self, genotype: Genotype, channels: int, noise: LabelledImages, enough: float = FITTED
    ) -> Reading:
        """The better fit of `NOISE_RATES` to the search's noise, read on the same images.

        Args:
            genotype: the cell.
            channels: of its network.
            noise: the images.
            enough: a loss in nats; once it is reached, nothing further is trained.
        """
        fits = []
        for rate in NOISE_RATES:
            net = self.network(genotype, channels)
            optimiser = Adam(net.parameters(), rate)
            loss = self._train(net, optimiser, self._shuffled(noise), NOISE_EPOCHS, enough)
            fit = read(net, self._in_order(noise))
            # Batch norms that were stopped early have no good running statistics yet.
            fits.append(Reading(min(loss, fit.loss), fit.accuracy))
            if loss <= enough:
                break
        return min(fits)

    def _shuffled(
        self, data: LabelledImages, augmentation: Augmentation | None = None
    ) -> BatchStream:
        return BatchStream(
            data,
            min(self.data.batch_size, len(data)),
            self.data.normalisation,
            seed=self.seed,
            augmentation=augmentation,
            device=self.device,
        )

    def _in_order(self, data: LabelledImages, crop_pct: float = 1.0) -> BatchStream:
        return BatchStream(
            data,
            min(EVALUATION_BATCH, len(data)),
            self.data.normalisation,
            crop_pct=crop_pct,
            shuffle=False,
            drop_last=False,
            device=self.device,
        )

    def _train(
        self,
        net: nn.Module,
        optimiser: Optimizer,
        stream: BatchStream,
        epochs: int,
        enough: float = -math.inf,
    ) -> float:
        """The last epoch's mean loss, after so many epochs or once it is `enough`; infinite where
        the training diverged."""
        net.train()
        clip = self.settings["gradient_clip"]
        schedule = CosineAnnealingLR(optimiser, epochs * stream.batches_per_epoch)
        mean = math.inf
        for epoch in range(epochs):
            losses: list[Tensor] = []
            for k in range(stream.batches_per_epoch):
                images, labels = stream.batch(epoch * stream.batches_per_epoch + k)
                loss = F.cross_entropy(net(laid_out(images)), labels)
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if clip:
                    nn.utils.clip_grad_norm_(net.parameters(), clip)
                optimiser.step()
                schedule.step()
                losses.append(loss.detach())
            mean = float(torch.stack(losses).mean())
            if mean <= enough or not math.isfinite(mean):
                break
        return mean if math.isfinite(mean) else math.inf
