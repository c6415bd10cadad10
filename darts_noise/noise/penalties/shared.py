"""``shared``: an ablation, and no way to search: the weights that learn the data face the noise."""

from torch import Tensor

from darts_noise.noise.penalties.penalty import LossPenalty, noise_fit_penalty, register_penalty


@register_penalty("shared")
class Shared(LossPenalty):
    """The gap to a guess on noise of w itself, which takes its steps on mixed batches.

    Ill-posed, and here to show that: w minimises L_train + λ · P as α does. It answers noise with a
    guess whatever the architecture *could* fit, so that P is 0 and flat, and α is told nothing.
    That is why the search's own penalty looks at a twin, which tries to fit the noise.
    """

    weights = "own"
    mixed_batches = True

    def of_loss(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        return noise_fit_penalty(noise_loss, num_classes)
