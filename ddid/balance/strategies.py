"""Five ways to fill the same plan, for a fair comparison: none, repeat, classical, diffusion ×2."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from ddid.balance.plan import COLUMNS
from ddid.balance.resampling import balanced_manifest
from ddid.data.images import load_images, to_uint8, to_unit
from ddid.errors import require
from ddid.files import atomic_write

STRATEGIES = ("none", "repeat", "classical", "ungated", "gated")


def strategy_manifest(
    name: str, manifest: pd.DataFrame, drafts: pd.DataFrame, folder: str | Path
) -> pd.DataFrame:
    """The training manifest of one strategy, from what notebook 02 wrote.

    Args:
        name: `none`, the manifest as it is; `repeat`, for each row of the plan a copy of a real
            image of that identity, of that camera where it has one; `classical`, the same image
            flipped, cropped and its colours jittered; `ungated`, the first draft of each row
            whatever the gate says; `gated`, the drafts that were kept.
        manifest: of notebook 01.
        drafts: of notebook 02; attempt 0 is the plan.
        folder: gets the images of `repeat` and `classical`.

    Raises:
        InputError: an unknown name.
    """
    require(name in STRATEGIES, f"unknown strategy {name!r}: choose one of {', '.join(STRATEGIES)}")
    if name == "none":
        return manifest
    if name == "gated":
        return balanced_manifest(manifest, drafts)
    plan = drafts[drafts["attempt"] == 0].assign(verdict="kept")
    if name in ("repeat", "classical"):
        change = augment if name == "classical" else None
        plan = plan.assign(path=_copies(plan, manifest, Path(folder), change))
    return balanced_manifest(manifest, plan)


def augment(image: Tensor, seed: int) -> Tensor:
    """Classical augmentation of one image (3, H, W) in [0, 1]: flip, crop and colour jitter."""
    from kornia.augmentation import ColorJitter, RandomHorizontalFlip, RandomResizedCrop

    size = (int(image.shape[1]), int(image.shape[2]))
    ratio = size[1] / size[0]
    steps = torch.nn.Sequential(
        RandomHorizontalFlip(p=0.5),
        RandomResizedCrop(size, scale=(0.8, 1.0), ratio=(ratio, ratio)),
        ColorJitter(0.2, 0.2, 0.2, 0.02),
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return steps(image[None])[0]


def _copies(
    plan: pd.DataFrame,
    manifest: pd.DataFrame,
    folder: Path,
    change: Callable[[Tensor, int], Tensor] | None,
) -> list[str]:
    """Write a copy of a real image for each row of the plan, changed or not; their paths."""
    train = manifest[(manifest["split"] == "train") & (manifest["origin"] == "real")]
    paths = []
    for name, pid, camid, seed in zip(*(plan[c] for c in COLUMNS[:4]), strict=True):
        own = train[train["pid"] == pid]
        same = own[own["camid"] == camid]
        source = (same if len(same) else own).sample(1, random_state=seed)["path"].iloc[0]
        with Image.open(source) as image:
            width, height = image.size
        pixels = load_images([source], (height, width))[0]
        if change:
            pixels = to_uint8(change(to_unit(pixels), seed))
        path = folder / f"{name}.png"
        with atomic_write(path) as temporary:
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(temporary)
        paths.append(str(path))
    return paths
