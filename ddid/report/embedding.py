"""Where attacks move embeddings: clean and attacked images in one fitted UMAP projection."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ddid.attack.objectives import Guides
from ddid.errors import require
from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded
from ddid.model import embed
from ddid.report.robustness import Plan, attack_images
from ddid.report.subject import Subject, evenly


@dataclass(frozen=True)
class UnderAttack:
    """A subject's queries before and after an attack, and the gallery they are compared with."""

    images: Tensor  # the attacked queries, uint8 (Q, 3, H, W)
    clean: Embedded
    attacked: Embedded
    gallery: Embedded
    guides: Guides  # mean clean embeddings of all identities, the queries' own and farthest ones

    @classmethod
    def of(cls, subject: Subject, attack: str, plan: Plan) -> "UnderAttack":
        """Attack the queries in the subject's rows."""
        images, _ = attack_images(attack, subject, plan)
        clean = subject.attacked
        attacked = replace(clean, embeddings=embed(subject.embed, images))
        guides = subject.scene("query", plan.budget, torch.Generator()).guides
        return cls(images, clean, attacked, subject.gallery, guides)

    def similarities(self) -> pd.DataFrame:
        """Cosine similarity to the own identity, the nearest other, and the farthest if clean; the
        own one's mean is of its other images, nan if it has none: a query is always near itself."""
        own, found, guides = self.guides.is_own, {}, self.guides
        count = guides.counts[guides.identity, None]
        rest = normalize(count * guides.same - guides.own).where(count > 1, torch.nan)
        for state, query in (("clean", self.clean), ("attacked", self.attacked)):
            points = normalize(query.embeddings.to(own.device))
            near = points @ normalize(guides.centroids).T
            found[f"own, {state}"] = (points * rest).sum(1)
            found[f"nearest other, {state}"] = near.masked_fill(own, -torch.inf).amax(1)
            found[f"farthest, {state}"] = near.gather(1, guides.farthest[:, None])[:, 0]
        return pd.DataFrame({name: column.cpu().numpy() for name, column in found.items()})


@dataclass(frozen=True)
class Projection:
    """Points on the map: these `rows` of the gallery (G, 2), queries clean and attacked (Q, 2)."""

    gallery: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray
    rows: np.ndarray


def project(under: UnderAttack, seed: int, neighbors: int = 15, most: int = 2000) -> Projection:
    """Project the embeddings of one model onto a plane by UMAP. The map is fitted on clean queries
    and at most `most` evenly spaced gallery images and then kept: attacked images are placed on it,
    as a deployed system would see them [ours: a joint fit would let the attack redraw the map]."""
    import numba
    from umap import UMAP

    rows = evenly(len(under.gallery.pids), most)
    parts = under.gallery[rows], under.clean, under.attacked
    gallery, clean, attacked = (normalize(part.embeddings).numpy() for part in parts)
    known = np.concatenate([gallery, clean])
    require(len(known) >= 4, f"a map needs at least 4 clean images, got {len(known)}")
    mapper = UMAP(
        n_neighbors=min(neighbors, len(known) - 1),
        init="random" if len(known) < 16 else "spectral",  # spectral needs spare dimensions
        random_state=seed,
        n_jobs=1,
    )
    threads = torch.get_num_threads()  # numba shares torch's pool and would leave it others
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    points, moved = mapper.fit(known).embedding_, mapper.transform(attacked)
    torch.set_num_threads(threads)
    return Projection(points[: len(gallery)], points[len(gallery) :], moved, rows.numpy())
