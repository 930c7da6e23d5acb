"""The resampling plan: which images phase 1 adds, each with its seed, and what that costs.

`n_i` images of identity `i`, `n_{i,c}` of them from camera `c` [summary]:
- between identities: every `i` with `n_i < δ1` gets `δ1 − n_i` images;
- within an identity: every `i` with `max_c n_{i,c} / n_i > δ2` gets images for every other camera.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd

from ddid.balance.bias import camera_counts
from ddid.errors import require
from ddid.seeds import seed_of

COLUMNS = ["name", "pid", "camid", "seed", "reason"]
FEW_IMAGES, ONE_CAMERA = "few images", "one camera dominates"
LIMIT = 1_000_000  # images; more is a mistyped threshold rather than a wish


@dataclass(frozen=True)
class Thresholds:
    """δ1 and δ2. The values are our choice: no source states the paper's."""

    delta1: int = 20
    """Fewest images an identity should have; the street's mean is 12."""
    delta2: float = 0.5
    """Largest share of an identity's images that one camera should have, in (0, 1]."""

    def __post_init__(self) -> None:
        require(self.delta1 >= 0, f"delta1 is {self.delta1}: give a number of images, 0 or more")
        require(0 < self.delta2 <= 1, f"delta2 is {self.delta2}: give a share in (0, 1]")


def resampling_plan(manifest: pd.DataFrame, thresholds: Thresholds, seed: int = 0) -> pd.DataFrame:
    """One row per image to synthesise.

    Our choices where the paper is silent: an image for the first rule goes to the camera that has
    fewest of the identity; the second rule, counted after the first, gives every other camera one,
    and the rarest ones more until no camera's share is above δ2.

    Args:
        manifest: with real train rows.
        thresholds: δ1 and δ2.
        seed: a row's own seed depends on this, its identity, camera and number alone, so that
            other thresholds leave its image as it is.

    Returns:
        Columns `COLUMNS`, ordered by pid.

    Raises:
        InputError: no known camera, thresholds that ask for nothing, for more than `LIMIT` images,
            or for a share that so few cameras cannot have.
    """
    train = manifest[(manifest["split"] == "train") & (manifest["origin"] == "real")]
    counts = camera_counts(train)
    images = train.groupby("pid").size()
    _check_possible(images, counts.shape[1], thresholds)
    rows = []
    for pid, cells in _cells(counts):
        made = dict.fromkeys(cells, 0)
        for camid, reason in _wanted(cells, int(images[pid]), thresholds):
            number = made[camid] = made[camid] + 1
            name = f"{pid:04d}_c{camid}_{number:04d}"
            rows.append((name, pid, camid, seed_of(seed, pid, camid, number), reason))
    require(
        bool(rows),
        f"delta1 = {thresholds.delta1} and delta2 = {thresholds.delta2} ask for no image: every "
        "identity has enough of every camera; raise delta1, lower delta2 or leave balancing out",
    )
    return pd.DataFrame(rows, columns=COLUMNS)


def _check_possible(images: pd.Series, cameras: int, thresholds: Thresholds) -> None:
    """Refuse what no plan can reach, given images per identity and the number of cameras."""
    require(
        cameras > 0,
        "the plan needs cameras, but every camid is -1 (unknown): name the cameras in the manifest",
    )
    require(
        cameras == 1 or thresholds.delta2 * cameras >= 1,
        f"delta2 = {thresholds.delta2} cannot be reached: with {cameras} cameras the most frequent "
        f"one has a share of at least {1 / cameras:.2f}; raise delta2",
    )
    total = int((thresholds.delta1 - images).clip(lower=0).sum())
    require(
        total <= LIMIT,
        f"delta1 = {thresholds.delta1} asks for {total:,} images, more than {LIMIT:,}: lower it",
    )


def _cells(counts: pd.DataFrame) -> Iterator[tuple[int, dict[int, int]]]:
    """Each identity with its images per camera."""
    cameras = [int(camid) for camid in counts.columns]
    for pid, row in zip(counts.index, counts.to_numpy().tolist(), strict=True):
        yield int(pid), dict(zip(cameras, row, strict=True))


def _wanted(
    cells: dict[int, int], images: int, thresholds: Thresholds
) -> Iterator[tuple[int, str]]:
    """Camera and reason of what one identity lacks, given its images per camera and in all."""
    unknown = images - sum(cells.values())  # taken by cameras without a name
    few = Counter(_fill(cells, lambda c: sum(c.values()) + unknown < thresholds.delta1))
    yield from ((camid, FEW_IMAGES) for camid in few.elements())
    cells = {camid: count + few[camid] for camid, count in cells.items()}
    if len(cells) == 1 or not _dominated(cells, thresholds.delta2):
        return
    dominant = max(cells, key=lambda camid: (cells[camid], -camid))
    others = [camid for camid in cells if camid != dominant]
    cells = {camid: count + (camid in others) for camid, count in cells.items()}
    more = _fill(cells, lambda c: _dominated(c, thresholds.delta2))
    yield from ((camid, ONE_CAMERA) for camid in (*others, *more))


def _dominated(cells: dict[int, int], delta2: float) -> bool:
    return max(cells.values()) > delta2 * sum(cells.values()) + 1e-9


def _fill(cells: dict[int, int], lacking: Callable[[dict[int, int]], bool]) -> Iterator[int]:
    """Give the camera with fewest images one more, again and again, while `lacking` says so."""
    cells = dict(cells)
    while lacking(cells):
        camid = min(cells, key=lambda c: (cells[c], c))
        cells[camid] += 1
        yield camid


def cost(plan: pd.DataFrame, training_seconds: float, seconds_per_image: float) -> dict[str, float]:
    """What a plan costs: `images`, `identities` and `minutes`, training included."""
    seconds = training_seconds + seconds_per_image * len(plan)
    identities = int(plan["pid"].nunique())
    return {"images": len(plan), "identities": identities, "minutes": round(seconds / 60, 1)}
