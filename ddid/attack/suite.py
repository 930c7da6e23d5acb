"""What an attack gets to see, the card that pins its name down, and the table of all attacks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from torch import Tensor

from ddid.attack.guides import Guides
from ddid.attack.loop import Budget, row_norm
from ddid.errors import require
from ddid.model import Embed
from ddid.progress import Progress

Family = Literal["standard", "unseen", "baseline"]


@dataclass(frozen=True)
class Scene:
    """A model under attack: images (B, 3, H, W), uint8 or in [0, 1], with their guides.

    `surrogate` is the same scene through another model, for the attack that cannot see this one.
    """

    embed: Embed
    images: Tensor
    guides: Guides
    generator: torch.Generator
    surrogate: "Scene | None" = None

    def batches(self, size: int) -> Iterator["Scene"]:
        """Cut into scenes of at most `size` images, as floats on the guides' device."""
        for start in range(0, len(self.images), size):
            yield self.part(slice(start, start + size)).ready()

    def part(self, index: slice) -> "Scene":
        """The scene of some of the images."""
        return replace(
            self,
            images=self.images[index],
            guides=self.guides[index],
            surrogate=self.surrogate.part(index) if self.surrogate else None,
        )

    def ready(self) -> "Scene":
        """The same scene with its images in [0, 1], on the guides' device."""
        images = self.images.to(self.guides.own.device)
        return replace(
            self,
            images=images / 255 if images.dtype == torch.uint8 else images,
            surrogate=self.surrogate.ready() if self.surrogate else None,
        )


@dataclass(frozen=True)
class Card:
    """The points without which an attack's name means different things in different places."""

    guides: str
    budget: str = "eps 8/255, steps of 1/255, 15 of them; L-inf or L2"
    start: str = "the clean image"
    side: str = "queries; or the gallery, guided by the queries"
    cameras: str = "not looked at when guides are chosen"
    itself: str = "the image is one of its own guides on the query side"
    feature: str = "what the model returns (post-BNNeck)"
    distance: str = "squared Euclidean between unit features; raw ones under metric='euclidean'"
    pixels: str = "clipped to [0, 1], inside the budget, scored after rounding to 8 bits"
    batchnorm: str = "evaluation mode, running statistics"

    def __str__(self) -> str:
        lines = [f"    {field.name:<10} {getattr(self, field.name)}" for field in fields(self)]
        return "\n".join(["Card", *lines])


@dataclass(frozen=True)
class Attack:
    """One named attack: `craft(scene, budget)` returns the scene's images, attacked, in [0, 1].

    `whole` attacks learn from the whole scene at once; the others get one batch at a time.
    `bounded` ones change no pixel by more than the budget's eps; the others state their own bound.
    """

    craft: Callable[[Scene, Budget], Tensor]
    card: Card
    family: Family
    whole: bool = False
    bounded: bool = True


ATTACKS: dict[str, Attack] = {}


def attack(
    card: Card, family: Family = "standard", *, whole: bool = False, bounded: bool = True
) -> Callable[[Callable[[Scene, Budget], Tensor]], Callable[[Scene, Budget], Tensor]]:
    """Enter a function into `ATTACKS` under its own name and print the card in its docstring."""

    def enter(craft: Callable[[Scene, Budget], Tensor]) -> Callable[[Scene, Budget], Tensor]:
        craft.__doc__ = f"{craft.__doc__}\n\n{card}"
        ATTACKS[craft.__name__] = Attack(craft, card, family, whole, bounded)
        return craft

    return enter


def find_attack(name: str) -> Attack:
    """Look an attack up; InputError lists what there is."""
    require(name in ATTACKS, f"unknown attack {name!r}: choose from {', '.join(ATTACKS)}")
    return ATTACKS[name]


def names(family: Family) -> list[str]:
    """Names of a family's attacks, in the order of the table."""
    return [name for name, entry in ATTACKS.items() if entry.family == family]


def craft(
    name: str,
    scene: Scene,
    budget: Budget,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> Tensor:
    """Attack all images of a scene: uint8 (N, 3, H, W), still inside the budget after rounding."""
    entry, total, done = find_attack(name), len(scene.images), []
    for part in scene.batches(total if entry.whole else batch_size):
        attacked, bound = entry.craft(part, budget).detach(), budget if entry.bounded else None
        check_attacked(name, attacked, part.images, bound)
        done.append(to_8bit(attacked, part.images, bound).cpu())
        if progress:
            progress(f"attack {name}", sum(map(len, done)), total)
    return torch.cat(done)


def check_attacked(name: str, attacked: Tensor, images: Tensor, budget: Budget | None) -> None:
    """Raise InputError if an attack left the budget or [0, 1] before anything is rounded."""
    shift = (attacked - images).flatten(1)
    size = shift.norm(dim=1) if budget and budget.norm == "l2" else shift.abs().amax(1)
    low, high, far = (float(value) for value in (attacked.min(), attacked.max(), size.max()))
    slip = 1e-4  # float32, over many steps
    require(
        low >= -slip and high <= 1 + slip and (budget is None or far <= budget.eps + slip),
        f"attack {name!r} returned pixels in [{low:.3g}, {high:.3g}], {far:.3g} from the clean "
        "ones: it must stay in [0, 1] and within its budget",
    )


def to_8bit(attacked: Tensor, images: Tensor, budget: Budget | None) -> Tensor:
    """Round to the 256 levels of a picture file without leaving the budget around `images`.

    The nearest level, limited to whole levels inside eps ("linf"); an image whose rounded change
    got longer than eps ("l2") is rounded towards the clean image instead.
    """
    clean = (images * 255).round()
    shift = attacked * 255 - clean
    nearest = shift.round()
    if budget and budget.norm == "linf":
        levels = int(budget.eps * 255 + 1e-4)
        nearest = nearest.clamp(-levels, levels)
    elif budget:
        nearest = torch.where(row_norm(nearest) > 255 * budget.eps, shift.trunc(), nearest)
    return (clean + nearest).clamp(0, 255).to(torch.uint8)
