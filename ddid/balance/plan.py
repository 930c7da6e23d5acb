"""The resampling plan: which images phase 1 adds, each with its seed.

`n_i` real images of identity `i`, `n_{i,c}` of them from camera `c` [summary], shares of cameras
being among those images whose camera is known:
- between identities: every `i` with `n_i < δ1` gets `δ1 − n_i` images;
- within an identity: every `i` with `max_c n_{i,c} / n_i > δ2` gets one image for every camera
  `c ≠ argmax_c n_{i,c}`.
Both rules look at the real counts, before anything is filled.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ddid.balance.bias import camera_counts
from ddid.errors import require, require_within
from ddid.seeds import seed_of

COLUMNS = ["name", "pid", "camid", "seed", "reason"]
FEW_IMAGES, ONE_CAMERA = "few images", "one camera dominates"
LIMIT = 1_000_000  # images; more is a mistyped threshold rather than a wish


@dataclass(frozen=True)
class Thresholds:
    """δ1 and δ2. The values are our choice: no source states the paper's."""

    delta1: int = 20  # fewest images an identity should have; the street's mean is 12
    delta2: float = 0.5  # largest share of its images that one camera should have, in (0, 1]

    def __post_init__(self) -> None:
        require_within("plan", self, delta1="[0, inf)", delta2="(0, 1]")


def resampling_plan(manifest: pd.DataFrame, thresholds: Thresholds, seed: int = 0) -> pd.DataFrame:
    """One row per image to synthesise, `COLUMNS`, ordered by pid; none if all is balanced.

    Our choice where the paper is silent: an image for the first rule goes to the camera that then
    has fewest of the identity. A row's seed depends on `seed`, identity, camera and number alone.
    InputError: no known camera, or thresholds that ask for more than `LIMIT` images.
    """
    train = manifest[(manifest["split"] == "train") & (manifest["origin"] == "real")]
    told = "the plan needs a seed and people of 0 or more: leave out images of unknown people (-1)"
    require(seed >= 0 and bool((train["pid"] >= 0).all()), told)
    counts, images = camera_counts(train), train.groupby("pid").size()
    require(
        counts.shape[1] > 0,
        "the plan needs cameras, but every camid is -1 (unknown): name the cameras in the manifest",
    )
    total = int((thresholds.delta1 - images).clip(lower=0).sum())
    require(
        total <= LIMIT,
        f"delta1 = {thresholds.delta1} asks for {total:,} images, more than {LIMIT:,}: lower it",
    )
    rows = []
    for pid, cells in zip(counts.index.tolist(), counts.to_numpy(), strict=True):
        made: Counter[int] = Counter()
        for column, reason in _wanted(cells, int(images[pid]), thresholds):
            camid = int(counts.columns[column])
            made[camid] += 1
            name = f"{pid:04d}_c{camid}_{made[camid]:04d}"
            rows.append((name, pid, camid, seed_of(seed, pid, camid, made[camid]), reason))
    return pd.DataFrame(rows, columns=COLUMNS)


def _wanted(cells: np.ndarray, images: int, limits: Thresholds) -> Iterator[tuple[int, str]]:
    """Camera (a column) and reason of each image an identity lacks; `cells` (C,): those it has."""
    filled = cells.copy()
    for _ in range(limits.delta1 - images):
        filled[filled.argmin()] += 1
    yield from ((int(c), FEW_IMAGES) for c in np.repeat(np.arange(len(cells)), filled - cells))
    if cells.any() and cells.max() / cells.sum() > limits.delta2:
        dominant = int(cells.argmax())
        yield from ((c, ONE_CAMERA) for c in range(len(cells)) if c != dominant)
