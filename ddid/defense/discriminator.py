"""Adversarially enhanced learning: features that hide whether their image was attacked.

The paper's game, min over the encoder E and max over the discriminator D of
E_x[log D(E(x))] + E_x̂[log(1 − D(E(x̂)))] [summary]. One backward pass plays both sides: the
gradient reaches D as it is and E reversed (Ganin & Lempitsky 2015), which is the game's gradient.
"""

from torch import Tensor, nn
from torch.nn import functional


class Discriminator(nn.Module):
    """Logits (B,) of "this is a clean image's feature" for features (B, D). Our choice: one hidden
    layer, and unit length, so that mere size cannot give an attack away."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dimension, 128), nn.LeakyReLU(0.2), nn.Linear(128, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) → logits (B,)."""
        return self.layers(functional.normalize(features)).squeeze(1)


def reversing(features: Tensor, weight: float) -> Tensor:
    """The features (B, D) themselves, whose gradient comes back times −weight."""
    same = features.view_as(features)
    if same.requires_grad:
        same.register_hook(lambda gradient: -weight * gradient)
    return same


def discriminator_game(
    discriminator: Discriminator, clean: Tensor, attacked: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """D's loss −E[log D(clean)] − E[log(1 − D(attacked))], for features (B, D) and (B', D). Its
    gradient trains D and, reversed and times `weight` ≥ 0, the encoder. Beside it D's accuracy,
    detached, in [0, 1]: the mean over both kinds; 0.5 is chance."""
    on_clean = discriminator(reversing(clean, weight))
    on_attacked = discriminator(reversing(attacked, weight))
    loss = functional.softplus(-on_clean).mean() + functional.softplus(on_attacked).mean()
    accuracy = ((on_clean > 0).float().mean() + (on_attacked < 0).float().mean()) / 2
    return loss, accuracy.detach()
