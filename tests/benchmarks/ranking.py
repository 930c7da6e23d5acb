"""Ranking from features to all metrics, beside the bare matrix product."""

import sys

import torch

from ddid.metric.ranking import Embedded, rank
from tests.benchmarks.timing import Row, compare, device, largest_memory, peak_memory, row

MARKET = 3368, 15913, 512  # queries, gallery images, dimensions
MILLION = 3368, 1_000_000, 128
LIMIT = 2048  # MiB


def rows(repeats: int = 10, queries: int = MILLION[0]) -> list[Row]:
    """Time at Market-1501's size, and memory for a gallery of a million."""
    query, gallery = features(*MARKET)
    product = torch.empty(len(query.pids), len(gallery.pids), device=device())
    left, right = query.embeddings, gallery.embeddings.T
    table = [
        compare(
            "ranking 3,368 x 15,913 x 512, features to metrics, beside the product",
            lambda: rank(query, gallery).summary(),
            lambda: torch.mm(left, right, out=product),
            repeats,
        )
    ]
    memory = peak_memory("tests.benchmarks.ranking", str(queries))
    what = f"ranking {queries:,} x 1,000,000 x 128, peak MiB beside 2 GiB"
    return [*table, row(what, memory, LIMIT)]


def features(queries: int, images: int, dimensions: int) -> tuple[Embedded, Embedded]:
    """Random features with Market-1501's proportions: 750 identities, 6 cameras, distractors."""
    generator = torch.Generator().manual_seed(0)

    def side(count: int, lowest: int) -> Embedded:
        pids = torch.randint(lowest, 751, (count,), generator=generator)
        if lowest == 0:
            pids[torch.rand(count, generator=generator) < max(0.18, 1 - 20_000 / count)] = 0
        embeddings = torch.randn(count, dimensions, generator=generator)
        camids = torch.randint(0, 6, (count,), generator=generator)
        return Embedded(embeddings, pids, camids).to(device())

    return side(queries, 1), side(images, 0)


if __name__ == "__main__":
    query, gallery = features(int(sys.argv[1]), *MILLION[1:])
    rank(query, gallery)
    sys.stdout.write(f"{largest_memory()}\n")
