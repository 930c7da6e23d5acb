"""Adversarially enhanced learning: features that hide whether their image was attacked.

The paper's game, min over the encoder E and max over the discriminator D of
E_x[log D(E(x))] + E_x̂[log(1 − D(E(x̂)))] [summary]. One backward pass plays both sides: the
gradient reaches D as it is and E reversed (Ganin & Lempitsky 2015), which is the game's gradient.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Discriminator(nn.Module):
    """Logit of "this feature is of a clean image", for features (B, D) → (B,).

    Our choice: the features are brought to unit length first, so that their mere size cannot give
    an attack away, and one hidden layer of `width` units with leaky rectifiers follows.
    """

    def __init__(self, dimension: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dimension, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D) → logits (B,)."""
        return self.layers(functional.normalize(features)).squeeze(1)


class _Reverse(torch.autograd.Function):
    """Identity forwards, gradient times −weight backwards."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradients[0], None


def discriminator_game(
    discriminator: Discriminator, clean: Tensor, attacked: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """D's loss, whose gradient trains D and, reversed and times `weight`, the encoder.

    Args:
        discriminator: D.
        clean: features (B, D) of clean images.
        attacked: features (B', D) of attacked images.
        weight: of the encoder's side, ≥ 0; 0 leaves the encoder alone.

    Returns:
        The loss −E[log D(clean)] − E[log(1 − D(attacked))], and D's accuracy as a detached scalar
        in [0, 1]: the mean over both kinds, 0.5 is chance.
    """
    on_clean = discriminator(_Reverse.apply(clean, weight))
    on_attacked = discriminator(_Reverse.apply(attacked, weight))
    loss = functional.softplus(-on_clean).mean() + functional.softplus(on_attacked).mean()
    accuracy = ((on_clean > 0).float().mean() + (on_attacked < 0).float().mean()) / 2
    return loss, accuracy.detach()
