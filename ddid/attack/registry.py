"""The table of all attacks, their cards, and how one is run on many images.

An attack is a function `Scene -> attacked images in [0, 1]` under the decorator `attack`, in a
module of this folder or in your own code. For all of them: guides are chosen without a look at
cameras; distances are squared, between unit-length features (post-BNNeck) in evaluation mode;
pixels stay in [0, 1] and in the budget, and are scored after rounding to 8 bits.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from ddid.attack.budget import check_attacked, to_8bit
from ddid.attack.scene import Scene
from ddid.errors import require
from ddid.modules import modules_of
from ddid.progress import Progress

Family = Literal["standard", "unseen", "baseline", "gallery"]
"""standard: in the worst case; gallery: knows the gallery, in the worst case with knowledge;
unseen: kept out of training and of the worst case; baseline: what an attack must beat."""


@dataclass(frozen=True)
class Card:
    """The points without which an attack's name means different things in different places."""

    source: str
    guides: str
    budget: str = "steps of eps/8, 15 of them"
    start: str = "the clean image"

    def __str__(self) -> str:
        points = (f"    {name:<8} {text}" for name, text in asdict(self).items())
        return "\n".join(["Card", *points])


@dataclass(frozen=True)
class Attack:
    """One named attack: `craft(scene)` returns the scene's images, attacked, in [0, 1]."""

    name: str
    craft: Callable[[Scene], Any]
    card: Card
    family: Family
    whole: bool = False  # learns from the whole scene, returns a function that attacks a batch
    bounded: bool = True  # changes no pixel by more than eps; others state their own bound
    surrogate: bool = False  # needs the scene before another model
    dear: bool = False  # asks so often that a report may spend it on fewer queries


ROWS = ("clean", "worst", "worst_gallery", "unseen")  # of a report, beside its attacks
_ENTERED: dict[str, Attack] = {}


def attack(
    source: str,
    guides: str,
    budget: str = Card.budget,
    start: str = Card.start,
    *,
    family: Family = "standard",
    **traits: bool,
) -> Callable[[Callable[[Scene], Any]], Callable[[Scene], Any]]:
    """Enter a function into the table under its own name, with the `traits` of `Attack` it has,
    and print its card in its docstring. InputError: a name that another attack or a report has."""
    card = Card(source, guides, budget, start)

    def enter(craft: Callable[[Scene], Any]) -> Callable[[Scene], Any]:
        before = _ENTERED.get(craft.__name__)
        mine = before is None or before.craft.__module__ == craft.__module__
        told = f"reports have an attack or a row {craft.__name__!r} already: name yours otherwise"
        require(mine and craft.__name__ not in ROWS, told)
        craft.__doc__ = f"{craft.__doc__}\n\n{card}"
        _ENTERED[craft.__name__] = Attack(craft.__name__, craft, card, family, **traits)
        return craft

    return enter


def attacks() -> dict[str, Attack]:
    """All attacks by name, as of now."""
    for _ in modules_of("ddid.attack"):
        pass  # importing a module enters its attacks
    return dict(_ENTERED)


def attack_names(*families: Family) -> list[str]:
    """Names of some families' attacks, as of now."""
    return [name for name, entry in attacks().items() if entry.family in families]


def require_family(names: Sequence[str], family: Family) -> None:
    """InputError if an attack is of another family: a worst case would be over none of it."""
    known = attack_names(family)
    for name in names:
        told = f"{find_attack(name).name} is no {family} attack: choose from {', '.join(known)}"
        require(name in known, told)


def find_attack(name: str) -> Attack:
    """Look an attack up; InputError lists what there is."""
    known = attacks()
    require(name in [*known], f"unknown attack {name!r}: choose from {', '.join(known)}")
    return known[name]


def attack_scene(
    entry: Attack, scene: Scene, batch_size: int = 64, progress: Progress | None = None
) -> Tensor:
    """Attack all images of a scene, uint8 or in [0, 1]: uint8 (N, 3, H, W), inside the budget."""
    bound, done = scene.budget if entry.bounded else None, 0
    found = torch.empty(scene.images.shape, dtype=torch.uint8)
    run = entry.craft(scene) if entry.whole else entry.craft
    for part in scene.batches(batch_size):
        attacked = run(part).detach().to(part.images.device)
        check_attacked(entry.name, attacked, part.images, bound)
        found[done : done + len(attacked)] = to_8bit(attacked.cpu(), part.images.cpu(), bound)
        done += len(attacked)
        if progress:
            progress(f"attack {entry.name}", done, len(found))
    return found
