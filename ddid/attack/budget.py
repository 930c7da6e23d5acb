"""What an attacker may spend, and the geometry of it: directions, projections, random starts."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddid.errors import require


@dataclass(frozen=True)
class Budget:
    """What an attacker may spend.

    `eps` and `step` are fractions of the pixel range for "linf" and Euclidean lengths over the
    whole image for "l2"; `step` 0 stands for eps/8. eps 8/255 is the paper's [summary]; 15 steps
    of 1/255 without random start follow Bouniot et al. 2020. `momentum` is MI-FGSM's decay (0:
    plain ascent); `queries` is what a gradient-free attack may ask per image [ours].
    """

    eps: float = 8 / 255
    step: float = 0.0
    steps: int = 15
    norm: Literal["linf", "l2"] = "linf"
    random_start: bool = False
    restarts: int = 1
    momentum: float = 0.0
    queries: int = 300

    def __post_init__(self) -> None:
        for name in ("eps", "step", "momentum"):
            value = getattr(self, name)
            fits = isinstance(value, int | float) and 0 <= value < math.inf
            require(fits, f"{name} is {value!r}: give a number of at least 0, such as 8/255")
        for name in ("steps", "restarts", "queries"):
            count = getattr(self, name)
            fits = isinstance(count, int) and count >= 1
            require(fits, f"{name} is {count!r}: an attack needs a whole number, at least 1")
        require(self.norm in ("linf", "l2"), f"norm is {self.norm!r}: choose 'linf' or 'l2'")
        fits = self.norm == "l2" or self.eps <= 1
        require(fits, f"eps is {self.eps} but pixels lie in [0, 1]: give a fraction such as 8/255")
        if self.step == 0:
            object.__setattr__(self, "step", self.eps / 8)

    def __str__(self) -> str:
        unit, label = (1, " (L2)") if self.norm == "l2" else (255, "/255")
        eps, step = (f"{size * unit:.3g}{label}" for size in (self.eps, self.step))
        return f"eps {eps}, {self.steps} steps of {step}"


def steepest(gradient: Tensor, budget: Budget) -> Tensor:
    """Steepest direction of size 1 in the budget's norm: the sign, or the unit vector."""
    return gradient.sign() if budget.norm == "linf" else gradient / row_norm(gradient)


def projection(images: Tensor, budget: Budget) -> Callable[[Tensor], Tensor]:
    """The projection onto the budget's ball around `images` and onto [0, 1]."""
    if budget.norm == "linf":
        low, high = (images - budget.eps).clamp_min(0), (images + budget.eps).clamp_max(1)
        return lambda point: torch.clamp(point, low, high)

    def shorten(point: Tensor) -> Tensor:
        shift = point - images
        # Clipping comes last: it only moves pixels nearer to the clean image.
        return (images + shift * (budget.eps / row_norm(shift)).clamp_max(1)).clamp(0, 1)

    return shorten


def random_start(images: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
    """A random point of the ball: uniform for "linf", uniform in radius for "l2"."""
    noise = uniform(images.shape, generator, images)
    if budget.norm == "linf":
        return (images + budget.eps * noise).clamp(0, 1)
    radius = uniform((len(images), 1, 1, 1), generator, images).abs()
    return (images + budget.eps * radius * noise / row_norm(noise)).clamp(0, 1)


def uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform numbers in [-1, 1), drawn where the generator lives and moved next to `like`."""
    numbers = torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return (2 * numbers - 1).to(like.device)


def row_norm(batch: Tensor) -> Tensor:
    """Euclidean length of each row of (B, ...), at least a tiny positive number, as (B, 1, ...)."""
    return batch.square().sum(tuple(range(1, batch.ndim)), keepdim=True).sqrt().clamp_min(1e-12)


def row_size(batch: Tensor) -> Tensor:
    """Mean absolute value of each row of (B, ...), at least tiny, as (B, 1, ...)."""
    sizes = batch.abs().mean(tuple(range(1, batch.ndim)), keepdim=True)
    return sizes.clamp_min(torch.finfo(batch.dtype).tiny)


def where_rows(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Whole elements of a batch: `first` where the mask (B,) holds, else `second`."""
    return torch.where(mask.view(-1, *[1] * (first.ndim - 1)), first, second)
