"""Images as tensors: 8-bit pixels, in memory or memory-mapped, the same for every consumer."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ddid.data.decoding import load_images, mapped_images
from ddid.errors import require
from ddid.progress import Progress


def to_unit(images: Tensor) -> Tensor:
    """uint8 (…) in 0..255 → float32 in [0, 1]; floats, which are there already, stay."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def rows_of_each(labels: Tensor) -> tuple[Tensor, ...]:
    """Rows of every label there is in (N,), labels ascending, by sorting, not by masks."""
    return labels.argsort(stable=True).split(labels.unique(return_counts=True)[1].tolist())


def where_rows(mask: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Whole elements of a batch: `first` where the mask (B,) holds, else `second`."""
    return torch.where(mask.view(-1, *[1] * (first.ndim - 1)), first, second)


def to_uint8(images: Tensor) -> Tensor:
    """float in [0, 1] → uint8, rounded to nearest: what a picture file keeps of an attack."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


@dataclass(frozen=True)
class ImageSet:
    """Images with identities and cameras."""

    images: Tensor  # uint8 (N, 3, H, W), memory-mapped if read through a cache: index, never copy
    pids: Tensor  # int64 (N,)
    camids: Tensor  # int64 (N,), -1 = unknown
    paths: tuple[str, ...]

    def __post_init__(self) -> None:
        shape, kind = tuple(self.images.shape), self.images.dtype
        fits = kind == torch.uint8 and len(shape) == 4 and shape[1] == 3
        require(fits, f"images are {kind} {shape}: give uint8 (N, 3, H, W)")
        labels = (self.pids, self.camids)
        fits = all(own.dtype == torch.int64 and own.shape == shape[:1] for own in labels)
        told = f"{shape[0]} images have other labels or paths: give int64 (N,) and N paths"
        require(fits and len(self.paths) == shape[0], told)

    @classmethod
    def read(
        cls,
        frame: pd.DataFrame,
        size: tuple[int, int],
        progress: Progress | None = None,
        cache: Path | None = None,
    ) -> "ImageSet":
        """Rows of a manifest at `size` = (height, width), decoded once if there is a `cache`."""
        require(len(frame) > 0, "no images to read: the manifest has no rows for this split")
        paths = tuple(frame["path"])
        pids, camids = (torch.tensor(frame[n].to_numpy(np.int64)) for n in ("pid", "camid"))
        load = partial(mapped_images, cache=cache) if cache else load_images
        return cls(load(paths, size, progress=progress), pids, camids, paths)

    def __len__(self) -> int:
        return len(self.pids)

    def take(self, index: Tensor) -> "ImageSet":
        """The images at `index` (int64 or boolean); no copy where it keeps all."""
        if index.dtype == torch.bool and index.all():
            return self
        kept = torch.arange(len(self))[index]
        paths = tuple(self.paths[i] for i in kept.tolist())
        return ImageSet(self.images[kept], self.pids[kept], self.camids[kept], paths)

    @property
    def classes(self) -> list[int]:
        """Identities in ascending order; the position is the class label."""
        return sorted(set(self.pids.tolist()))

    @property
    def labels(self) -> Tensor:
        """Class labels 0..C-1, int64 (N,)."""
        return torch.unique(self.pids, return_inverse=True)[1]
