"""One training step: attack the batch, stretch and soften it, and collect the gradient."""

from collections import defaultdict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddid.attack.budget import Budget
from ddid.attack.scene import Scene
from ddid.attack.seen import fna
from ddid.defense.discriminator import Discriminator, discriminator_game
from ddid.defense.fnes import extend, soften
from ddid.defense.losses import Batch, Terms, forward_both
from ddid.defense.meta import Craft, Forward, Meta, meta_backward, split_rows
from ddid.defense.recipe import Recipe
from ddid.errors import require
from ddid.metric.losses import SMOOTHING, smooth_labels
from ddid.model import ReIDNet
from ddid.seeds import seed_of

Rows = tuple[Tensor, ...]
"""Row numbers of the two halves of a batch, on the host; empty where a recipe wants none."""
Seen = defaultdict[str, list[Tensor]]


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
    done: float = 1.0  # share of the training that this step ends, in (0, 1]

    def batch(self, images: Tensor, labels: Tensor) -> Batch:
        """Images and labels with the targets of clean images."""
        fnes, classes = self.recipe.fnes, self.net.classifier.out_features
        smoothing = fnes.smooth_clean if fnes else SMOOTHING
        return Batch(images, labels, smooth_labels(labels, classes, smoothing))

    def halves(self, labels: Tensor, camids: Tensor, draw: Draw) -> Rows:
        """Rows of two halves, for self-meta learning; arguments on the host."""
        meta = self.recipe.meta
        return split_rows(labels, camids, meta.split, draw.host) if meta else ()

    def gradient(self, batch: Batch, halves: Rows, draw: Draw) -> Terms:
        """Add the gradient of the recipe's whole loss to every `.grad`, empty before; returns loss
        terms and accuracies, detached; with self-meta, means over the halves."""
        seen: Seen = defaultdict(list)
        if self.recipe.meta:
            self.meta_gradient(self.recipe.meta, batch, halves, draw, seen)
        else:
            self.loss(self.attack(batch, self.net, draw), self.net, seen).backward()
        return {name: torch.stack(values).mean() for name, values in seen.items()}

    def meta_gradient(self, meta: Meta, batch: Batch, halves: Rows, draw: Draw, seen: Seen) -> None:
        """L_mtrain(θ) + L_mtest(θ_temp); each half has guides of its own, for they never meet."""
        craft = self.recipe.craft
        if meta.attacks:
            craft = meta.attacks[int(torch.randint(len(meta.attacks), (), generator=draw.host))]
        train, test = (batch.take(rows) for rows in halves)
        train = self.attack(train, self.net, draw)
        if not meta.ahead:
            test = self.attack(test, self.net, draw, craft)

        def meta_test(forward: Forward) -> Tensor:
            half = self.attack(test, forward, draw, craft) if meta.ahead else test
            return self.loss(half, forward, seen)

        meta_backward(self.net, lambda forward: self.loss(train, forward, seen), meta_test, meta)

    def attack(
        self, batch: Batch, forward: Forward, draw: Draw, craft: Craft | None = None
    ) -> Batch:
        """The batch with its attacked images, stretched and softened where the recipe has FNES;
        attacked in evaluation mode, as the network will be when it is scored."""
        craft, fnes = craft or self.recipe.craft, self.recipe.fnes
        if craft is None:
            return batch
        scene = self.scene(batch, forward, draw)
        self.net.eval()
        attacked = craft(scene).detach()
        self.net.train()
        if fnes is None:
            return replace(batch, attacked=attacked, attacked_targets=batch.targets)
        far = scene.guides.far_pid if craft is fna else batch.labels
        low, high = fnes.omega
        omega = low + (high - low) * torch.rand(len(far), generator=draw.host).to(far.device)
        targets = soften(batch.labels, far, batch.targets.shape[1], omega, fnes)
        attacked = extend(batch.images, attacked, omega, fnes.gamma)
        return replace(batch, attacked=attacked, attacked_targets=targets)

    def scene(self, batch: Batch, forward: Forward, draw: Draw) -> Scene:
        """What the inner attack gets to see."""
        budget = self.recipe.spend(self.budget, self.done)
        scene = Scene(forward, batch.images, batch.labels, budget, draw.device)
        return replace(scene, surrogate=replace(scene, embed=self.source)) if self.source else scene

    def loss(self, batch: Batch, forward: Forward, seen: Seen | None = None) -> Tensor:
        """The recipe's terms, summed; `seen` gets each of them, and accuracies in [0, 1]."""
        clean, attacked = forward_both(forward, batch, on_clean=self.recipe.on_clean)
        terms, shares = self.recipe.loss(batch, clean, attacked), {}
        told = f"{self.recipe.name}: its loss returns {type(terms).__name__}, not scalars by name"
        require(isinstance(terms, dict), told)
        whole = [name for name, value in terms.items() if getattr(value, "ndim", 1)]
        told = f"{self.recipe.name}: its loss' {', '.join(whole)} is no scalar tensor: take a mean"
        require(not whole, told)
        for name, heads in (("clean_accuracy", clean), ("attacked_accuracy", attacked)):
            if heads is not None:
                shares[name] = (heads.logits.argmax(1) == batch.labels).float().mean()
        if self.discriminator is not None and clean is not None and attacked is not None:
            terms["discriminator"], shares["discriminator_accuracy"] = discriminator_game(
                self.discriminator, clean.feature, attacked.feature, self.recipe.discriminator
            )
        total = torch.stack(list(terms.values())).sum()
        if seen is not None:
            for name, value in {"loss": total, **terms, **shares}.items():
                seen[name].append(value.detach())
        return total
