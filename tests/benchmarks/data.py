"""Reading a set of Market-1501's size, and its nearest thumbnails."""

import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ddid.data.images import ImageSet
from ddid.data.likeness import nearest_difference
from tests.benchmarks.timing import Row, compare, row, timed

MARKET = 12936  # train images
SIZE = (64, 32)  # pixels


def rows(images: int = MARKET) -> list[Row]:
    """Reading the second time beside the first, and copies beside the product."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number}.jpg" for number in range(images)]
        for path in paths:
            pixels = draw.integers(0, 256, (128, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        frame = pd.DataFrame({"path": paths, "pid": 1, "camid": 1})
        read = [timed(lambda: ImageSet.read(frame, SIZE, cache=Path(folder))) for _ in range(2)]
    thumbs = torch.rand(images, 384, generator=torch.Generator().manual_seed(0))
    return [
        row(f"reading {images:,} decoded images again, beside the first time", read[1], read[0]),
        compare(
            f"nearest of {images:,} thumbnails for each, beside the product",
            lambda: nearest_difference(thumbs),
            lambda: [batch @ thumbs.T for batch in thumbs.split(512)] and None,
            repeats=2,
        ),
    ]
