import pytest
import torch

from ddid.attack.objectives import find_guides, guides_within
from ddid.errors import InputError
from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded


def referred(features, pids):
    """Reference images; guides do not look at cameras."""
    return Embedded(features, pids, torch.zeros_like(pids))


def among(features, pids):
    """Guides of images among themselves."""
    return find_guides(features, pids, referred(features, pids))


def test_guides_equal_their_loop_written_twin():
    generator = torch.Generator().manual_seed(0)
    features, pids = torch.randn(40, 5, generator=generator), torch.arange(40) % 7 * 10
    features = normalize(features)
    guides = among(features, pids)
    for row, pid in enumerate(pids.tolist()):
        means = {p: features[pids == p].mean(0) for p in set(pids.tolist())}
        others = {p: float((features[row] - mean).norm()) for p, mean in means.items() if p != pid}
        torch.testing.assert_close(guides.same[row], means[pid])
        assert int(guides.far_pid[row]) == max(others, key=others.__getitem__)
        torch.testing.assert_close(guides.far[row], means[int(guides.far_pid[row])])


def test_cosine_guides_ignore_the_length_of_features():
    features, pids = torch.randn(12, 6), torch.arange(12) % 3
    plain, scaled = (among(x, pids) for x in (features, features * torch.rand(12, 1)))
    torch.testing.assert_close(plain.centroids, scaled.centroids)
    torch.testing.assert_close(plain.own, normalize(features))


def test_a_training_batch_guides_itself_as_references_would():
    features, pids = torch.randn(14, 6), torch.tensor([3, 3, 1, 1, 1, 8, 8] * 2)
    inner, outer = guides_within(features, pids), among(features, pids)
    for part in ("own", "same", "far", "far_pid"):
        torch.testing.assert_close(getattr(inner, part), getattr(outer, part))
    assert torch.equal(inner.counts[inner.identity], outer.counts[outer.identity])
    assert bool((inner.is_own == (pids[:, None] == pids)).all())


def test_guides_from_another_set_leave_the_own_feature_out():
    attacked, reference = torch.randn(4, 6), torch.randn(9, 6)
    pids = torch.tensor([1, 1, 2, 2])
    guides = find_guides(attacked, pids, referred(reference, torch.arange(9) % 3))
    torch.testing.assert_close(guides.same[0], normalize(reference)[1::3].mean(0))
    assert guides.counts.tolist() == [3, 3, 3]


def test_an_identity_without_guides_is_named():
    with pytest.raises(InputError, match="identity 8 has no guide"):
        find_guides(
            torch.randn(2, 6), torch.tensor([1, 8]), referred(torch.randn(4, 6), torch.arange(4))
        )


def test_one_identity_is_not_enough():
    with pytest.raises(InputError, match="two identities"):
        among(torch.randn(3, 6), torch.ones(3, dtype=torch.long))
