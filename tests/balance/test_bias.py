"""Bias measures: twins written as loops, limits, and what must not change them."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from ddid.balance.bias import (
    effective_images,
    gini,
    identity_bias,
    image_bias,
    summarise,
    tail_share,
)
from ddid.data.images import ImageSet
from ddid.errors import InputError

COUNTS = [3, 9, 1, 1, 6]


def manifest(cells):
    """Train rows from {(pid, camid): images}."""
    rows = [(p, c) for (p, c), n in cells.items() for _ in range(n)]
    frame = pd.DataFrame(rows, columns=["pid", "camid"])
    paths = [f"{i}.jpg" for i in range(len(frame))]
    return frame.assign(path=paths, split="train", origin="real")


def test_gini_equals_its_loop():
    differences = [abs(a - b) for a in COUNTS for b in COUNTS]
    assert gini(COUNTS) == pytest.approx(np.mean(differences) / 2 / np.mean(COUNTS))


def test_gini_knows_its_limits_and_ignores_scale():
    assert gini([4, 4, 4]) == pytest.approx(0)
    assert gini([5]) == 0
    assert gini([0] * 99 + [1]) == pytest.approx(0.99)
    assert gini([10 * c for c in COUNTS]) == pytest.approx(gini(COUNTS))


def test_tail_share_is_half_when_balanced():
    assert tail_share([4, 4, 4]) == pytest.approx(0.5)
    assert tail_share([1, 1, 3, 5]) == pytest.approx(0.2)
    assert tail_share(COUNTS) == pytest.approx((1 + 1 + 1.5) / 20)


def test_identity_bias_equals_its_loop():
    cells = {(1, 1): 3, (1, 2): 1, (2, 3): 5, (3, 1): 2, (3, 2): 2, (3, 3): 2}
    table = identity_bias(manifest(cells))
    for pid in (1, 2, 3):
        own = [n for (p, _), n in cells.items() if p == pid]
        shares = [n / sum(own) for n in own]
        assert table["images"][pid] == sum(own)
        assert table["cameras"][pid] == len(own)
        assert table["dominance"][pid] == pytest.approx(max(shares))
        entropy = -sum(s * math.log(s) for s in shares) / math.log(3)
        assert table["entropy"][pid] == pytest.approx(entropy)


def test_unknown_cameras_count_as_images_only():
    table = identity_bias(manifest({(1, -1): 4, (2, 1): 1, (2, 2): 1}))
    assert table["images"].tolist() == [4, 2]
    assert math.isnan(table["dominance"][1])
    assert math.isnan(table["entropy"][1])
    assert table["dominance"][2] == 0.5
    nobodys = summarise(identity_bias(manifest({(1, -1): 4, (2, -1): 2})))
    assert nobodys.keys() == {"gini", "tail_share"}, "0 would mean that all are from one camera"


def test_only_train_rows_are_measured():
    frame = manifest({(1, 1): 2, (2, 1): 4})
    frame.loc[frame["pid"] == 2, "split"] = "gallery"
    assert identity_bias(frame).index.tolist() == [1]
    with pytest.raises(InputError, match="no train images"):
        identity_bias(frame.assign(split="query"))


def test_effective_images_counts_directions():
    assert effective_images(torch.eye(5)) == pytest.approx(5)
    assert effective_images(torch.ones(5, 3)) == pytest.approx(1, abs=1e-6)
    two = torch.eye(2).repeat_interleave(3, 0)
    assert effective_images(two) == pytest.approx(2)
    assert effective_images(7 * two) == pytest.approx(2)


def image_set(images, pids):
    n = len(pids)
    return ImageSet(images, torch.tensor(pids), torch.ones(n, dtype=torch.int64), ("",) * n)


def test_near_duplicates_are_found_within_an_identity_only():
    draw = torch.Generator().manual_seed(0)
    one, two = torch.randint(0, 256, (2, 3, 64, 32), generator=draw, dtype=torch.uint8)
    coarse = torch.randint(0, 256, (3, 16, 8), generator=draw, dtype=torch.uint8)
    other = coarse.repeat_interleave(4, 1).repeat_interleave(4, 2)
    images = torch.stack([one, one, other, one, two])
    table = image_bias(image_set(images, [1, 1, 1, 2, 3]))
    assert table["near_duplicates"].tolist() == pytest.approx([2 / 3, 0, 0])
    assert 1 < table["effective_images"][1] < 3
    assert table["effective_images"][2] == pytest.approx(1)


def test_summary_weighs_duplicates_by_images():
    table = identity_bias(manifest({(1, 1): 3, (2, 1): 1, (2, 2): 0 + 1}))
    table = table.assign(near_duplicates=[1.0, 0.0], effective_images=[1.0, 2.0])
    found = summarise(table)
    assert found["near_duplicates"] == pytest.approx(3 / 5)
    assert found["effective_images"] == pytest.approx(1.5)
    assert found["camera_dominance"] == pytest.approx(0.75)
    assert found["gini"] == pytest.approx(gini([3, 2]))
