"""Counting gallery scores above thresholds, the one heavy loop of ranking beside the product.

Compiled: in torch alone ranking is 2.5 times as slow.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np
import torch
from torch import Tensor

TILE = 4096  # scores that stay in the first-level cache while every threshold passes over them


def count_at_least(scores: Tensor, thresholds: Tensor) -> Tensor:
    """For scores (Q, G) and thresholds (Q, R), count per row the scores >= each threshold: (Q, R);
    a threshold of -inf marks padding and counts 0."""
    if scores.device.type != "cpu":
        return count_by_column(scores, thresholds)
    counts = torch.zeros(thresholds.shape, dtype=torch.int64)
    threads = min(torch.get_num_threads(), len(scores))
    parts = (np.array_split(tensor.numpy(), threads) for tensor in (scores, thresholds, counts))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(_count_rows, *parts))
    return counts


def count_by_column(scores: Tensor, thresholds: Tensor) -> Tensor:
    """The same in torch alone, with one temporary of the size of `scores` at a time."""
    counts = torch.zeros_like(thresholds, dtype=torch.int64)
    for column, threshold in enumerate(thresholds.unbind(1)):
        counts[:, column] = (scores >= threshold[:, None]).sum(1)
    return counts * (thresholds > -torch.inf)


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """The function in machine code, kept beside this file or at home where one may write there."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # nowhere to keep it
        return numba.njit(nogil=True)(function)


@_compiled
def _count_rows(scores: np.ndarray, thresholds: np.ndarray, counts: np.ndarray) -> None:
    for row in range(scores.shape[0]):
        for start in range(0, scores.shape[1], TILE):
            tile = scores[row, start : start + TILE]
            for column in range(thresholds.shape[1]):
                threshold = thresholds[row, column]
                if threshold == -np.inf:
                    continue
                above = np.int32(0)
                for index in range(tile.shape[0]):
                    # numba would widen a plain sum to 64 bits and halve the vector's lanes
                    above = np.int32(above + np.int32(tile[index] >= threshold))
                counts[row, column] += above
