"""What an attacker may spend, its geometry, and the 8-bit pictures within it that are scored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddid.errors import require, require_within

SLIP = 1e-4  # of float32, over many steps


@dataclass(frozen=True)
class Budget:
    """What an attacker may spend: `eps` and `step` in fractions of the pixel range for "linf", in
    Euclidean lengths over the whole image for "l2". Steps and start are those of Bouniot et al."""

    eps: float = 8 / 255  # the paper's [summary]
    step: float = 0.0  # 0: eps/8
    steps: int = 15
    norm: Literal["linf", "l2"] = "linf"
    random_start: bool = False
    restarts: int = 1
    momentum: float = 0.0  # MI-FGSM's decay; 0: plain ascent
    queries: int = 300  # a gradient-free attack may ask per image [ours]

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("eps", "step", "momentum"), "[0, inf)")
        counts = dict.fromkeys(("steps", "restarts", "queries"), "[1, inf)")
        require_within("attack", self, **sizes, **counts)
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


def check_images(images: Tensor) -> None:
    """Raise InputError unless `images` is a batch (B, 3, H, W), uint8 or floats in [0, 1]."""
    levels = images.dtype == torch.uint8
    fits = images.ndim == 4 and len(images) > 0 and (levels or images.is_floating_point())
    told = f"images have shape {tuple(images.shape)} and type {images.dtype}"
    require(fits, f"{told}: give a batch (B, 3, H, W), uint8 or floats")
    low, high = (0, 1) if levels else map(float, images.aminmax())
    require(
        low >= 0 and high <= 1,
        f"images span [{low:.3g}, {high:.3g}]: attacks want pixels in [0, 1], so normalise inside",
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
