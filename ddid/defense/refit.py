"""Where does the robustness sit? Refit only the classifier of a trained network, and look.

Adversarial training can put robustness into the classifier, which ReID throws away. The paper
refits `H` alone: clean accuracy stays, accuracy under attack drops [summary].
"""

import copy
from collections.abc import Mapping

import pandas as pd
import torch

from ddid.attack.budget import Budget
from ddid.data.images import ImageSet, to_unit
from ddid.defense.recipes.classifier_at import attack_classifier
from ddid.errors import require
from ddid.metric.losses import smooth_labels, soft_cross_entropy
from ddid.model import ReIDNet, embed


def refit_experiment(
    nets: Mapping[str, ReIDNet], images: ImageSet, probes: int, steps: int, budget: Budget
) -> pd.DataFrame:
    """What each network's classifier is worth, as trained and refitted: accuracies in percent.

    Args:
        nets: networks by name, trained on the identities of `images`.
        images: the training images.
        probes: how many of them, evenly spread, the accuracies are measured on.
        steps: of refitting.
        budget: of the PGD attack.

    Returns:
        Columns `clean accuracy`, `PGD accuracy`; rows (name, `as trained`) and (name, `refitted`).
    """
    probe = images.take(torch.linspace(0, len(images) - 1, probes).long())
    rows = {}
    for name, net in nets.items():
        pair = {"as trained": net, "refitted": refit_classifier(net, images, steps)}
        for kind, head in pair.items():
            clean = classifier_accuracy(head, probe, images.classes)
            attacked = classifier_accuracy(head, probe, images.classes, budget)
            rows[name, kind] = {"clean accuracy": clean, "PGD accuracy": attacked}
    return pd.DataFrame(rows).T


def refit_classifier(net: ReIDNet, images: ImageSet, steps: int = 300, lr: float = 0.01) -> ReIDNet:
    """A copy of `net` with a new classifier, trained on clean embeddings; the encoder is frozen.

    Our choice: full-batch Adam on embeddings computed once, without augmentation, and the label
    smoothing of training; the same number of steps for every network compared.
    """
    refitted = copy.deepcopy(net).eval()
    points, labels = embed(net, images.images), images.labels
    targets = smooth_labels(labels, net.config.classes)
    weight = torch.zeros_like(net.classifier.weight, device=points.device).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        soft_cross_entropy(points @ weight.T, targets).backward()
        optimizer.step()
    with torch.no_grad():
        refitted.classifier.weight.copy_(weight)
    return refitted


def classifier_accuracy(
    net: ReIDNet, images: ImageSet, classes: list[int], budget: Budget | None = None
) -> float:
    """Share of images in percent that the classifier names rightly, under PGD if a budget is given.

    The attack raises the cross-entropy of this network's own classifier.

    Args:
        net: the network.
        images: what to classify; may be a part of the training images.
        classes: identities of the whole training set, in the order of the classes.
        budget: of the attack.

    Raises:
        InputError: no images, or one of an identity that is no class.
    """
    require(len(images) > 0, "classifier accuracy of no images: probe at least one")
    strangers = sorted(set(images.classes) - set(classes))
    require(not strangers, f"identity {strangers[:1]} is no class of this network")
    device = net.classifier.weight.device
    own = torch.searchsorted(torch.tensor(classes), images.pids)
    right = 0
    for rows in torch.arange(len(images)).split(64):
        pixels, labels = to_unit(images.images[rows]).to(device), own[rows].to(device)
        if budget:
            pixels = attack_classifier(net, pixels, labels, budget)
        with torch.no_grad():
            right += int((net(pixels, heads=True).logits.argmax(1) == labels).sum())
    return 100 * right / len(images)
