"""Reading a set of Market-1501's size, its measures, and the memory of a set of MSMT17's."""

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from ddid.balance.bias import image_bias, nearest_difference
from ddid.data.images import ImageSet
from tests.benchmarks.timing import Row, compare, largest_memory, peak_memory, row, timed

MARKET = 12936  # train images
SIZE = (64, 32)  # pixels
LARGE = 126_000, 10_000  # images, identities


def rows(images: int = MARKET) -> list[Row]:
    """Reading the second time beside the first, copies beside the product, and peak memory."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number}.jpg" for number in range(images)]
        for path in paths:
            pixels = draw.integers(0, 256, (128, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path)
        frame = pd.DataFrame({"path": paths, "pid": 1, "camid": 1})
        read = [timed(lambda: ImageSet.read(frame, SIZE, cache=Path(folder))) for _ in range(2)]
    thumbs = torch.rand(images, 384, generator=torch.Generator().manual_seed(0))
    peak = peak_memory("tests.benchmarks.data", *map(str, LARGE))
    return [
        row(f"reading {images:,} decoded images again, beside the first time", read[1], read[0]),
        compare(
            f"nearest of {images:,} thumbnails for each, beside the product",
            lambda: nearest_difference(thumbs),
            lambda: [batch @ thumbs.T for batch in thumbs.split(512)] and None,
            repeats=2,
        ),
        row("bias of 126,000 images of 10,000 people, peak MiB beside pixels", peak, pixels_of()),
    ]


def pixels_of() -> float:
    """MiB of the large set's pixels."""
    return LARGE[0] * 3 * SIZE[0] * SIZE[1] / 2**20


if __name__ == "__main__":
    count, identities = map(int, sys.argv[1:])
    before = largest_memory()
    pids = torch.arange(count) % identities
    pixels = torch.randint(0, 256, (count, 3, *SIZE), dtype=torch.uint8)
    image_bias(ImageSet(pixels, pids, torch.ones_like(pids), ("",) * count))
    sys.stdout.write(f"{largest_memory() - before}\n")
