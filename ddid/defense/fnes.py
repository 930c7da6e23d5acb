"""Farthest negative extension softening (FNES): stretch the attack, soften its label.

The attack pushes an image towards its farthest negative identity. FNES goes further along the
same line than the attack did, then comes back a random part of the way, and lets the label follow.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ddid.errors import require, require_within
from ddid.metric.losses import smooth_labels


@dataclass(frozen=True)
class FNES:
    """How far to extend and how much to soften; our choices, tuned where no result is measured."""

    gamma: float = 1.5  # extension γ ≥ 1; 1 keeps the attacked image
    omega: tuple[float, float] = (0.0, 0.3)  # (a, b) of ω ~ U(a, b) [summary], the way back
    smooth_clean: float = 0.1  # λ1: smoothing of the clean image's label
    smooth_attacked: float = 0.1  # λ2: smoothing of the attacked image's label
    shift: float = 0.05  # υ: probability moved to the farthest negative class

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("smooth_clean", "smooth_attacked", "shift"), "[0, 1]")
        require_within("FNES", self, gamma="[1, inf)", **shares)
        right = len(self.omega) == 2 and 0 <= self.omega[0] <= self.omega[1] <= 1
        require(right, f"FNES wants two numbers 0 ≤ a ≤ b ≤ 1 for omega, not {self.omega}")


def extend(images: Tensor, attacked: Tensor, omega: Tensor, gamma: float) -> Tensor:
    """x_temp = x + γ(x̂ − x); x_adv = ωx + (1 − ω)x_temp, clipped to pixels [summary], up to γ
    times as far from clean x as attacked x̂ is: (B, 3, H, W) in [0, 1] all, and ω (B,)."""
    extended = torch.lerp(images, attacked, gamma)
    return torch.lerp(extended, images, omega.view(-1, 1, 1, 1)).clamp(0, 1)


def move_probability(targets: Tensor, labels: Tensor, far: Tensor, amount: float) -> Tensor:
    """The paper's τ: move `amount` from the true class to the farthest negative one [summary].
    Takes targets (B, C), true classes (B,), and (B,) classes the attack aimed at. A true class that
    holds less gives all it has; an image whose attack aims at none has its own class as `far`."""
    given = targets.gather(1, labels[:, None]).clamp(max=amount)
    return targets.scatter_add(1, labels[:, None], -given).scatter_add(1, far[:, None], given)


def soften(labels: Tensor, far: Tensor, classes: int, omega: Tensor, fnes: FNES) -> Tensor:
    """y_adv = ω φ(y, λ1) + (1 − ω) τ(φ(y, λ2), υ) [summary]: (B, classes), rows sum to 1."""
    clean = smooth_labels(labels, classes, fnes.smooth_clean)
    attacked = smooth_labels(labels, classes, fnes.smooth_attacked)
    moved = move_probability(attacked, labels, far, fnes.shift)
    return torch.lerp(moved, clean, omega.view(-1, 1))
