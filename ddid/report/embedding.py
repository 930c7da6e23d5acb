"""Where attacks move embeddings: clean and attacked images in one fitted UMAP projection."""

import warnings
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from ddid.errors import require
from ddid.metric.distance import normalize


@dataclass(frozen=True)
class Projection:
    """Points on the map: gallery (G, 2), clean queries (Q, 2), the same queries attacked (Q, 2)."""

    gallery: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray


def project(
    gallery: Tensor, clean: Tensor, attacked: Tensor, seed: int = 0, neighbors: int = 15
) -> Projection:
    """Project embeddings (·, D) of one model onto a plane.

    The map is fitted on clean gallery and query images only and then kept: attacked images are
    placed on it, as a deployed system would see them [ours: a joint fit would let the attack
    redraw the map]. `neighbors` is UMAP's trade of local against global structure.

    Raises:
        InputError: fewer than four clean images, too few for a map.
    """
    from umap import UMAP

    clean_images = len(gallery) + len(clean)
    require(clean_images >= 4, f"a map needs at least 4 clean images, got {clean_images}")
    known = np.concatenate([normalize(part).cpu().numpy() for part in (gallery, clean)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value 1 overridden")
        mapper = UMAP(
            n_neighbors=min(neighbors, clean_images - 1),
            init="random" if clean_images < 16 else "spectral",  # spectral needs spare dimensions
            random_state=seed,
            n_jobs=1,
        ).fit(known)
    moved = mapper.transform(normalize(attacked).cpu().numpy())
    points = mapper.embedding_
    return Projection(points[: len(gallery)], points[len(gallery) :], moved)


def displacement(clean: Tensor, attacked: Tensor, centroids: Tensor) -> dict[str, float]:
    """How far an attack moves embeddings (Q, D), in cosine similarity, means over the queries.

    `own_clean` and `own_attacked`: to the centroid (Q, D) of the query's identity; `moved`: of the
    attacked embedding to the clean one.
    """
    clean, attacked, centroids = normalize(clean), normalize(attacked), normalize(centroids)
    return {
        "own_clean": float((clean * centroids).sum(1).mean()),
        "own_attacked": float((attacked * centroids).sum(1).mean()),
        "moved": float((clean * attacked).sum(1).mean()),
    }
