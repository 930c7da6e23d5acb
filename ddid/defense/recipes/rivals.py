"""What DDID is compared with: no defence, and others' defences over the same loop."""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ddid.attack.scene import Scene
from ddid.attack.seen import fna, ifgsm, sma
from ddid.defense.losses import Batch, Terms, identity_terms
from ddid.defense.recipe import Recipe
from ddid.defense.recipes.hm import hardest
from ddid.errors import InputError
from ddid.metric.distance import normalize
from ddid.metric.losses import batch_hard_triplet
from ddid.model import Heads

BETA = 2.0  # of TRADES; the best of .5, 2 and 6 (the paper's) on two streets of their own
GUIDES = 4  # that GOAT pushes from


def on_source(scene: Scene) -> Tensor:
    """Attack the undefended network, not the one in training."""
    if scene.surrogate is None:
        raise InputError("offline adversarial training attacks an undefended network: give one")
    return ifgsm(scene.surrogate)


def pgd_on_logits(scene: Scene) -> Tensor:
    """Raise the cross-entropy of the true classes, which are the scene's `pids`."""
    net: Any = scene.embed  # the network itself, with its classifier
    before = replace(scene, embed=lambda images: net(images, heads=True).logits)
    return before.pgd(partial(functional.cross_entropy, target=scene.pids, reduction="none"))


def trade_off(batch: Batch, clean: Heads, attacked: Heads) -> Terms:
    """Clean identity terms and beta times the mean squared move in the cosine space."""
    move = normalize(clean.embedding) - normalize(attacked.embedding)
    return identity_terms(batch, clean, None) | {"move": BETA * move.square().sum(1).mean()}


def guided(scene: Scene) -> Tensor:
    """Attack with random push guides and the farthest image of another identity."""
    clean, same = scene.guides.own, scene.pids[:, None] == scene.pids
    draw = torch.rand(same.shape, generator=scene.generator, device=scene.generator.device)
    draw = draw.to(same.device).masked_fill(~same, -1)
    chance, push = draw.topk(min(GUIDES, len(same)))
    far = torch.cdist(clean, clean).masked_fill(same, -1).argmax(1)

    def objective(embeddings: Tensor) -> Tensor:
        own = normalize(embeddings)
        away = (own[:, None] - clean[push]).square().sum(2) * (chance >= 0)
        return away.sum(1) - (own - clean[far]).square().sum(1)

    return scene.pgd(objective)


def collapse(scene: Scene) -> Tensor:
    """Move every image and its nearest negative towards each other."""
    _, near = hardest(scene.guides.own, scene.pids)

    def objective(embeddings: Tensor) -> Tensor:
        own = normalize(embeddings)
        return -(own - own[near]).square().sum(1)

    return scene.pgd(objective)


def anti_collapse(batch: Batch, clean: Heads, attacked: Heads) -> Terms:
    """Clean anchors against attacked positives and negatives, beside classification."""
    anchors, references = clean.feature, attacked.feature
    return {
        "clean_cls": functional.cross_entropy(clean.logits, batch.targets),
        "attacked_cls": functional.cross_entropy(attacked.logits, batch.targets),
        "collapse_tri": batch_hard_triplet(anchors, batch.labels, references=references),
    }


def within_margin(scene: Scene) -> Tensor:
    """FNA, its perturbation shrunk or stretched image by image."""
    scale = margin_share(scene).clamp(0.5, 1.5).view(-1, 1, 1, 1)
    return torch.lerp(scene.images, fna(scene), scale).clamp(0, 1)


def margin_share(scene: Scene) -> Tensor:
    """(B,) distance to the nearest other centroid less that to the own, over the batch's mean."""
    guides = scene.guides
    distances = torch.cdist(guides.own, functional.normalize(guides.centroids))
    own = distances.gather(1, guides.identity[:, None]).squeeze(1)
    others = distances.masked_fill(guides.is_own, torch.inf)
    margin = (others.min(1).values - own).clamp(min=0)
    return margin / margin.mean().clamp(min=1e-6)


RECIPES = [
    Recipe(
        "none",
        paper="Luo et al. 2019, Bag of Tricks and a Strong Baseline for Deep Person ReID",
        idea="Label-smoothed classification and batch-hard triplets on clean images.",
        craft=None,
    ),
    Recipe(
        "offline_at",
        paper="Bai et al. 2021, Adversarial Metric Attack and Defense for Person Re-Identification",
        idea="Metric I-FGSM on a network trained before; train a new one on clean and attacked.",
        ours="Attacks are crafted anew for every augmented batch instead of once for the data set.",
        craft=on_source,
        needs_source=True,
    ),
    Recipe(
        "classifier_at",
        paper="Madry et al. 2018, Towards Deep Learning Models Resistant to Adversarial Attacks",
        idea="PGD on the classifier's cross-entropy; the classifier is dropped when it is scored.",
        ours="The loss sees clean images too, as all recipes but GOAT do, and keeps the triplets.",
        craft=pgd_on_logits,
    ),
    Recipe(
        "trades",
        paper="Zhang et al. 2019, Theoretically Principled Trade-off: Robustness and Accuracy",
        idea="Clean loss plus beta times how far the attack moves the output.",
        ours="The output is the unit-length embedding and the attack SMA, for ReID has no classes "
        "to keep; beta is 2, tuned on other streets: the paper's 6 costs a third of clean mAP.",
        craft=sma,
        loss=trade_off,
    ),
    Recipe(
        "goat",
        paper="Bouniot et al. 2020, Vulnerability of Person Re-Identification Models to Metric "
        "Adversarial Attacks",
        idea="Push from four random images of the identity, pull to one other; learn from attacked "
        "images only.",
        ours="Repaired: eps in pixels (the published code's 5/255 is in normalised units, about "
        "1.1/255), the pull guide is never of the own identity, and the attack meets the network "
        "in evaluation mode. Guides come from the batch; the budget is everybody's.",
        craft=guided,
        on_clean=False,
    ),
    Recipe(
        "act",
        paper="Zhou et al. 2021, Adversarial Attack and Defense in Deep Ranking",
        idea="The attack makes positive and negative collapse onto each other; triplets with clean "
        "anchors must keep the two apart.",
        ours="Each image collapses onto its nearest negative; classification of clean and attacked "
        "images is kept, as ReID needs it.",
        craft=collapse,
        loss=anti_collapse,
    ),
    Recipe(
        "dynamic_budget",
        paper="DAS, the dynamic budget that Zhou et al. 2026 (arXiv 2511.09933) compare with",
        idea="Each training image gets the budget it can learn from.",
        ours="Everything but the idea, for our sources state no more: FNA's perturbation is "
        "scaled by the image's margin over the batch's mean, within .5 and 1.5 budgets.",
        craft=within_margin,
    ),
]
