"""Which images repeat each other, told from small copies of them, without a model."""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ddid.data.images import ImageSet, rows_of_each, to_unit
from ddid.errors import require

THUMBNAIL = (16, 8)  # pixels; our choice: small enough to forget JPEG noise, not the pose


def thumbnails(images: Tensor) -> Tensor:
    """Small copies (N, 3·16·8) in [0, 1] of uint8 images (N, 3, H, W)."""
    parts = (adaptive_avg_pool2d(to_unit(part), THUMBNAIL) for part in images.split(512))
    return torch.cat([part.flatten(1) for part in parts])


def nearest_difference(thumbs: Tensor, others: Tensor | None = None, nth: int = 1) -> Tensor:
    """Root mean square difference (N,) of each thumbnail (N, D) to its nth nearest in `others`
    (M, D), or to the nearest other one of `thumbs`, infinite for a single image."""
    from sklearn.neighbors import NearestNeighbors

    if others is None and len(thumbs) == 1:
        return torch.full((1,), torch.inf)
    points = thumbs if others is None else others
    finder = NearestNeighbors(n_neighbors=nth, algorithm="brute").fit(points.numpy())
    found = finder.kneighbors(None if others is None else thumbs.numpy())[0][:, nth - 1]
    return torch.from_numpy(found).float() / thumbs.shape[1] ** 0.5


def least_repeated(images: ImageSet, each: int = 1) -> Tensor:
    """Booleans (N,) of photographs to hold out of a training: of everybody who keeps three others
    the `each` least repeated. Not random ones: half of a tracking camera's images are the next
    frame of another, so that a model has as good as seen them."""
    require(each >= 0, f"{each} images of everybody cannot be held out: give 0 or more")
    held = torch.zeros(len(images), dtype=torch.bool)
    for own in rows_of_each(images.pids):
        if each and len(own) >= each + 3:
            alone = nearest_difference(thumbnails(images.images[own]))
            held[own[alone.argsort(descending=True, stable=True)[:each]]] = True
    return held
