"""Projected gradient descent, the one loop of every gradient attack and of adversarial training."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddid.attack.budget import (
    Budget,
    projection,
    random_start,
    row_size,
    steepest,
    uniform,
    where_rows,
)
from ddid.metric.distance import Embed

Objective = Callable[[Tensor], Tensor]
"""Embeddings (B, D) to one value per image (B,), which the attack raises."""

Value = Callable[[Tensor], Tensor]
"""A point (B, ...), images or other parameters, to one value per element (B,)."""


Ascent = Callable[[Value, Tensor, Tensor, Budget, torch.Generator], Tensor]
"""Climbs a value from a start in the budget's ball around images; `auto_ascent` is another."""


def plain_ascent(
    value: Value, start: Tensor, images: Tensor, budget: Budget, generator: torch.Generator
) -> Tensor:
    """Steps of one size in the steepest direction, projected onto the ball."""
    inside = projection(images, budget)

    def move(point: Tensor, gradient: Tensor) -> Tensor:
        return inside(point.add(steepest(gradient, budget), alpha=budget.step))

    return gradient_ascent(value, start, move, budget, generator)


def pgd(
    embed: Embed,
    images: Tensor,
    objective: Objective,
    budget: Budget,
    generator: torch.Generator | None = None,
    ascent: Ascent = plain_ascent,
) -> Tensor:
    """Raise `objective` of the embeddings of float `images` (B, 3, H, W) in [0, 1].

    Returns images in [0, 1], at most `budget.eps` away: the best of all restarts for each. The
    first starts at the clean image unless the budget says random. The model's mode is left as
    found and nothing waits for the device. Without a `generator` the random parts use seed 0.
    """
    generator = generator or torch.Generator(images.device).manual_seed(0)
    value, best = valued(embed, objective), images
    for restart in range(budget.restarts):
        is_random = restart > 0 or budget.random_start
        start = random_start(images, budget, generator) if is_random else images
        point = ascent(value, start, images, budget, generator)
        with torch.no_grad():
            best = where_rows(value(point) > value(best), point, best) if restart else point
    return best


def valued(embed: Embed, objective: Objective) -> Value:
    """Compose images to embeddings to values: what an attack climbs."""
    return lambda images: objective(embed(images))


def gradient_ascent(
    value: Value,
    point: Tensor,
    move: Callable[[Tensor, Tensor], Tensor],
    budget: Budget,
    generator: torch.Generator,
) -> Tensor:
    """Follow the gradient of `value` from `point` for `budget.steps` moves, which stay inside.

    An element whose first gradient is exactly zero is nudged at random [ours: an image whose only
    guide is its own feature would otherwise stay clean].
    """
    velocity = torch.zeros_like(point)
    for count in range(budget.steps):
        _, gradient = value_and_grad(value, point)
        if count == 0:
            stuck = row_size(gradient) <= torch.finfo(gradient.dtype).tiny
            gradient = torch.where(stuck, uniform(gradient.shape, generator, gradient), gradient)
        if budget.momentum:
            gradient = velocity = budget.momentum * velocity + gradient / row_size(gradient)
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
