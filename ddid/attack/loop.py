"""One ascent loop and one budget, shared by every gradient attack and by adversarial training."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddid.errors import require
from ddid.model import Embed

Objective = Callable[[Tensor], Tensor]
"""Embeddings (B, D) to one value per image (B,), which the attack raises."""

Value = Callable[[Tensor], Tensor]
"""A point (B, ...), images or other parameters, to one value per element (B,)."""

Move = Callable[[Tensor, Tensor], Tensor]
"""A point and its gradient to the next point, inside the budget."""


@dataclass(frozen=True)
class Budget:
    """What an attacker may spend.

    Defaults: eps 8/255 is the paper's [summary]; 15 steps of 1/255 without random start follow
    Bouniot et al. 2020. `eps` and `step` are fractions of the pixel range for "linf" and Euclidean
    lengths over the whole image for "l2". `momentum` is MI-FGSM's decay (0: plain ascent);
    `queries` is what a gradient-free attack may ask per image [ours: half a minute for 200 images
    on a CPU; published attacks ask thousands].
    """

    eps: float = 8 / 255
    step: float = 1 / 255
    steps: int = 15
    norm: Literal["linf", "l2"] = "linf"
    random_start: bool = False
    restarts: int = 1
    momentum: float = 0.0
    queries: int = 300

    def __post_init__(self) -> None:
        require(self.norm in ("linf", "l2"), f"norm is {self.norm!r}: choose 'linf' or 'l2'")
        require(self.eps >= 0, f"eps is {self.eps}: give a size of at least 0, such as 8/255")
        require(
            self.norm == "l2" or self.eps <= 1,
            f"eps is {self.eps} but pixels lie in [0, 1]: give a fraction such as 8/255",
        )
        require(self.step > 0, f"step is {self.step}: give a positive size, such as 1/255")
        for name in ("steps", "restarts", "queries"):
            count = getattr(self, name)
            require(count >= 1, f"{name} is {count}: an attack needs at least 1")


def ascend(
    embed: Embed,
    images: Tensor,
    objective: Objective,
    budget: Budget,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack `images` (B, 3, H, W) in [0, 1]: raise `objective` of their embeddings.

    Returns images of the same shape in [0, 1], at most `budget.eps` away; with several restarts,
    the best of them for each image. Only input gradients are computed, the model's mode is left
    as found, and nothing inside the loop waits for the device. Without a `generator` the random
    parts use seed 0.
    """
    check_images(images)
    generator = generator or torch.Generator(images.device).manual_seed(0)
    value, move = rising(embed, objective), mover(images, budget)

    def climb_from(start: Tensor) -> Tensor:
        return climb(value, start, move, budget, generator)

    return best_of_restarts(climb_from, value, images, budget, generator)


def best_of_restarts(
    climb_from: Callable[[Tensor], Tensor],
    value: Value,
    images: Tensor,
    budget: Budget,
    generator: torch.Generator,
) -> Tensor:
    """Climb from several starts and keep the best point of each image.

    The first start is the clean image unless the budget says random, the others are random.
    """
    best = climb_from(scatter(images, budget, generator) if budget.random_start else images)
    for _ in range(budget.restarts - 1):
        again = climb_from(scatter(images, budget, generator))
        with torch.no_grad():
            best = pick(value(again) > value(best), again, best)
    return best


def rising(embed: Embed, objective: Objective) -> Value:
    """Compose images to embeddings to values: what an attack climbs."""
    return lambda images: objective(embed(images))


def climb(
    value: Value,
    start: Tensor,
    move: Move,
    budget: Budget,
    generator: torch.Generator,
) -> Tensor:
    """Follow the gradient of `value` (B,) from `start` (B, ...) for `budget.steps` moves.

    The point may be images or any other parameters (colors, displacements, a patch).
    An element whose first gradient is exactly zero is nudged at random [ours: an image whose only
    guide is its own feature would otherwise stay clean].
    """
    point, velocity = start, torch.zeros_like(start) if budget.momentum else None
    for count in range(budget.steps):
        gradient = slope(value, point)
        if count == 0:
            gradient = nudge_stuck(gradient, generator)
        if velocity is not None:
            velocity = budget.momentum * velocity + gradient / row_mean(gradient.abs())
            gradient = velocity
        point = move(point, gradient)
    return point


