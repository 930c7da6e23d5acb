"""The quality report's measures: known answers and the direction they must move in."""

import pytest
import torch

from ddid.balance import quality
from ddid.balance.judge import train_judge
from ddid.balance.quality import (
    copy_test,
    covered,
    frechet_distance,
    quality_report,
)
from ddid.data.images import ImageSet
from ddid.errors import InputError

cdist = torch.cdist


def cloud(mean, scale, count=20_000, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return mean + scale * torch.randn(count, 3, generator=draw, dtype=torch.float64)


def test_frechet_distance_of_known_gaussians():
    one, other = cloud(0.0, 1.0), cloud(2.0, 3.0, seed=1)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(one, other) == pytest.approx(3 * (2**2 + (3 - 1) ** 2), rel=0.03)
    assert frechet_distance(one, other) == pytest.approx(frechet_distance(other, one))


def test_frechet_distance_bears_fewer_images_than_features():
    draw = torch.Generator().manual_seed(0)
    one, other = torch.randn(5, 40, generator=draw), torch.randn(4, 40, generator=draw)
    assert frechet_distance(one, other) > 0
    with pytest.raises(InputError, match="two images"):
        frechet_distance(one[:1], other)


@pytest.fixture(scope="module")
def judge(real, tmp_path_factory):
    return train_judge(real, tmp_path_factory.mktemp("judge"), epochs=20)


def test_good_images_score_better_than_noise(judge, real):
    alike = ImageSet(real.images.flip(-1), real.pids, real.camids, real.paths)
    noise = torch.randint(0, 256, real.images.shape, dtype=torch.uint8)
    good = quality_report(real, alike, judge)
    bad = quality_report(real, ImageSet(noise, real.pids, real.camids, real.paths), judge)
    assert good["identity_agreement"] == good["camera_agreement"] == 1
    assert bad["identity_agreement"] < 0.7
    assert good["frechet_synthetic"] < bad["frechet_synthetic"]
    assert good["precision_synthetic"] > bad["precision_synthetic"]
    assert good["identity_agreement_unseen"] is None


def test_unseen_pairs_are_counted_apart(judge, real):
    seen = real.take((real.pids != 3) | (real.camids != 2))
    new = real.take((real.pids == 3) | (real.pids == 7))
    report = quality_report(seen, new, judge)
    assert report["identity_agreement_unseen"] == 1
    wrong = ImageSet(new.images, new.pids, 3 - new.camids, new.paths)
    assert quality_report(seen, wrong, judge)["camera_agreement_unseen"] == 0


def test_what_no_judge_can_be_asked_is_no_agreement(real, tmp_path):
    alone = real.take(real.camids == 1)
    report = quality_report(alone, alone, train_judge(alone, tmp_path, epochs=1))
    assert report["camera_agreement"] is None
    assert report["camera_agreement_real"] is None
    assert report["camera_agreement_unseen"] is None
    assert report["identity_agreement"] is not None


def test_precision_and_recall_equal_their_loop():
    draw = torch.Generator().manual_seed(0)
    real, made = torch.randn(12, 2, generator=draw), 2 * torch.randn(9, 2, generator=draw)
    for points, by in ((made, real), (real, made)):
        hits = 0
        for point in points:
            radii = [sorted((b - other).norm() for other in by)[3] for b in by]
            near = [(point - b).norm() <= r for b, r in zip(by, radii, strict=True)]
            hits += any(near)
        assert covered(points, by) == pytest.approx(hits / len(points))


def test_a_part_of_many_images_says_nearly_the_same(monkeypatch):
    many, made = cloud(0.0, 1.0, 1500), cloud(0.5, 1.0, 1500, seed=1)
    whole = covered(made, many)
    monkeypatch.setattr(quality, "MOST", 400)
    asked = []
    monkeypatch.setattr(torch, "cdist", lambda a, b: asked.append(len(b)) or cdist(a, b))
    assert covered(made, many) == pytest.approx(whole, abs=0.1)
    assert max(asked) == 400
    noise = torch.randint(0, 256, (900, 3, 16, 8), dtype=torch.uint8)
    real = ImageSet(noise, torch.arange(900), torch.zeros(900, dtype=torch.int64), ("",) * 900)
    assert copy_test(real, real.take(torch.arange(9)))["copies"] == 1


def test_copies_are_nearer_than_photographs(real):
    assert copy_test(real, real) == {"copies": 1, "copies_person": 1}
    far = ImageSet(255 - real.images, real.pids, real.camids, real.paths)
    assert copy_test(real, far) == {"copies": 0, "copies_person": 0}
