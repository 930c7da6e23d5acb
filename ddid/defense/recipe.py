"""What a defence is: how it attacks its own training images, and what it then minimises.

A recipe is data: a card, a `craft` (the inner attack), a `loss` of network outputs, and switches
for the paper's three modules. The training loop is the same for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ddid.attack.guides import Guides
from ddid.attack.objectives import fna
from ddid.attack.pgd import Objective
from ddid.attack.scene import Scene
from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.errors import InputError
from ddid.metric.distance import normalize
from ddid.metric.losses import batch_hard_triplet, soft_cross_entropy
from ddid.model import Heads


@dataclass(frozen=True)
class Card:
    """Where a recipe comes from and how far this one is from it."""

    paper: str
    idea: str
    ours: str = ""
    """What the paper leaves open and we chose, or what we changed to compare on equal terms."""


class Crafted(NamedTuple):
    """Attacked images, and the class each was pulled towards where the attack has such."""

    images: Tensor
    far: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """One training batch, after crafting and softening; rows belong together."""

    images: Tensor
    labels: Tensor
    camids: Tensor
    targets: Tensor
    meta_test: Tensor | None = None
    attacked: Tensor | None = None
    attacked_targets: Tensor | None = None

    def take(self, index: Tensor) -> "Batch":
        """The rows at `index`."""
        rows = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{n: v[index] for n, v in rows.items() if v is not None})


Craft = Callable[[Scene], Crafted]
Aim = Callable[[Guides], Objective]
Terms = dict[str, Tensor]
Loss = Callable[[Batch, Heads | None, Heads | None], Terms]
"""Batch, outputs for clean images, outputs for attacked images → named scalars to be summed."""


def identity_terms(batch: Batch, clean: Heads | None, attacked: Heads | None) -> Terms:
    """ℓ = L_cls + L_tri on clean and attacked images, each where there are such [summary]."""
    terms = {}
    if clean is not None:
        terms["clean_cls"] = soft_cross_entropy(clean.logits, batch.targets)
        terms["clean_tri"] = batch_hard_triplet(clean.feature, batch.labels)
    if attacked is not None and batch.attacked_targets is not None:
        terms["attacked_cls"] = soft_cross_entropy(attacked.logits, batch.attacked_targets)
        terms["attacked_tri"] = batch_hard_triplet(attacked.feature, batch.labels)
    return terms


def craft_with(objective: Aim) -> Craft:
    """A metric attack on the network in training, guided by the clean features of its batch."""

    def craft(scene: Scene) -> Crafted:
        return Crafted(scene.pgd(objective(scene.guides)), scene.guides.far_pid)

    return craft


craft_fna = craft_with(fna)


@dataclass(frozen=True)
class Recipe:
    """One defence; adding one is one file in `recipes/`."""

    name: str
    card: Card
    craft: Craft | None = craft_fna
    """Inner attack; None trains on clean images only."""
    loss: Loss = identity_terms
    on_clean: bool = True
    """Whether clean images go through the network too."""
    needs_source: bool = False
    """Whether an undefended network is trained first."""
    fnes: FNES | None = None
    discriminator: float = 0.0
    """Weight of the encoder's side of the discriminator game; 0 leaves the game out."""
    meta: Meta | None = None
    statistics: Literal["apart", "together"] = "together"
    """Whether clean and attacked images share one batch in BatchNorm."""


def forward_both(
    recipe: Recipe, forward: Callable[..., Heads], batch: Batch
) -> tuple[Heads | None, Heads | None]:
    """Network outputs for clean and attacked images, as `recipe.statistics` says."""
    clean = batch.images if recipe.on_clean or batch.attacked is None else None
    parts = [part for part in (clean, batch.attacked) if part is not None]
    if recipe.statistics == "together" and len(parts) == 2:
        both = forward(torch.cat(parts), heads=True)
        first, second = zip(*(output.chunk(2) for output in both), strict=True)
        return Heads(*first), Heads(*second)
    return (
        None if clean is None else forward(clean, heads=True),
        None if batch.attacked is None else forward(batch.attacked, heads=True),
    )


def unit(heads: Heads) -> Tensor:
    """Embeddings (B, D) at unit length: the cosine space in which galleries are ranked."""
    return normalize(heads.embedding)


def both(clean: Heads | None, attacked: Heads | None) -> tuple[Heads, Heads]:
    """The two outputs of a loss that compares them.

    Raises:
        InputError: the recipe does not produce both.
    """
    if clean is None or attacked is None:
        raise InputError("this loss compares clean and attacked images: give the recipe a `craft`")
    return clean, attacked


def same_identity(labels: Tensor) -> Tensor:
    """(B, B) booleans: whether two rows of labels (B,) are one identity; true on the diagonal."""
    return labels[:, None] == labels[None, :]
