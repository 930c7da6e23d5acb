"""The quality gate: which synthetic images may enter the training set [ours; the paper has none].

An image passes if it is no near-copy of a training image, and a judge that knows real images alone
is as sure of the wanted identity and camera as of all but the tenth of photographs that it has not
seen and is least sure of.
"""

from dataclasses import dataclass, field

import pandas as pd
import torch
from torch import Tensor

from ddid.balance.judge import Judge
from ddid.data.images import ImageSet
from ddid.data.likeness import nearest_difference, thumbnails
from ddid.errors import require_within

COPY, IDENTITY, CAMERA = REASONS = ("copy", "identity", "camera")
KEPT = "kept"


@dataclass(frozen=True)
class Limits:
    """What passes the gate. Our choices, made on the procedural street."""

    photographs: float = 0.9  # share of held-out ones that pass each of two limits; 1: no limit
    copy: float = 0.01  # smallest `nearest_difference` to a real training image, in [0, 1]
    attempts: int = 3  # seeds tried for an image before it is given up

    def __post_init__(self) -> None:
        require_within("gate", self, photographs="(0, 1]", copy="[0, 1]", attempts="[1, inf)")


@dataclass(frozen=True)
class Gate:
    """A judge and the limits it keeps."""

    judge: Judge
    limits: Limits = field(default_factory=Limits)

    def least(self) -> Tensor:
        """The judge's smallest lead (2,) for identity and camera, from held-out photographs."""
        found = self.judge.held_out
        if self.limits.photographs == 1:
            return torch.full((2,), -torch.inf)
        asked = found.where(found.isfinite(), torch.nan)
        return asked.nanquantile(1 - self.limits.photographs, 0).nan_to_num(-torch.inf)

    def verdicts(self, images: ImageSet) -> list[str]:
        """`kept`, or the first of `REASONS` against each image."""
        copied = nearest_difference(thumbnails(images.images), self.judge.thumbs) < self.limits.copy
        unsure = self.judge.leads(images) < self.least()
        found = torch.cat([copied[:, None], unsure, torch.ones_like(copied)[:, None]], 1)
        return [(*REASONS, KEPT)[first] for first in found.int().argmax(1).tolist()]

    def photographs_passing(self) -> float:
        """Share of the held-out photographs that both of the judge's limits let pass."""
        return (self.judge.held_out >= self.least()).all(1).double().mean().item()


def accepted(drafts: pd.DataFrame, by: str) -> pd.DataFrame:
    """How many drafts (of `resample`) of each `pid` or `camid` were wanted and kept; the share."""
    wanted = drafts[drafts["attempt"] == 0].groupby(by).size()
    kept = drafts[drafts["verdict"] == KEPT].groupby(by).size().reindex(wanted.index, fill_value=0)
    return pd.DataFrame({"wanted": wanted, "kept": kept, "share": kept / wanted})
