"""What a recipe minimises, against loops."""

import math

import pytest
import torch

from ddid.defense.losses import Batch, identity_terms
from ddid.defense.recipes import find_recipe
from ddid.defense.recipes.ours import crossed_terms
from ddid.metric.losses import TRIPLET_MARGIN
from ddid.model import Heads

LABELS = [0, 0, 1, 1, 2, 2]


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    targets = torch.rand(2, 6, 3, generator=draw).softmax(2)
    images = torch.rand(2, 6, 3, 8, 4, generator=draw)
    return Batch(images[0], torch.tensor(LABELS), targets[0], images[1], targets[1])


@pytest.fixture
def answers():
    draw = torch.Generator().manual_seed(1)
    sizes = (4, 4, 3)
    return [Heads(*(torch.randn(6, size, generator=draw) for size in sizes)) for _ in range(2)]


def cross_entropy(logits, targets):
    total = 0.0
    for scores, wanted in zip(logits.tolist(), targets.tolist(), strict=True):
        norm = math.log(sum(math.exp(score) for score in scores))
        total -= sum(share * (score - norm) for share, score in zip(wanted, scores, strict=True))
    return total / len(logits)


def triplets(features, references=None):
    losses = []
    for i, anchor in enumerate(features):
        far, near = 0.0, math.inf
        for j, other in enumerate(references or features):
            if LABELS[i] != LABELS[j]:
                near = min(near, math.dist(anchor, other))
            elif i != j:
                far = max(far, math.dist(anchor, other))
        losses.append(max(0.0, far - near + TRIPLET_MARGIN))
    violating = [loss for loss in losses if loss > 0]
    return sum(violating) / max(1, len(violating))


def test_metric_adversarial_training_is_two_losses_on_two_kinds_of_images(batch, answers):
    terms = identity_terms(batch, *answers)
    expected = {}
    for kind, heads, targets in zip(
        ("clean", "attacked"), answers, (batch.targets, batch.attacked_targets), strict=True
    ):
        expected[f"{kind}_cls"] = cross_entropy(heads.logits, targets)
        expected[f"{kind}_tri"] = triplets(heads.feature.tolist())
    assert {name: float(term) for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)


def test_what_was_not_embedded_has_no_terms(batch, answers):
    assert identity_terms(batch, answers[0], None).keys() == {"clean_cls", "clean_tri"}
    assert identity_terms(batch, None, answers[1]).keys() == {"attacked_cls", "attacked_tri"}


def test_crossed_triplets_compare_attacked_anchors_with_clean_images(batch, answers):
    terms = crossed_terms(batch, *answers)
    clean, attacked = (heads.feature.tolist() for heads in answers)
    plain = identity_terms(batch, *answers)
    assert terms.keys() == plain.keys()
    assert float(terms["attacked_tri"]) == pytest.approx(triplets(attacked, clean), rel=1e-5)
    assert all(terms[name] == plain[name] for name in terms if name != "attacked_tri")


def test_anchored_triplets_are_the_crossed_ones_and_move_attacked_images_alone(batch, answers):
    for heads in answers:
        heads.feature.requires_grad_()
    clean, attacked = (heads.feature for heads in answers)
    for name, moves in (("crossed_at", True), ("anchored_at", False)):
        term = find_recipe(name).loss(batch, *answers)["attacked_tri"]
        assert term.item() == crossed_terms(batch, *answers)["attacked_tri"].item()
        found = torch.autograd.grad(term, (clean, attacked), allow_unused=True)
        assert (found[0] is not None) == moves
        assert found[1].norm() > 0
