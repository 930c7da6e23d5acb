"""An ascent that finds its own step size, in the spirit of APGD (Croce & Hein 2020)."""

import torch
from torch import Tensor

from ddid.attack.budget import Budget, projection, steepest, where_rows
from ddid.attack.pgd import Value, value_and_grad

MOMENTUM = 0.75
ENOUGH_GAINS = 0.75  # share of steps that must have gained, else the step is halved


def auto_ascent(
    value: Value,
    start: Tensor,
    images: Tensor,
    budget: Budget,
    _: torch.Generator | None = None,
) -> Tensor:
    """Climb `value` from `start` in the budget's ball around `images`; return the best point.

    The step of each image starts at 2 eps and halves when it stalls; `budget.step` is not used.
    """
    inside, halt = projection(images, budget), checkpoints(budget.steps)
    point = previous = best = start
    step = images.new_full((len(images), 1, 1, 1), 2 * budget.eps)
    values, gradient = value_and_grad(value, point)
    best_value, best_gradient, anchor = values, gradient, values
    gains, last_halt = torch.zeros_like(values), 0
    stalled = torch.ones_like(values, dtype=torch.bool)
    for count in range(1, budget.steps + 1):
        share = MOMENTUM if count > 1 else 1.0
        ahead = inside(point + step * steepest(gradient, budget))
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
