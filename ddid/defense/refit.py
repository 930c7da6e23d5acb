"""Where does the robustness sit? Refit only the classifier of a trained network, and look.

Adversarial training can put robustness into the classifier, which ReID throws away. The paper
refits `H` alone: clean accuracy stays, accuracy under attack drops [summary]. Our choice: measured
on images that neither training nor refitting has seen; on the others it is memory that is measured.
"""

import copy

import torch
from torch import nn
from torch.nn import functional

from ddid.attack.budget import Budget
from ddid.attack.scene import Scene
from ddid.data.images import ImageSet, to_unit
from ddid.defense.recipes.rivals import pgd_on_logits
from ddid.errors import require
from ddid.metric.losses import smooth_labels
from ddid.model import ReIDNet, embed

LOGITS = 2**20  # at once


def refit_classifier(net: ReIDNet, images: ImageSet, steps: int) -> ReIDNet:
    """A copy of `net` with a new classifier for the identities of `images`; the encoder is frozen.
    Our choice: full-batch Adam on clean embeddings computed once; training's label smoothing."""
    refitted, device = copy.deepcopy(net).eval(), net.classifier.weight.device
    points, labels = embed(net, images.images).to(device), images.labels.to(device)
    classes = len(images.classes)
    rows = max(1, LOGITS // classes)
    refitted.classifier = nn.Linear(points.shape[1], classes, bias=False).to(device)
    nn.init.zeros_(refitted.classifier.weight)
    optimizer = torch.optim.Adam(refitted.classifier.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        for part, own in zip(points.split(rows), labels.split(rows), strict=True):
            loss = functional.cross_entropy(refitted.classifier(part), smooth_labels(own, classes))
            (loss * (len(own) / len(points))).backward()
        optimizer.step()
    return refitted


def classifier_accuracy(
    net: ReIDNet, images: ImageSet, classes: list[int], budget: Budget | None = None
) -> float:
    """Share of images in percent that the classifier, of `classes` in this order, names rightly.
    Under PGD on its own cross-entropy if a budget is given. Raises InputError for no images, or for
    one of an identity that is no class."""
    require(len(images) > 0, "classifier accuracy of no images: probe at least one")
    strangers = sorted(set(images.classes) - set(classes))
    require(not strangers, f"identity {strangers[:1]} is no class of this network")
    device, right = net.classifier.weight.device, 0
    labels = torch.searchsorted(torch.tensor(classes), images.pids).to(device)
    for rows in torch.arange(len(images)).split(64):
        pixels, own = to_unit(images.images[rows]).to(device), labels[rows.to(device)]
        if budget:
            generator = torch.Generator(device).manual_seed(0)
            pixels = pgd_on_logits(Scene(net, pixels, own, budget, generator))
        with torch.no_grad():
            right += int((net(pixels, heads=True).logits.argmax(1) == own).sum())
    return 100 * right / len(images)
