"""An attack on one query, step by step, and what a visitor sees of it."""

from dataclasses import dataclass, replace
from functools import cached_property
from math import nan

import pandas as pd
import torch
from torch import Tensor

from ddid.attack import Budget
from ddid.attack.registry import Attack, craft
from ddid.data.images import ImageSet, to_uint8, to_unit
from ddid.errors import InputError, require
from ddid.metric.distance import Embed
from ddid.metric.ranking import Embedded, rank
from ddid.model import ReIDNet
from ddid.model import embed as embed_all
from ddid.report.gradcam import similarity_maps
from ddid.report.ranked import RankedList, ranked_list, right_ranks
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
    aim       farthest other identity, where FNA pulls to
    """

    path: Tensor
    features: Tensor
    subject: Subject
    rows: Tensor | None
    own: Tensor
    aim: int

    @classmethod
    def of(
        cls,
        attack: Attack,
        subject: Subject,
        side: str,
        budget: Budget,
        seed: int,
        rival: Subject | None = None,
    ) -> "Trace":
        """Attack the query in `subject.rows`, or the gallery's images of its identity.

        `rival` is the other model that an attack by transfer works on.
        """
        generator = torch.Generator().manual_seed(seed)
        scene = subject.scene(side, budget, generator)
        count = len(scene.images)
        require(count > 0, "the gallery has no image of this identity: attack the query instead")
        surrogate = rival.scene(side, budget, generator) if rival else None
        recorder = Recorder(subject.embed)
        attacked = craft(attack, replace(scene, embed=recorder, surrogate=surrogate), count)
        path = torch.stack([scene.images, *recorder.steps, attacked])
        path = path[int(bool(recorder.steps) and torch.equal(path[0], path[1])) :]
        features = embed_all(subject.embed, path.flatten(0, 1)).unflatten(0, path.shape[:2])
        rows = subject.targets(side) if side == "gallery" else None
        own, aim = scene.guides.same[0].cpu(), int(scene.guides.far_pid[0])
        return cls(path, features, subject, rows, own, aim)

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
            try:
                found = rank(*self.sides(step))
                ranks = (100 * float(found.ap), float(found.first_rank))
            except InputError:  # no right answer: worth seeing in the list, and no reason to stop
                ranks = (nan, nan)
            rows.append((*ranks, float(torch.cosine_similarity(now[0], self.own, dim=0))))
        return pd.DataFrame(rows, columns=["ap", "first_rank", "similarity"]).rename_axis("step")


class Recorder:
    """A model that keeps the images at which its gradient is asked: an attack's steps."""

    def __init__(self, embed: Embed) -> None:
        self.embed, self.steps = embed, list[Tensor]()

    def __call__(self, images: Tensor) -> Tensor:
        """Embed images (B, 3, H, W)."""
        if images.requires_grad and torch.is_grad_enabled():
            self.steps.append(to_uint8(images.detach()).cpu())
        return self.embed(images)


@dataclass(frozen=True)
class View:
    """An attack at one of its steps, and the nearest `answers` gallery images."""

    trace: Trace
    step: int
    answers: int

    @property
    def image(self) -> Tensor:
        """The attacked image (the first, if several are), clean, uint8 (1, 3, H, W)."""
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
    def amplified(self) -> tuple[Tensor, int]:
        """The perturbation around grey, as strong as 8 bits allow, and how many times enlarged."""
        gain = max(1, 127 // max(1, int(self.perturbation.abs().max())))
        return (128 + gain * self.perturbation).clamp(0, 255).to(torch.uint8), gain

    @cached_property
    def heat(self) -> Tensor | None:
        """Where the model finds the identity in the attacked image, (H, W) in [0, 1]; None for a
        model without convolutional maps."""
        embed = self.trace.subject.embed
        if not isinstance(embed, ReIDNet) or not len(embed.stages):
            return None
        return similarity_maps(embed, to_unit(self.attacked), self.trace.own[None])[0]

    @cached_property
    def lists(self) -> dict[str, RankedList]:
        """The nearest gallery images before the attack, and after it up to the step."""
        steps = {"before": 0, "after": self.step}
        return {when: ranked_list(*self.trace.sides(t), self.answers) for when, t in steps.items()}

    def table(self, gallery: ImageSet) -> pd.DataFrame:
        """Both lists, a row an answer: `row` of the gallery, cosine `similarity`, `right`."""
        parts = []
        for when, found in self.lists.items():
            row = found.index[0]
            columns = {"row": row, "identity": gallery.pids[row], "camera": gallery.camids[row]}
            columns |= {"similarity": 1 - found.distance[0], "right": found.right[0]}
            part = pd.DataFrame({name: column.numpy() for name, column in columns.items()})
            part.insert(0, "rank", range(1, len(row) + 1))
            parts.append(part.assign(list=when))
        return pd.concat(parts, ignore_index=True)

    @property
    def asked(self) -> dict[str, Tensor]:
        """The query (1, 3, H, W) of each list."""
        query = self.trace.subject.query_images[self.trace.subject.rows]
        return {"before": query, "after": self.attacked if self.trace.rows is None else query}

    @property
    def scores(self) -> tuple[pd.Series, pd.Series]:
        """Row of the trace's scores clean, and at the step."""
        return self.trace.scores.iloc[0], self.trace.scores.iloc[self.step]

    @property
    def moved(self) -> list[tuple[int, int]]:
        """Rank of each right answer before and after, the nearest first."""
        before, after = (right_ranks(*self.trace.sides(step)) for step in (0, self.step))
        return [(place, after[row]) for row, place in before.items()]
