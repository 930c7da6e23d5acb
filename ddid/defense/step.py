"""One training step: attack the batch, stretch and soften it, and collect the gradient."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ddid.attack.budget import Budget
from ddid.attack.scene import Scene
from ddid.attack.seen import fna
from ddid.defense.batch import Batch, Rows, forward_both, in_order
from ddid.defense.discriminator import Discriminator, discriminator_game
from ddid.defense.fnes import draw_omega, extend, soften
from ddid.defense.losses import Terms, accuracies
from ddid.defense.meta import Forward, Meta, meta_backward, split_rows
from ddid.defense.recipe import Craft, Recipe
from ddid.metric.losses import SMOOTHING, smooth_labels
from ddid.model import Heads, ReIDNet
from ddid.seeds import seed_of


class Draw:
    """A step's random numbers: `host` for what decides shapes, `device` for pixels."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.host = torch.Generator().manual_seed(seed_of(seed, 1))
        self.device = torch.Generator(device).manual_seed(seed_of(seed, 2))


@dataclass(frozen=True)
class Learner:
    """A recipe's networks and budget: what a training step needs beside its batch."""

    recipe: Recipe
    net: ReIDNet
    budget: Budget
    discriminator: Discriminator | None = None
    source: ReIDNet | None = None
    pool: tuple[Craft, ...] = ()
    """The attacks that `recipe.meta.attacks` names."""

    def batch(self, images: Tensor, labels: Tensor) -> Batch:
        """Images and labels with the targets of clean images."""
        fnes, classes = self.recipe.fnes, self.net.classifier.out_features
        smoothing = fnes.smooth_clean if fnes else SMOOTHING
        return Batch(images, labels, smooth_labels(labels, classes, smoothing))

    def gradient(self, batch: Batch, halves: Rows | None, draw: Draw) -> Terms:
        """Add the gradient of the recipe's whole loss to every `.grad`; they start empty.

        Returns:
            Loss terms and accuracies by name, detached; with self-meta, means over the halves.
        """
        seen: dict[str, list[Tensor]] = defaultdict(list)
        if self.recipe.meta and halves:
            self.meta_gradient(self.recipe.meta, batch, halves, draw, seen)
        else:
            batch = self.attack_whole(batch, halves, draw)
            self.loss(batch, self.net, seen, halves).backward()
        return {name: torch.stack(values).mean() for name, values in seen.items()}

    def meta_gradient(
        self, meta: Meta, batch: Batch, halves: Rows, draw: Draw, seen: dict[str, list[Tensor]]
    ) -> None:
        """L_mtrain(θ) + L_mtest(θ_temp); each half has guides of its own, for they never meet."""
        other = self.meta_test_craft(draw)
        train, test = (batch.take(rows) for rows in halves)
        train = self.attack(train, self.net, draw)
        if not meta.ahead:
            test = self.attack(test, self.net, draw, other)

        def tested(forward: Forward) -> Tensor:
            half = self.attack(test, forward, draw, other) if meta.ahead else test
            return self.loss(half, forward, seen)

        meta_backward(self.net, lambda forward: self.loss(train, forward, seen), tested, meta)

    def meta_test_craft(self, draw: Draw) -> Craft | None:
        """The recipe's own attack, or one of the pool."""
        if not self.pool:
            return self.recipe.craft
        return self.pool[int(torch.randint(len(self.pool), (), generator=draw.host))]

    def attack_whole(self, batch: Batch, halves: Rows | None, draw: Draw) -> Batch:
        """The batch attacked, with what the recipe's `by_half` says kept within halves."""
        split = self.recipe.by_half if halves else ()
        if halves and "triplets" in split:
            pool = in_order([torch.full_like(rows, i) for i, rows in enumerate(halves)], halves)
            batch = replace(batch, pool=pool.to(batch.labels.device))
        if not halves or "guides" not in split:
            return self.attack(batch, self.net, draw)
        parts = [self.attack(batch.take(rows), self.net, draw) for rows in halves]
        attacked, targets = (
            in_order([getattr(part, name) for part in parts], halves)
            for name in ("attacked", "attacked_targets")
        )
        return replace(batch, attacked=attacked, attacked_targets=targets)

    def attack(
        self, batch: Batch, forward: Forward, draw: Draw, craft: Craft | None = None
    ) -> Batch:
        """The batch with its attacked images, stretched and softened where the recipe has FNES.

        The network is attacked in evaluation mode, as it will be when it is scored.
        """
        craft, fnes = craft or self.recipe.craft, self.recipe.fnes
        if craft is None:
            return batch
        scene = self.scene(batch, forward, draw)
        with evaluating(self.net):
            attacked = craft(scene).detach()
        if fnes is None:
            return replace(batch, attacked=attacked, attacked_targets=batch.targets)
        far = scene.guides.far_pid if craft is fna else batch.labels
        omega = draw_omega(fnes, len(batch.labels), draw.host).to(batch.labels.device)
        targets = soften(batch.labels, far, batch.targets.shape[1], omega, fnes)
        attacked = extend(batch.images, attacked, omega, fnes.gamma)
        return replace(batch, attacked=attacked, attacked_targets=targets)

    def scene(self, batch: Batch, forward: Forward, draw: Draw) -> Scene:
        """What the inner attack gets to see."""
        budget = self.recipe.spend(self.budget)
        scene = Scene(forward, batch.images, batch.labels, budget, draw.device)
        return replace(scene, surrogate=replace(scene, embed=self.source)) if self.source else scene

    def loss(
        self,
        batch: Batch,
        forward: Forward,
        seen: dict[str, list[Tensor]] | None = None,
        halves: Rows | None = None,
    ) -> Tensor:
        """The recipe's terms, summed; `seen` gets each of them, and accuracies."""
        clean, attacked = self.outputs(batch, forward, halves)
        terms, shares = self.recipe.loss(batch, clean, attacked), accuracies(batch, clean, attacked)
        if self.discriminator is not None and clean is not None and attacked is not None:
            terms["discriminator"], shares["discriminator_accuracy"] = discriminator_game(
                self.discriminator, clean.feature, attacked.feature, self.recipe.discriminator
            )
        total = torch.stack(list(terms.values())).sum()
        for name, value in {"loss": total, **terms, **shares}.items():
            if seen is not None:
                seen[name].append(value.detach())
        return total

    def outputs(
        self, batch: Batch, forward: Forward, halves: Rows | None
    ) -> tuple[Heads | None, Heads | None]:
        """What the network answers to clean and attacked images."""
        on_clean = self.recipe.on_clean
        if not halves or "statistics" not in self.recipe.by_half:
            return forward_both(forward, batch, on_clean=on_clean)
        parts = [forward_both(forward, batch.take(rows), on_clean=on_clean) for rows in halves]
        return in_order(parts, halves)

    def halves(self, labels: Tensor, camids: Tensor, draw: Draw) -> Rows | None:
        """Rows of two halves, where the recipe wants such; arguments on the host."""
        meta = self.recipe.meta
        if not meta and not self.recipe.by_half:
            return None
        return split_rows(labels, camids, meta.split if meta else "identity", draw.host)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and back in training mode."""
    net.eval()
    try:
        yield
    finally:
        net.train()
