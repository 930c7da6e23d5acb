"""What an attacker may spend, its geometry, and the 8-bit pictures within it that are scored."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ddid.errors import require, require_within

SLIP = 1e-4  # of float32, over many steps


@dataclass(frozen=True)
class Budget:
    """What an attacker may spend: each value of each pixel changes by at most `eps` (L-inf), `step`
    by step, both in fractions of the pixel range. Steps and start are those of Bouniot et al."""

    eps: float = 8 / 255  # the paper's [summary]
    step: float = 0.0  # 0: eps/8, more where fewer than 8 steps have to cross eps
    steps: int = 15
    random_start: bool = False
    restarts: int = 1
    momentum: float = 0.0  # MI-FGSM's decay; 0: plain ascent
    queries: int = 300  # a gradient-free attack may ask per image [ours]

    def __post_init__(self) -> None:
        sizes = dict.fromkeys(("eps", "step", "momentum"), "[0, inf)")
        counts = dict.fromkeys(("steps", "restarts", "queries"), "[1, inf)")
        require_within("attack", self, **sizes, **counts)
        told = f"eps is {self.eps} but pixels lie in [0, 1]: give a fraction such as 8/255"
        require(self.eps <= 1, told)
        if self.step == 0:
            object.__setattr__(self, "step", self.eps / min(8, self.steps))

    def __str__(self) -> str:
        return f"eps {255 * self.eps:.3g}/255, {self.steps} steps of {255 * self.step:.3g}/255"


def projection(images: Tensor, budget: Budget) -> Callable[[Tensor], Tensor]:
    """The projection onto the budget's ball around `images` and onto [0, 1]."""
    low, high = (images - budget.eps).clamp_min(0), (images + budget.eps).clamp_max(1)
    return lambda point: torch.clamp(point, low, high)


def random_start(images: Tensor, budget: Budget, generator: torch.Generator) -> Tensor:
    """A random point of the ball."""
    return (images + budget.eps * uniform(images.shape, generator, images)).clamp(0, 1)


def uniform(shape: tuple[int, ...], generator: torch.Generator, like: Tensor) -> Tensor:
    """Uniform numbers in [-1, 1), drawn where the generator lives and moved next to `like`."""
    numbers = torch.rand(shape, generator=generator, device=generator.device, dtype=like.dtype)
    return (2 * numbers - 1).to(like.device)


def row_size(batch: Tensor) -> Tensor:
    """Mean absolute value of each row of (B, ...), at least tiny, as (B, 1, ...)."""
    sizes = batch.abs().mean(tuple(range(1, batch.ndim)), keepdim=True)
    return sizes.clamp_min(torch.finfo(batch.dtype).tiny)


def check_attacked(name: str, attacked: Tensor, images: Tensor, budget: Budget | None) -> None:
    """Raise InputError if an attack left the budget or [0, 1] before anything is rounded."""
    size = (attacked - images).abs().max()
    low, high, far = torch.stack([attacked.min(), attacked.max(), size]).tolist()
    require(
        low >= -SLIP and high <= 1 + SLIP and (budget is None or far <= budget.eps + SLIP),
        f"attack {name!r} returned pixels in [{low:.3g}, {high:.3g}], {far:.3g} from the clean "
        "ones: it must stay in [0, 1] and within its budget",
    )


def to_8bit(attacked: Tensor, images: Tensor, budget: Budget | None) -> Tensor:
    """Round to the 256 levels of a picture file, uint8, inside the budget around `images`."""
    clean = (images * 255).round()
    whole = (attacked * 255 - clean).round()
    if budget:
        levels = int(budget.eps * 255 + SLIP)
        whole = whole.clamp(-levels, levels)
    return (clean + whole).clamp(0, 255).to(torch.uint8)
