"""From an attack's floats to the 8-bit pictures that are scored, inside the budget all the way."""

import torch
from torch import Tensor

from ddid.attack.budget import Budget
from ddid.errors import require

SLIP = 1e-4  # float32, over many steps


def check_images(images: Tensor) -> None:
    """Raise InputError unless `images` is a batch (B, 3, H, W), uint8 or floats in [0, 1]."""
    levels = images.dtype == torch.uint8
    fits = images.ndim == 4 and len(images) > 0 and (levels or images.is_floating_point())
    told = f"images have shape {tuple(images.shape)} and type {images.dtype}"
    require(fits, f"{told}: give a batch (B, 3, H, W), uint8 or floats")
    low, high = (0, 1) if levels else map(float, images.aminmax())
    require(
        low >= 0 and high <= 1,
        f"images span [{low:.3g}, {high:.3g}]: attacks work on pixels in [0, 1], before any "
        "normalisation (put normalisation inside the model)",
    )


def check_attacked(name: str, attacked: Tensor, images: Tensor, budget: Budget | None) -> None:
    """Raise InputError if an attack left the budget or [0, 1] before anything is rounded."""
    shift = (attacked - images).flatten(1)
    size = shift.norm(dim=1) if budget and budget.norm == "l2" else shift.abs().amax(1)
    low, high, far = torch.stack([attacked.min(), attacked.max(), size.max()]).tolist()
    require(
        low >= -SLIP and high <= 1 + SLIP and (budget is None or far <= budget.eps + SLIP),
        f"attack {name!r} returned pixels in [{low:.3g}, {high:.3g}], {far:.3g} from the clean "
        "ones: it must stay in [0, 1] and within its budget",
    )


def to_8bit(attacked: Tensor, images: Tensor, budget: Budget | None) -> Tensor:
    """Round to the 256 levels of a picture file, uint8, inside the budget around `images`."""
    clean = (images * 255).round()
    shift = attacked * 255 - clean
    whole = shift.round()
    if budget and budget.norm == "linf":
        levels = int(budget.eps * 255 + SLIP)
        whole = whole.clamp(-levels, levels)
    elif budget:
        whole = round_up_largest(shift, 255 * budget.eps)
    return (clean + whole).clamp(0, 255).to(torch.uint8)


def round_up_largest(shift: Tensor, length: float) -> Tensor:
    """Whole levels for changes (B, ...), of Euclidean length at most `length` and nearly that.

    Everything is rounded towards zero, then away from it where the fraction cut off is largest,
    as far as the length allows. The nearest level would undo an L2 attack, which spreads less
    than half a level on each of many pixels.
    """
    size = shift.abs().flatten(1)
    down = (size + SLIP).floor()
    fraction, order = (size - down).sort(dim=1, descending=True, stable=True)
    cost = (2 * down + 1).gather(1, order)  # of (n + 1)^2 over n^2
    room = length**2 - down.square().sum(1, keepdim=True)
    up = (fraction > SLIP) & (cost.cumsum(1, dtype=torch.float64) <= room)
    whole = down.scatter_add(1, order, up.to(down.dtype))
    return whole.view_as(shift) * shift.sign()
