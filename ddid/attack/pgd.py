"""Projected gradient descent, the one loop of every gradient attack and of adversarial training."""

from collections.abc import Callable

import torch
from torch import Tensor

from ddid.attack.budget import Budget, projection, row_size, uniform
from ddid.attack.objectives import Objective
from ddid.data.images import where_rows
from ddid.metric.distance import Embed

Value = Callable[[Tensor], Tensor]
"""A point (B, ...), images or other parameters, to one value per element (B,)."""

Ascent = Callable[[Value, Tensor, Tensor, Budget, torch.Generator], Tensor]
"""Climbs a value from a start in the budget's ball around images."""

MOMENTUM = 0.75  # of `auto_ascent`
ENOUGH_GAINS = 0.75  # share of its steps that must have gained, else the step is halved


def plain_ascent(
    value: Value, start: Tensor, images: Tensor, budget: Budget, generator: torch.Generator
) -> Tensor:
    """Steps of one size by the gradient's sign, projected onto the ball."""
    inside = projection(images, budget)

    def move(point: Tensor, gradient: Tensor) -> Tensor:
        return inside(point.add(gradient.sign(), alpha=budget.step))

    return gradient_ascent(value, start, move, budget, generator)


def auto_ascent(
    value: Value, start: Tensor, images: Tensor, budget: Budget, _: torch.Generator | None = None
) -> Tensor:
    """Climb in the spirit of APGD (Croce & Hein 2020) to the best point: each image's step starts
    at 2 eps and halves when it stalls; `budget.step` is not used."""
    inside, halt = projection(images, budget), checkpoints(budget.steps)
    point = previous = best = start
    step = images.new_full((len(images), 1, 1, 1), 2 * budget.eps)
    values, gradient = value_and_grad(value, point)
    best_value, best_gradient, anchor = values, gradient, values
    gains, last_halt = torch.zeros_like(values), 0
    stalled = torch.ones_like(values, dtype=torch.bool)
    for count in range(1, budget.steps + 1):
        share = MOMENTUM if count > 1 else 1.0
        ahead = inside(point + step * gradient.sign())
        moved = inside(point + share * (ahead - point) + (1 - share) * (point - previous))
        point, previous, before = moved, point, values
        values, gradient = value_and_grad(value, point)
        gains += values > before
        wins = values > best_value
        best = where_rows(wins, point, best)
        best_gradient = where_rows(wins, gradient, best_gradient)
        best_value = torch.maximum(values, best_value)
        if count in halt:
            idle = ~stalled & (best_value <= anchor)
            stalled = (gains < ENOUGH_GAINS * (count - last_halt)) | idle
            step = where_rows(stalled, step / 2, step)
            point = where_rows(stalled, best, point)
            gradient = where_rows(stalled, best_gradient, gradient)
            gains, last_halt, anchor = torch.zeros_like(gains), count, best_value
    return best


def checkpoints(steps: int) -> set[int]:
    """Steps at which the step size is reconsidered: dense towards the end."""
    places, gap = [0.0, 0.22], 0.22
    while places[-1] < 1:
        gap = max(gap - 0.03, 0.06)
        places.append(places[-1] + gap)
    return {int(place * steps) for place in places[1:-1]} - {0}


def valued(embed: Embed, objective: Objective) -> Value:
    """Compose images to embeddings to values: what an attack climbs. Values are of float32."""
    return lambda images: objective(embed(images).float())


def gradient_ascent(
    value: Value,
    point: Tensor,
    move: Callable[[Tensor, Tensor], Tensor],
    budget: Budget,
    generator: torch.Generator,
) -> Tensor:
    """Follow the gradient of `value` from `point` for `budget.steps` moves, which stay inside. An
    element whose first gradient is exactly zero is nudged at random [ours: an image whose only
    guide is its own feature would otherwise stay clean]."""
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
        (gradient,) = torch.autograd.grad(values.sum(), point, materialize_grads=True)
    return values.detach(), gradient
