"""What a defence is, as data: how it attacks its own training images, and what it minimises.

The training loop is the same for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ddid.attack.budget import Budget
from ddid.attack.seen import fna
from ddid.defense.fnes import FNES
from ddid.defense.losses import Batch, Terms, identity_terms
from ddid.defense.meta import Craft, Meta
from ddid.errors import require, require_within

Loss = Callable[[Batch, Any, Any], Terms]
"""Batch, `Heads` of clean and of attacked images (None: there are none) → terms to be summed."""


@dataclass(frozen=True)
class Recipe:
    """One defence; a file in `recipes/` with a list `RECIPES` adds some."""

    name: str
    paper: str
    idea: str
    ours: str = ""  # what the paper leaves open, or what we changed to compare on equal terms
    craft: Craft | None = fna  # inner attack; None: train on clean images only
    loss: Loss = identity_terms
    on_clean: bool = True  # clean images go through the network too
    needs_source: bool = False  # train an undefended network first, the scene's `surrogate`
    fnes: FNES | None = None
    discriminator: float = 0.0  # weight of the encoder's side of the game; 0 leaves it out
    meta: Meta | None = None
    eps: float = 0.0  # of the inner attack, with its step in proportion; 0 for everybody's
    attack_steps: int = 0  # each as much smaller as there are more; 0 for everybody's
    ramp: float = 0.0  # share of the training over which eps grows from 0, in [0, 1]
    average: float = 0.0  # see `ddid.training.Fit`

    def __post_init__(self) -> None:
        require_within(self.name, self, discriminator="[0, inf)", ramp="[0, 1]", eps="[0, 1]")
        changed = self.fnes or self.discriminator or self.eps or self.attack_steps or self.ramp
        require(bool(self.craft or not changed), f"{self.name}: this recipe attacks no images")
        require(
            self.craft is fna or not self.fnes,
            f"{self.name}: FNES follows the class that FNA aims at, and this attack is another",
        )
        require(
            self.on_clean or not self.discriminator,
            f"{self.name}: clean and attacked images are wanted, but it learns from attacked ones",
        )

    def spend(self, budget: Budget, done: float = 1.0) -> Budget:
        """The inner attack's budget where everybody's is `budget`, in the step that ends a share
        `done`, in (0, 1], of the training."""
        eps, steps = self.eps or budget.eps, self.attack_steps or budget.steps
        eps *= min(1.0, done / self.ramp) if self.ramp else 1.0
        scale = (eps / budget.eps if budget.eps else 1) * budget.steps / steps
        return replace(budget, eps=eps, steps=steps, step=budget.step * scale)
