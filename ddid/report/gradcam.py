"""Grad-CAM for retrieval: which pixels make a query similar to its own identity."""

import torch
from captum.attr import LayerActivation, LayerAttribution, LayerGradCam
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ddid.errors import require
from ddid.metric.distance import normalize
from ddid.model import ReIDNet

MAP_ROWS = 8  # our choice: fewer cannot tell a head from a shirt
BATCH = 64  # images at once


def similarity_maps(model: ReIDNet, images: Tensor, centroids: Tensor) -> Tensor:
    """Grad-CAM of the similarity between images and the right answer, from the deepest stage with
    at least `MAP_ROWS` rows.

    Our choice of target: the inner product with the unit-length mean embedding of the image's
    identity, `centroids` (B, D). Of the cosine, which no scaling changes, maps sum to nothing.

    Takes images (B, 3, H, W) in [0, 1] on any device; returns (B, H, W) on the CPU, each map scaled
    to a maximum of 1 (0 where nothing speaks for the identity). The model is in evaluation mode.
    """
    device = model.mean.device

    def similarity(batch: Tensor, target: Tensor) -> Tensor:
        return (model(batch) * target).sum(1)

    cam, maps = LayerGradCam(similarity, _layer(model, images[:1].to(device))), []
    for batch, target in zip(images.split(BATCH), normalize(centroids).split(BATCH), strict=True):
        given = {"additional_forward_args": (target.to(device),), "relu_attributions": True}
        maps.append(cam.attribute(batch.to(device), **given).detach().cpu())
    large = LayerAttribution.interpolate(torch.cat(maps), images.shape[-2:], "bilinear")[:, 0]
    return large / large.amax((1, 2), keepdim=True).clamp_min(torch.finfo(large.dtype).tiny)


def agreement(first: Tensor, second: Tensor) -> float:
    """Mean cosine similarity of two stacks of maps (B, H, W): from 0, disjoint, to 1, alike, as
    two empty ones are."""
    first, second = first.flatten(1), second.flatten(1)
    shown = (first + second).any(1)
    return float(cosine_similarity(first, second).where(shown, 1.0).mean())


def _layer(model: ReIDNet, images: Tensor) -> nn.Module:
    """The deepest stage whose maps have at least `MAP_ROWS` rows, else the first."""
    name, stages = model.config.backbone, list(model.stages)
    require(len(stages) > 0, f"{name} has no `stages` for Grad-CAM")
    with torch.no_grad():
        rows = [LayerActivation(model, stage).attribute(images).shape[-2] for stage in stages]
    return stages[max([k for k, count in enumerate(rows) if count >= MAP_ROWS], default=0)]
