"""One training step: attack the batch, stretch and soften it, and collect the gradient."""

from collections import defaultdict
from dataclasses import replace

import torch
from torch import Tensor

from ddid.attack.objectives import sma
from ddid.attack.scene import Scene
from ddid.defense.discriminator import Discriminator, discriminator_game
from ddid.defense.fnes import FNES, draw_omega, extend, soften
from ddid.defense.meta import Forward, meta_backward, meta_test_mask
from ddid.defense.recipe import Batch, Crafted, Recipe, Terms, craft_with, forward_both
from ddid.errors import InputError
from ddid.metric.losses import SMOOTHING, smooth_labels
from ddid.model import Heads, ReIDNet


def prepare_batch(recipe: Recipe, net: ReIDNet, scene: Scene, camids: Tensor) -> Batch:
    """Attack the scene's images as `recipe` does, and give every image its target.

    The network is attacked in evaluation mode, as it will be when it is scored, and put back
    into training mode.
    """
    meta, classes = recipe.meta, net.config.classes
    smoothing = recipe.fnes.smooth_clean if recipe.fnes else SMOOTHING
    targets = smooth_labels(scene.pids, classes, smoothing)
    batch = Batch(scene.images, scene.pids, camids, targets)
    if meta:
        mask = meta_test_mask(scene.pids, camids, meta.split, scene.generator)
        batch = replace(batch, meta_test=mask)
    if recipe.craft is None:
        return batch
    net.eval()
    crafted = recipe.craft(scene)
    if meta and meta.other_attack and batch.meta_test is not None:
        other = craft_with(sma)(scene)
        mask = batch.meta_test.view(-1, 1, 1, 1)
        crafted = Crafted(torch.where(mask, other.images, crafted.images), crafted.far)
    net.train()
    if recipe.fnes is None:
        return replace(batch, attacked=crafted.images, attacked_targets=targets)
    return _extended(batch, crafted, recipe.fnes, scene.generator)


def _extended(batch: Batch, crafted: Crafted, fnes: FNES, generator: torch.Generator) -> Batch:
    if crafted.far is None:
        raise InputError("FNES follows the class an attack aims at: choose a craft that has one")
    omega = draw_omega(fnes, len(batch.labels), generator).to(batch.labels.device)
    attacked = extend(batch.images, crafted.images, omega, fnes.gamma)
    targets = soften(batch.labels, crafted.far, batch.targets.shape[1], omega, fnes)
    return replace(batch, attacked=attacked, attacked_targets=targets)


def collect_gradients(
    recipe: Recipe, net: ReIDNet, discriminator: Discriminator | None, batch: Batch
) -> Terms:
    """Add the gradient of the recipe's whole loss to every `.grad`; they start empty.

    Args:
        recipe: its loss and switches.
        net: the network, in training mode.
        discriminator: D, where the recipe plays its game.
        batch: from `prepare_batch`.

    Returns:
        Loss terms and accuracies by name, detached; with self-meta, means over the two halves.
    """
    seen: dict[str, list[Tensor]] = defaultdict(list)

    def loss_on(half: Batch, forward: Forward) -> Tensor:
        clean, attacked = forward_both(recipe, forward, half)
        terms = recipe.loss(half, clean, attacked)
        accuracies = _accuracies(half, clean, attacked)
        if discriminator is not None and clean is not None and attacked is not None:
            terms["discriminator"], accuracies["discriminator_accuracy"] = discriminator_game(
                discriminator, clean.feature, attacked.feature, recipe.discriminator
            )
        total = torch.stack(list(terms.values())).sum()
        for name, value in {"loss": total, **terms, **accuracies}.items():
            seen[name].append(value.detach())
        return total

    if recipe.meta is None or batch.meta_test is None:
        loss_on(batch, net).backward()
    else:
        train, test = batch.take(~batch.meta_test), batch.take(batch.meta_test)
        meta_backward(net, lambda f: loss_on(train, f), lambda f: loss_on(test, f), recipe.meta)
    return {name: torch.stack(values).mean() for name, values in seen.items()}


def _accuracies(batch: Batch, clean: Heads | None, attacked: Heads | None) -> Terms:
    """Share of images the classifier names rightly, in [0, 1]."""
    outputs = {"clean_accuracy": clean, "attacked_accuracy": attacked}
    return {
        name: (heads.logits.argmax(1) == batch.labels).float().mean()
        for name, heads in outputs.items()
        if heads is not None
    }
