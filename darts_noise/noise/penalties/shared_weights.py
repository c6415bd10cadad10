"""The penalty ``shared``, an ablation only: the weights that learn the data also see the noise."""

from torch import Tensor

from darts_noise.noise.penalties.penalty import LossPenalty, noise_fit_penalty, register_penalty


@register_penalty("shared")
class SharedWeights(LossPenalty):
    """A penalty on the noise fit of w, which is trained on batches of data and noise.

    It exists to show that this approach is ill-posed. Both w and α minimise L_train + λ · P. So w
    learns to guess on noise, whatever the architecture *could* fit. P is then 0 and flat, and α
    gets no gradient. Therefore the default penalty uses a twin, which tries to fit the noise.
    """

    weights = "own"
    mixed_batches = True

    def of_loss(self, noise_loss: Tensor, num_classes: int) -> Tensor:
        return noise_fit_penalty(noise_loss, num_classes)
