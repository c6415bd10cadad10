"""Trainings of single cells, alone and from scratch, by which a search chooses among candidates."""

import math
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR

from darts_noise.data.augment import Augmentation
from darts_noise.data.batches import BatchStream
from darts_noise.data.images import LabelledImages
from darts_noise.data.module import ImageDataModule
from darts_noise.data.seeds import Stream, derive_seed, drawing
from darts_noise.nets.network import create_model
from darts_noise.nets.width import nearest_channels
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
"""A noise loss in nats at which the noise counts as fitted, and no training goes on."""


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
        if module.noise_set is None:  # as in a module that was loaded from a checkpoint
            module.build(data)
        self.known = {candidate.genotype: candidate for candidate in known}
        self.module, self.data, self.config = module, data, module.config
        self.seed = derive_seed(module.config.seed, Stream.CANDIDATES)
        # Lightning leaves a module on the CPU once its fit has ended.
        trainer = data.trainer
        self.device = module.device if trainer is None else trainer.strategy.root_device
        self._form = {
            "num_classes": module.num_classes,
            "in_channels": module.in_channels,
            **{key: getattr(module.config, key) for key in ("num_cells", "stem", "stem_stride")},
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

        def objective(noise_loss: float) -> float:
            penalty = self.module.penalty.of_fit(torch.tensor(noise_loss), noise.num_classes)
            return validation.loss + self.config.noise_weight * float(penalty)

        fit = self.on_noise(genotype, channels, noise, lambda loss: objective(loss) >= least)
        if not math.isfinite(fit.loss):  # what no training could follow says nothing
            return Candidate(genotype, validation, fit)
        return Candidate(genotype, validation, fit, objective(fit.loss))

    def channels(self, genotype: Genotype) -> int:
        """The width of the network: that of ``candidate_parameters``, or that of the supernet."""
        parameters = self.config.candidate_parameters
        if parameters is None:
            return self.config.channels
        return nearest_channels(genotype, parameters, **self._form)

    def network(self, genotype: Genotype, channels: int) -> nn.Module:
        """The same weights at each call; torch's generator is left as it was."""
        with drawing(self.config.seed, Stream.CANDIDATES):
            net: nn.Module = create_model(genotype, channels=channels, **self._form)
        return net.to(self.device)

    def on_data(self, genotype: Genotype, channels: int) -> Reading:
        """Trained on the images of w, read on those of α."""
        data = self.data
        net = self.network(genotype, channels)
        optimiser = SGD(net.parameters(), RATE, MOMENTUM, weight_decay=DECAY)
        stream = self._shuffled(data.train, data.augmentation)
        self._train(net, optimiser, stream, self.config.candidate_epochs)
        return read(net, self._in_order(data.validation, data.config.crop_pct))

    def on_noise(
        self,
        genotype: Genotype,
        channels: int,
        noise: LabelledImages,
        enough: Callable[[float], bool] = lambda loss: False,
    ) -> Reading:
        """The better fit of `NOISE_RATES` to the search's noise, read on the same images.

        Args:
            genotype: the cell.
            channels: of its network.
            noise: the images.
            enough: whether a loss in nats needs no further training; one of `FITTED` never does.
        """

        def fitted(loss: float) -> bool:
            return loss <= FITTED or enough(loss)

        fits = []
        for rate in NOISE_RATES:
            net = self.network(genotype, channels)
            optimiser = Adam(net.parameters(), rate)
            loss = self._train(net, optimiser, self._shuffled(noise), NOISE_EPOCHS, fitted)
            fit = read(net, self._in_order(noise))
            # Batch norms that were stopped early have no good running statistics yet.
            fits.append(Reading(min(loss, fit.loss), fit.accuracy))
            if fitted(loss):
                break
        return min(fits)

    def _shuffled(
        self, data: LabelledImages, augmentation: Augmentation | None = None
    ) -> BatchStream:
        return BatchStream(
            data,
            min(self.data.config.batch_size, len(data)),
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
        enough: Callable[[float], bool] = lambda loss: False,
    ) -> float:
        """The last epoch's mean loss, after this many epochs or once it is `enough`; infinite where
        the training diverged."""
        net.train()
        clip = self.config.gradient_clip
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
            if enough(mean) or not math.isfinite(mean):
                break
        return mean if math.isfinite(mean) else math.inf
