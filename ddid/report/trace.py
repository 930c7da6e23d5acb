"""An attack on one query, step by step, and what a visitor sees of it."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import nan

import numpy as np
import pandas as pd
import torch
from matplotlib import colormaps
from torch import Tensor

from ddid.attack import Budget
from ddid.attack.registry import Attack, attack_scene
from ddid.data.images import to_uint8, to_unit
from ddid.errors import require
from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded, answerable, is_match, rank
from ddid.model import ReIDNet
from ddid.model import embed as embed_all
from ddid.report.figures.style import pictures
from ddid.report.gradcam import similarity_maps
from ddid.report.subject import Subject


@dataclass(frozen=True)
class Trace:
    """An attack on one query under one model.

    path      (T, k, 3, H, W) uint8: the k attacked images clean, then wherever the attack asked
              for a gradient, last the result; k is 1 unless the gallery is attacked
    features  (T, k, D) theirs
    subject   the model, with the query as its only attacked one
    rows      (k,) rows of the gallery that are attacked; None: the query is
    own       (D,) mean clean feature of the query's identity
    far       the identity farthest from it, at which FNA aims
    """

    path: Tensor
    features: Tensor
    subject: Subject
    rows: Tensor | None
    own: Tensor
    far: int

    @classmethod
    def of(
        cls, attack: Attack, subject: Subject, rival: Subject | None, side: str, budget: Budget,
        seed: int,
    ) -> "Trace":  # fmt: skip
        """Attack the query in `subject.rows`, or the gallery's images of its identity. `rival` is
        the other model that an attack by transfer works on."""
        generator = torch.Generator().manual_seed(seed)
        scene = subject.scene(side, budget, generator)
        count = len(scene.images)
        require(count > 0, "the gallery has no image of this identity: attack the query instead")
        surrogate = rival.scene(side, budget, generator) if rival else None
        steps: list[Tensor] = []

        def watched(images: Tensor) -> Tensor:
            if images.requires_grad and torch.is_grad_enabled():  # an attack takes a step from here
                steps.append(to_uint8(images.detach()).cpu())
            return subject.embed(images)

        attacked = attack_scene(attack, replace(scene, embed=watched, surrogate=surrogate), count)
        if steps and steps[0].equal(scene.images):
            steps = steps[1:]
        path = torch.stack([scene.images, *steps, attacked])
        features = embed_all(subject.embed, path.flatten(0, 1)).unflatten(0, path.shape[:2])
        rows = subject.targets(side) if side == "gallery" else None
        own, far = scene.guides.same[0].cpu(), int(scene.guides.far_pid[0])
        return cls(path, features, subject, rows, own, far)

    def sides(self, step: int) -> tuple[Embedded, Embedded]:
        """Query and gallery as the model sees them at a step."""
        query, gallery, now = self.subject.attacked, self.subject.gallery, self.features[step]
        if self.rows is None:
            return replace(query, embeddings=now), gallery
        changed = gallery.embeddings.index_copy(0, self.rows, now)
        return query, replace(gallery, embeddings=changed)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row a step: average precision in percent and rank of the first right answer (nan for a
        query without one), and cosine similarity of the attacked image to its identity."""
        rows = []
        for step, now in enumerate(self.features):
            query, gallery = self.sides(step)
            ranks = nan, nan  # no right answer: worth seeing in the list, and no reason to stop
            if answerable(query, gallery).any():
                found = rank(query, gallery)
                ranks = 100 * float(found.ap), float(found.first_rank)
            rows.append((*ranks, float(torch.cosine_similarity(now[0], self.own, dim=0))))
        return pd.DataFrame(rows, columns=["ap", "first_rank", "similarity"]).rename_axis("step")


def answers_to(query: Embedded, gallery: Embedded, count: int) -> pd.DataFrame:
    """The first `count` answers to one query, fewer in a small gallery, by the rules of
    `ddid.metric.ranking` but for ties: its identity in its own camera never appears. A row each,
    nearest first: row of the gallery, who it is, cosine similarity, whether it is right, rank."""
    right = is_match(gallery.pids, gallery.camids, query.pids, query.camids)
    ignored = (gallery.pids == query.pids) & (query.pids != 0) & ~right | (gallery.pids < 0)
    similarity = normalize(query.embeddings) @ normalize(gallery.embeddings).T
    count = min(count, int((~ignored).sum()))
    nearest = similarity[0].masked_fill(ignored, -torch.inf).topk(count)
    row, near = nearest.indices, gallery[nearest.indices]
    columns = {"row": row, "identity": near.pids, "camera": near.camids}
    columns |= {"similarity": nearest.values, "right": right[row]}
    table = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
    return table.assign(rank=table.index + 1)


@dataclass(frozen=True)
class View:
    """An attack at one of its steps; of several attacked images, the first is shown."""

    trace: Trace
    step: int

    @property
    def image(self) -> Tensor:
        """The clean image, uint8 (1, 3, H, W)."""
        return self.trace.path[0, :1]

    @property
    def attacked(self) -> Tensor:
        """The same at the step."""
        return self.trace.path[self.step, :1]

    @property
    def perturbation(self) -> Tensor:
        """What the attack added, in 255ths, int16 (1, 3, H, W)."""
        return self.attacked.short() - self.image.short()

    @property
    def pictures(self) -> dict[str, np.ndarray]:
        """Title → uint8 (H, W, 3): clean, the perturbation around grey as strong as 8 bits allow,
        attacked, whom FNA aims at, and where the model finds the identity if it has maps."""
        gain = max(1, 127 // max(1, int(self.perturbation.abs().max())))
        change = (128 + gain * self.perturbation).clamp(0, 255).to(torch.uint8)
        shown = {"clean": self.image, f"change ×{gain}": change, "attacked": self.attacked}
        subject, far = self.trace.subject, self.trace.far
        shown["farthest person"] = subject.query_images[subject.query.pids == far]
        found = {title: pictures(image)[0] for title, image in shown.items()}
        embed = subject.embed
        if isinstance(embed, ReIDNet) and len(embed.stages):
            heat = similarity_maps(embed, to_unit(self.attacked), self.trace.own[None])[0]
            colors = np.asarray(colormaps["inferno"](heat.numpy()))[..., :3]
            found["what speaks for the identity"] = np.uint8(0.5 * found["attacked"] + 127 * colors)
        return found

    def lists(self, count: int) -> dict[str, tuple[np.ndarray, pd.DataFrame]]:
        """The query (H, W, 3) and its answers, before the attack and after it up to the step."""
        query = self.trace.subject.query_images[self.trace.subject.rows]
        asked = {0: query, self.step: self.attacked if self.trace.rows is None else query}
        steps = {"before": 0, "after": self.step}
        return {
            when: (pictures(asked[step])[0], answers_to(*self.trace.sides(step), count))
            for when, step in steps.items()
        }

    @property
    def scores(self) -> tuple[pd.Series, pd.Series]:
        """Row of the trace's scores clean, and at the step."""
        return self.trace.scores.iloc[0], self.trace.scores.iloc[self.step]