def slope(value: Value, point: Tensor) -> Tensor:
    """Gradient of `value(point).sum()`; zero where the value does not depend on the point."""
    return rise(value, point)[1]


def rise(value: Value, point: Tensor) -> tuple[Tensor, Tensor]:
    """Value (B,) of each element of `point` (B, ...) and its gradient (B, ...)."""
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        values = value(point)
        if not values.requires_grad:
            return values, torch.zeros_like(point)
        (gradient,) = torch.autograd.grad(values.sum(), point, allow_unused=True)
    return values.detach(), torch.zeros_like(point) if gradient is None else gradient


def pick(where: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Choose whole elements of a batch: `first` where the mask (B,) holds, else `second`."""
    return torch.where(where.view(-1, *[1] * (first.ndim - 1)), first, second)


def mover(images: Tensor, budget: Budget) -> Move:
    """Build the step of one budget around `images`: along the gradient, then back inside."""
    inside = projector(images, budget)
    return lambda point, gradient: inside(point.add(heading(gradient, budget), alpha=budget.step))


def heading(gradient: Tensor, budget: Budget) -> Tensor:
    """Steepest direction of size 1 in the budget's norm: the sign, or the unit vector."""
    return gradient.sign() if budget.norm == "linf" else gradient / row_norm(gradient)


def projector(images: Tensor, budget: Budget) -> Callable[[Tensor], Tensor]:
    """Build the way back into the budget's ball around `images` and into [0, 1]."""
    if budget.norm == "linf":
        low, high = (images - budget.eps).clamp_min(0), (images + budget.eps).clamp_max(1)
        return lambda point: torch.clamp(point, low, high)

    def shorten(point: Tensor) -> Tensor:
        shift = point - images
        # Clipping comes last: it only moves pixels nearer to the clean image.
        return (images + shift * (budget.eps / row_norm(shift)).clamp_max(1)).clamp(0, 1)

    return shorten


def scatter(images: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
    """Draw a random start in the budget's ball: uniform for "linf", uniform in radius for "l2"."""
    noise = uniform(images.shape, generator, images)
    if budget.norm == "linf":
        return (images + budget.eps * noise).clamp(0, 1)
    radius = uniform((len(images), 1, 1, 1), generator, images).abs()
    return (images + budget.eps * radius * noise / row_norm(noise)).clamp(0, 1)


def uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform numbers in [-1, 1), drawn where the generator lives and moved next to `like`."""
    numbers = torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return (2 * numbers - 1).to(like.device)


def check_images(images: Tensor) -> None:
    """Raise InputError unless `images` is a float batch (B, 3, H, W) with values in [0, 1]."""
    require(
        images.ndim == 4 and images.is_floating_point() and len(images) > 0,
        f"images have shape {tuple(images.shape)} and type {images.dtype}: "
        "give a non-empty float batch (B, 3, H, W)",
    )
    low, high = float(images.min()), float(images.max())
    require(
        low >= 0 and high <= 1,
        f"images span [{low:.3g}, {high:.3g}]: attacks work on pixels in [0, 1], before any "
        "normalisation (put normalisation inside the model)",
    )


def nudge_stuck(gradient: Tensor, generator: torch.Generator) -> Tensor:
    """Replace the rows of a gradient that are exactly zero by random ones."""
    stuck = row_mean(gradient.abs()) <= torch.finfo(gradient.dtype).tiny
    return torch.where(stuck, uniform(gradient.shape, generator, gradient), gradient)


def row_norm(batch: Tensor) -> Tensor:
    """Euclidean length of each row of (B, ...), at least a tiny positive number, as (B, 1, ...)."""
    return batch.square().sum(tuple(range(1, batch.ndim)), keepdim=True).sqrt().clamp_min(1e-12)


def row_mean(batch: Tensor) -> Tensor:
    """Mean of each row of (B, ...), at least a tiny positive number, as (B, 1, ...)."""
    return batch.mean(tuple(range(1, batch.ndim)), keepdim=True).clamp_min(
        torch.finfo(batch.dtype).tiny
    )
