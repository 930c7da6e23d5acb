"""What an attack gets to see, in a report and in training alike."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ddid.attack.budget import Budget, random_start
from ddid.attack.objectives import Guides, Objective, find_guides, guides_within
from ddid.attack.pgd import Ascent, plain_ascent, valued
from ddid.data.images import to_unit, where_rows
from ddid.metric.distance import Embed
from ddid.metric.ranking import Embedded


@dataclass(frozen=True)
class Scene:
    """A model under attack, its images, and what the attacker may know and spend."""

    embed: Embed  # in evaluation mode
    images: Tensor  # (B, 3, H, W), uint8 or floats in [0, 1]
    pids: Tensor  # (B,) identities of the images (in training: their classes)
    budget: Budget
    generator: torch.Generator  # source of all random numbers
    clean: Tensor | None = None  # (B, D) clean features; the model is asked for them if None
    references: Embedded | None = None  # that guides are made of; the images themselves if None
    camids: Tensor | None = None  # (B,) cameras, for the attacker who knows the gallery
    gallery: Embedded | None = None  # for the same attacker alone
    surrogate: "Scene | None" = None  # the same images before another model, for who may not ask

    @cached_property
    def guides(self) -> Guides:
        """The features that steer the attack, found when first asked for."""
        clean = self.clean
        if clean is None:
            with torch.no_grad():
                clean = self.embed(self.images)
        if self.references is None:
            return guides_within(clean, self.pids.to(clean.device))
        return find_guides(clean, self.pids, self.references)

    def pgd(self, objective: Objective, ascent: Ascent = plain_ascent) -> Tensor:
        """The float images after raising `objective` of their embeddings: in [0, 1], at most
        `budget.eps` away, the best of all restarts for each. The first starts at the clean image
        unless the budget says random. The model's mode is left as found and nothing waits."""
        images, budget, generator = self.images, self.budget, self.generator
        value, best = valued(self.embed, objective), images
        for restart in range(budget.restarts):
            is_random = restart > 0 or budget.random_start
            start = random_start(images, budget, generator) if is_random else images
            point = ascent(value, start, images, budget, generator)
            with torch.no_grad():
                best = where_rows(value(point) > value(best), point, best) if restart else point
        return best

    def spending(self, **changes: Any) -> "Scene":
        """The same scene with another budget."""
        return replace(self, budget=replace(self.budget, **changes))

    def batches(self, size: int) -> Iterator["Scene"]:
        """Cut into scenes of at most `size` images, as floats on the model's device."""
        for start in range(0, len(self.images), size):
            yield self.part(slice(start, start + size)).ready()

    def part(self, index: slice | Tensor) -> "Scene":
        """The scene of some of the images; references and gallery stay whole."""
        own = {name: getattr(self, name) for name in ("images", "pids", "clean", "camids")}
        some: dict[str, Any] = {n: v[index] for n, v in own.items() if v is not None}
        return replace(self, **some, surrogate=self.surrogate and self.surrogate.part(index))

    def ready(self) -> "Scene":
        """The same scene with its images in [0, 1], on the device of the clean features."""
        device = self.images.device if self.clean is None else self.clean.device
        other = self.surrogate and self.surrogate.ready()
        return replace(self, images=to_unit(self.images.to(device)), surrogate=other)
