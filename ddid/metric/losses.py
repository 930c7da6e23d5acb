"""Losses of the ReID baseline beside cross-entropy: label smoothing and batch-hard triplet."""

import torch
from torch import Tensor

TRIPLET_MARGIN = 0.3  # Luo et al. 2019, "Bag of Tricks"; the ReID baseline's usual value
SMOOTHING = 0.1  # Szegedy et al. 2016; same baseline


def smooth_labels(labels: Tensor, classes: int, amount: float = SMOOTHING) -> Tensor:
    """The paper's φ: one-hot rows (B, classes) that give `amount` in [0, 1] away evenly to all
    classes [summary]; `labels` (B,) are class indices."""
    rows = torch.full((len(labels), classes), amount / classes, device=labels.device)
    return rows.scatter_(1, labels[:, None], 1 - amount + amount / classes)


def batch_hard_triplet(
    features: Tensor,
    labels: Tensor,
    margin: float = TRIPLET_MARGIN,
    *,
    references: Tensor | None = None,
) -> Tensor:
    """Triplet loss of each anchor's farthest positive and nearest negative (Hermans et al. 2017).

    Args:
        features: (B, D) anchors, compared by Euclidean distance as they are (not normalised).
        labels: (B,) identities.
        margin: wanted gap between the two distances, ≥ 0.
        references: (B, D) positives and negatives; the anchors if None. Row i is never i's own.

    Returns the mean over triplets that violate the margin, a differentiable zero if there are none.
    """
    references = features if references is None else references
    way = "use_mm_for_euclid_dist"  # torch's other cannot be differentiated twice
    distances = torch.cdist(features, references, compute_mode=way)
    same = labels[:, None] == labels
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = distances.masked_fill(~same | itself, -torch.inf).max(1).values
    negative = distances.masked_fill(same, torch.inf).min(1).values
    violation = (positive - negative + margin).clamp(min=0)
    return violation.sum() / (violation > 0).sum().clamp(min=1)
