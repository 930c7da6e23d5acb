"""What a defence is, as data: how it attacks its own training images, and what it minimises.

The training loop is the same for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from ddid.attack.budget import Budget
from ddid.attack.scene import Scene
from ddid.attack.seen import fna
from ddid.defense.batch import Batch
from ddid.defense.fnes import FNES
from ddid.defense.losses import Terms, identity_terms
from ddid.defense.meta import Meta
from ddid.errors import require
from ddid.model import Heads

Craft = Callable[[Scene], Tensor]
"""An inner attack, as in `ddid.attack`: a scene to its images, attacked, in [0, 1]."""
Loss = Callable[[Batch, Heads | None, Heads | None], Terms]
"""Batch, outputs for clean images, outputs for attacked images → named scalars to be summed."""

Part = Literal["guides", "statistics", "triplets"]


@dataclass(frozen=True)
class Card:
    """Where a recipe comes from and how far this one is from it."""

    paper: str
    idea: str
    ours: str = ""
    """What the paper leaves open and we chose, or what we changed to compare on equal terms."""


@dataclass(frozen=True)
class Recipe:
    """One defence; adding one is one file in `recipes/`."""

    name: str
    card: Card
    craft: Craft | None = fna
    """Inner attack; None trains on clean images only."""
    loss: Loss = identity_terms
    on_clean: bool = True
    """Whether clean images go through the network too."""
    needs_source: bool = False
    """Whether an undefended network is trained first, the scene's `surrogate`."""
    fnes: FNES | None = None
    discriminator: float = 0.0
    """Weight of the encoder's side of the discriminator's game; 0 leaves the game out."""
    meta: Meta | None = None
    by_half: tuple[Part, ...] = ()
    """What takes two halves of a batch, split by identity, for two batches: the attack's guides,
    BatchNorm's statistics, the pool of the triplets."""
    eps: float = 0.0
    """Size of the inner attack, with its step in proportion; 0 for everybody's."""
    attack_steps: int = 0
    """Steps of the inner attack, each as much smaller as there are more; 0 for everybody's."""
    average: float = 0.0
    """Half-life of a moving average of the weights (see `ddid.training.Fit`); 0 for none."""

    def __post_init__(self) -> None:
        modules = self.fnes or self.discriminator
        require(
            self.craft is not None or not modules,
            f"{self.name}: FNES and the discriminator want attacked images, and this recipe "
            "attacks none",
        )
        require(
            self.craft is fna or not self.fnes,
            f"{self.name}: FNES follows the class that FNA aims at, and this attack is another",
        )
        require(
            self.on_clean or not self.discriminator,
            f"{self.name}: the discriminator compares clean and attacked images, and this recipe "
            "learns from attacked ones only",
        )

    def spend(self, budget: Budget) -> Budget:
        """The inner attack's budget where everybody's is `budget`."""
        eps, steps = self.eps or budget.eps, self.attack_steps or budget.steps
        scale = (eps / budget.eps if budget.eps else 1) * budget.steps / steps
        return replace(budget, eps=eps, steps=steps, step=budget.step * scale)
