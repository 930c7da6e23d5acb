"""Projected gradient descent, the one loop of every gradient attack and of adversarial training."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddid.attack.budget import (
    Budget,
    projection,
    random_start,
    row_mean,
    steepest,
    uniform,
    where_rows,
)
from ddid.errors import require
from ddid.metric.distance import Embed

Objective = Callable[[Tensor], Tensor]
"""Embeddings (B, D) to one value per image (B,), which the attack raises."""

Value = Callable[[Tensor], Tensor]
"""A point (B, ...), images or other parameters, to one value per element (B,)."""

Move = Callable[[Tensor, Tensor], Tensor]
"""A point and its gradient to the next point, inside the budget."""


def pgd(
    embed: Embed,
    images: Tensor,
    objective: Objective,
    budget: Budget,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Attack `images` (B, 3, H, W) in [0, 1]: raise `objective` of their embeddings.

    Returns images of the same shape in [0, 1], at most `budget.eps` away; with several restarts,
    the best of them for each image. Only input gradients are computed, the model's mode is left
    as found, and nothing waits for the device. Without a `generator` the random parts use seed 0.
    """
    check_shape(images)
    generator = generator or torch.Generator(images.device).manual_seed(0)
    value, inside = valued(embed, objective), projection(images, budget)

    def move(point: Tensor, gradient: Tensor) -> Tensor:
        return inside(point.add(steepest(gradient, budget), alpha=budget.step))

    def climb_from(start: Tensor) -> Tensor:
        return gradient_ascent(value, start, move, budget, generator)

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
    best = climb_from(random_start(images, budget, generator) if budget.random_start else images)
    for _ in range(budget.restarts - 1):
        again = climb_from(random_start(images, budget, generator))
        with torch.no_grad():
            best = where_rows(value(again) > value(best), again, best)
    return best


def valued(embed: Embed, objective: Objective) -> Value:
    """Compose images to embeddings to values: what an attack climbs."""
    return lambda images: objective(embed(images))


def gradient_ascent(
    value: Value, start: Tensor, move: Move, budget: Budget, generator: torch.Generator
) -> Tensor:
    """Follow the gradient of `value` (B,) from `start` (B, ...) for `budget.steps` moves.

    The point may be images or any other parameters (colors, displacements, a patch).
    An element whose first gradient is exactly zero is nudged at random [ours: an image whose only
    guide is its own feature would otherwise stay clean].
    """
    point, velocity = start, torch.zeros_like(start) if budget.momentum else None
    for count in range(budget.steps):
        _, gradient = value_and_grad(value, point)
        if count == 0:
            gradient = nudge_stuck(gradient, generator)
        if velocity is not None:
            velocity = budget.momentum * velocity + gradient / row_mean(gradient.abs())
            gradient = velocity
        point = move(point, gradient)
    return point


def value_and_grad(value: Value, point: Tensor) -> tuple[Tensor, Tensor]:
    """Value (B,) of each element of `point` (B, ...), and its gradient (B, ...): zero where the
    value does not depend on the point."""
    with torch.enable_grad():
        point = point.detach().requires_grad_()
        values = value(point)
        if not values.requires_grad:
            return values, torch.zeros_like(point)
        (gradient,) = torch.autograd.grad(values.sum(), point, allow_unused=True)
    return values.detach(), torch.zeros_like(point) if gradient is None else gradient


def nudge_stuck(gradient: Tensor, generator: torch.Generator) -> Tensor:
    """Replace the rows of a gradient that are exactly zero by random ones."""
    stuck = row_mean(gradient.abs()) <= torch.finfo(gradient.dtype).tiny
    return torch.where(stuck, uniform(gradient.shape, generator, gradient), gradient)


def check_shape(images: Tensor) -> None:
    """Raise InputError unless `images` is a float batch (B, 3, H, W)."""
    require(
        images.ndim == 4 and images.is_floating_point() and len(images) > 0,
        f"images have shape {tuple(images.shape)} and type {images.dtype}: "
        "give a non-empty float batch (B, 3, H, W)",
    )


def check_range(images: Tensor) -> None:
    """Raise InputError unless all of `images` lies in [0, 1]; waits for the device."""
    low, high = float(images.min()), float(images.max())
    require(
        low >= 0 and high <= 1,
        f"images span [{low:.3g}, {high:.3g}]: attacks work on pixels in [0, 1], before any "
        "normalisation (put normalisation inside the model)",
    )
