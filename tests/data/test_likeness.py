"""Small copies of images tell which repeat each other."""

import math

import pytest
import torch

from ddid.data.images import ImageSet
from ddid.data.likeness import least_repeated, nearest_difference, thumbnails
from ddid.errors import InputError


def test_nearest_difference_equals_its_loop():
    a, b = torch.rand(2, 6, 10, generator=torch.Generator().manual_seed(0)).unbind()
    rms = lambda x, y: math.sqrt(((x - y) ** 2).mean())  # noqa: E731
    for i, found in enumerate(nearest_difference(a, b).tolist()):
        assert found == pytest.approx(min(rms(a[i], y) for y in b), rel=1e-5)
    for i, found in enumerate(nearest_difference(a).tolist()):
        wanted = min(rms(a[i], a[j]) for j in range(6) if j != i)
        assert found == pytest.approx(wanted, rel=1e-5)


def test_near_and_equal_thumbnails_are_told_apart_in_a_crowd():
    """The product's rounding must not hide a copy nor invent one."""
    crowd = 0.9 + 0.1 * torch.rand(3000, 384, generator=torch.Generator().manual_seed(1))
    crowd[7] = crowd[2999]
    crowd[11] = crowd[1500] + 1e-3
    found = nearest_difference(crowd)
    assert max(found[7], found[2999]) < 1e-6
    assert float(found[11]) == pytest.approx(1e-3, rel=1e-3)
    exact = torch.cdist(crowd.double(), crowd.double()).fill_diagonal_(torch.inf).amin(1) / 384**0.5
    assert torch.allclose(found.double(), exact, atol=1e-6)
    assert nearest_difference(crowd[:1]).isinf().all()


def test_thumbnails_average_blocks():
    images = torch.randint(0, 256, (2, 3, 32, 16), dtype=torch.uint8)
    block = images[1, 2, 2:4, 4:6].float().mean() / 255
    assert thumbnails(images).view(2, 3, 16, 8)[1, 2, 1, 2].item() == pytest.approx(block.item())


def shots(frames, pids):
    """Images of a few different frames, by their numbers."""
    draw = torch.Generator().manual_seed(0)
    different = torch.randint(0, 256, (max(frames) + 1, 3, 32, 16), generator=draw)
    images, pids = different[frames].to(torch.uint8), torch.tensor(pids)
    return ImageSet(images, pids, torch.zeros_like(pids), tuple(map(str, range(len(pids)))))


def test_what_is_held_out_has_no_like_among_what_is_learnt():
    images = shots([0, 0, 1, 2, 2, 3, 3, 4, 4, 5], [1] * 5 + [2] * 5)
    assert least_repeated(images).nonzero()[:, 0].tolist() == [2, 9]
    assert not least_repeated(images, 0).any()


def test_everybody_who_can_spare_them_is_held_out_and_keeps_three():
    images = shots(list(range(13)), [7] * 5 + [3] * 4 + [9] * 3 + [5])
    assert images.pids[least_repeated(images)].tolist() == [7, 3]
    assert images.pids[least_repeated(images, 2)].tolist() == [7, 7]
    assert not least_repeated(images, 3).any()
    with pytest.raises(InputError, match="0 or more"):
        least_repeated(images, -1)
