"""How biased a data set is: between identities, between cameras, between frames.

The paper's two faces of model bias [abstract]: numbers of images differ greatly between identities,
and the images of one identity are near-duplicates, often from one camera.
"""

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn.functional import normalize

from ddid.data.images import ImageSet, rows_of_each
from ddid.data.likeness import nearest_difference, thumbnails
from ddid.errors import require

NEAR = 0.03  # our choice: root mean square thumbnail difference of frames that show the same


def gini(counts: ArrayLike) -> float:
    """Gini coefficient of images per identity, 0 all alike … 1 all of one identity: half the mean
    absolute difference of two identities, over the mean."""
    x = np.sort(np.asarray(counts, dtype=float))
    ranks = np.arange(1, len(x) + 1)
    return float((2 * ranks - len(x) - 1) @ x / (len(x) * x.sum()))


def tail_share(counts: ArrayLike) -> float:
    """Share of all images that show the less photographed half of the identities, at most 0.5."""
    x = np.sort(np.asarray(counts, dtype=float))
    half = len(x) // 2
    middle = x[half] / 2 if len(x) % 2 else 0.0
    return float((x[:half].sum() + middle) / x.sum())


def identity_bias(manifest: pd.DataFrame) -> pd.DataFrame:
    """Bias of each identity, from the manifest's train rows alone; no image is read.

    Returns one row per `pid`: `images`; `cameras` that see it; `dominance`, the share from its most
    frequent camera of those of its images whose camera is known; `entropy` of its camera shares
    over the logarithm of the data set's number of cameras, 0 one camera … 1 all alike. The last two
    are NaN where no camera is known.
    """
    train = manifest[manifest["split"] == "train"]
    require(len(train) > 0, "the manifest has no train images to measure the bias of")
    cells = camera_counts(train)
    shares = cells.div(cells.sum(axis=1), axis=0)  # 0 / 0 = NaN: no camera known
    logs = np.log(shares.where(shares > 0, 1.0))
    most = np.log(max(2, cells.shape[1]))
    return pd.DataFrame(
        {
            "images": train.groupby("pid").size(),
            "cameras": (cells > 0).sum(axis=1),
            "dominance": shares.max(axis=1),
            "entropy": (-(shares * logs).sum(axis=1) / most).where(cells.any(axis=1)),
        }
    )


def camera_counts(train: pd.DataFrame) -> pd.DataFrame:
    """n_{i,c}: images per identity (rows) and known camera (columns)."""
    cells = pd.crosstab(train["pid"], train["camid"])
    return cells.drop(columns=-1, errors="ignore")


def effective_images(features: Tensor) -> float:
    """Effective number of different images among (n, D) features: 1 all alike … n all orthogonal.
    The Vendi score (Friedman and Dieng 2023): the exponential of the entropy of the eigenvalues of
    the cosine kernel over n. Features should be centred on the data set's mean."""
    unit = normalize(features.double(), dim=1)
    weights = torch.linalg.eigvalsh(unit @ unit.T / len(unit)).clamp_min(0)
    return float(torch.special.entr(weights).sum().exp())


def image_bias(images: ImageSet) -> pd.DataFrame:
    """What only the images tell of each identity. Returns one row per `pid`: `near_duplicates`, the
    share of its images with another one of it nearer than `NEAR`; `effective_images`, its number of
    really different images, judged by thumbnails centred on the data set's mean."""
    thumbs = thumbnails(images.images)
    center, rows = thumbs.mean(0), {}
    for pid, own in zip(images.classes, rows_of_each(images.pids), strict=True):
        near = (nearest_difference(thumbs[own]) < NEAR).float().mean().item()
        rows[pid] = (near, effective_images(thumbs[own] - center))
    columns = ["near_duplicates", "effective_images"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns).rename_axis("pid")


def summarise(table: pd.DataFrame) -> dict[str, float]:
    """A data set's bias in a few numbers, from `identity_bias`, joined with `image_bias` or not.
    `near_duplicates` is over images; `camera_dominance`, `camera_entropy` and `effective_images`
    are means over identities. A measure that cannot be taken (no camera known) is left out."""
    images = table["images"]
    summary = {
        "gini": gini(images),
        "tail_share": tail_share(images),
        "camera_dominance": float(table["dominance"].mean()),
        "camera_entropy": float(table["entropy"].mean()),
    }
    if "near_duplicates" in table:
        summary["near_duplicates"] = float((table["near_duplicates"] * images).sum() / images.sum())
        summary["effective_images"] = float(table["effective_images"].mean())
    return {name: value for name, value in summary.items() if np.isfinite(value)}
