"""Losses against loop-written twins, and at their degenerate cases."""

import math

import pytest
import torch

from ddid.metric.losses import batch_hard_triplet, smooth_labels


def twin_triplet(anchors, labels, references, margin):
    losses = []
    for i, anchor in enumerate(anchors):
        gaps = [math.dist(anchor.tolist(), other.tolist()) for other in references]
        same = [g for j, g in enumerate(gaps) if labels[j] == labels[i] and i != j]
        other = [g for j, g in enumerate(gaps) if labels[j] != labels[i]]
        if same and other:
            losses.append(max(same) - min(other) + margin)
    violating = [loss for loss in losses if loss > 0]
    return sum(violating) / len(violating) if violating else 0.0


@pytest.fixture
def features():
    return torch.randn(12, 5, generator=torch.Generator().manual_seed(3))


LABELS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4])


def test_smoothing_gives_away_exactly_the_amount():
    smooth = smooth_labels(torch.tensor([2, 0]), classes=4, amount=0.2)
    assert torch.allclose(smooth[0], torch.tensor([0.05, 0.05, 0.85, 0.05]))
    assert torch.allclose(smooth.sum(1), torch.ones(2))


def test_no_smoothing_is_one_hot():
    assert smooth_labels(torch.tensor([1]), 3, 0.0).tolist() == [[0.0, 1.0, 0.0]]


@pytest.mark.parametrize("margin", [0.0, 0.3, 2.0])
def test_triplet_equals_its_loop(features, margin):
    expected = twin_triplet(features, LABELS, features, margin)
    assert batch_hard_triplet(features, LABELS, margin).item() == pytest.approx(expected, rel=1e-4)


def test_triplet_against_references_equals_its_loop(features):
    references = features.flip(1) * 0.7
    expected = twin_triplet(features, LABELS, references, 0.3)
    value = batch_hard_triplet(features, LABELS, 0.3, references=references)
    assert value.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("labels", [torch.zeros(6), torch.arange(6)], ids=["one", "all-different"])
def test_triplet_without_positives_or_negatives_is_a_differentiable_zero(labels):
    features = torch.randn(6, 4, requires_grad=True)
    loss = batch_hard_triplet(features, labels.long())
    loss.backward()
    assert loss.item() == 0
    assert features.grad.abs().sum() == 0


def test_triplet_is_zero_once_identities_are_farther_apart_than_the_margin():
    features = torch.nn.functional.one_hot(LABELS).float() * 10
    assert batch_hard_triplet(features, LABELS).item() == 0
