"""Where attacks move embeddings: clean and attacked images in one fitted UMAP projection."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddid.attack import craft
from ddid.attack.guides import Guides, find_guides
from ddid.attack.loop import Budget
from ddid.attack.suite import Scene
from ddid.data.loading import ImageSet
from ddid.errors import require
from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded
from ddid.model import ReIDNet, embed
from ddid.run import atomic_write


@dataclass(frozen=True)
class UnderAttack:
    """Queries through one model, before and after an attack, beside the gallery."""

    gallery: Embedded
    clean: Embedded
    attacked: Embedded
    images: Tensor  # the attacked queries, uint8 (Q, 3, H, W)
    guides: Guides

    def shift(self) -> dict[str, float]:
        """How far the attack moved embeddings, in cosine similarity, means over the queries.

        `own_clean` and `own_attacked`: to the centroid of the query's identity; `kept`: of the
        attacked embedding to the clean one.
        """
        clean, attacked = (normalize(part.embeddings) for part in (self.clean, self.attacked))
        own = normalize(self.guides.same)
        return {
            "own_clean": float((clean * own).sum(1).mean()),
            "own_attacked": float((attacked * own).sum(1).mean()),
            "kept": float((clean * attacked).sum(1).mean()),
        }


def see(model: ReIDNet, images: ImageSet) -> Embedded:
    """Embed images with their labels, on the model's device."""
    device = next(model.parameters()).device
    embeddings = embed(model, images.images.to(device))
    return Embedded(embeddings, images.pids, images.camids).to(device)


def see_under_attack(
    model: ReIDNet,
    query: ImageSet,
    gallery: ImageSet,
    attack: str,
    budget: Budget,
    seed: int = 0,
) -> UnderAttack:
    """Attack all queries with a named attack and embed everything, on the model's device."""
    clean = see(model, query)
    guides = find_guides(clean.embeddings, clean.pids)
    generator = torch.Generator().manual_seed(seed)
    images = craft(attack, Scene(model, query.images, guides, generator), budget)
    attacked = see(model, replace(query, images=images))
    return UnderAttack(see(model, gallery), clean, attacked, images, guides)


@dataclass(frozen=True)
class Projection:
    """Points on the map: gallery (G, 2), clean queries (Q, 2), the same queries attacked (Q, 2)."""

    gallery: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray


def project(under: UnderAttack, seed: int = 0, neighbors: int = 15) -> Projection:
    """Project the embeddings of one model onto a plane.

    The map is fitted on clean gallery and query images only and then kept: attacked images are
    placed on it, as a deployed system would see them [ours: a joint fit would let the attack
    redraw the map]. `neighbors` is UMAP's trade of local against global structure.

    Raises:
        InputError: fewer than four clean images, too few for a map.
    """
    from umap import UMAP

    gallery, clean, attacked = (
        normalize(part.embeddings).cpu().numpy()
        for part in (under.gallery, under.clean, under.attacked)
    )
    known = np.concatenate([gallery, clean])
    require(len(known) >= 4, f"a map needs at least 4 clean images, got {len(known)}")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value 1 overridden")
        mapper = UMAP(
            n_neighbors=min(neighbors, len(known) - 1),
            init="random" if len(known) < 16 else "spectral",  # spectral needs spare dimensions
            random_state=seed,
            n_jobs=1,
        ).fit(known)
    points = mapper.embedding_
    return Projection(points[: len(gallery)], points[len(gallery) :], mapper.transform(attacked))


def save_embeddings(path: str | Path, seen: Mapping[str, UnderAttack]) -> None:
    """Write `MODEL.gallery`, `MODEL.clean` and `MODEL.attacked` of each model, float32 (·, D), as
    an npz file that needs no pickle."""
    arrays = {
        f"{name}.{part}": getattr(under, part).embeddings.cpu().numpy()
        for name, under in seen.items()
        for part in ("gallery", "clean", "attacked")
    }
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def load_embeddings(path: str | Path) -> dict[str, np.ndarray]:
    """Read what `save_embeddings` wrote."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
