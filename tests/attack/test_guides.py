import pytest
import torch

from ddid.attack.guides import find_guides
from ddid.errors import InputError
from ddid.metric.distance import normalize


def test_guides_equal_their_loop_written_twin():
    generator = torch.Generator().manual_seed(0)
    features, pids = torch.randn(40, 5, generator=generator), torch.arange(40) % 7 * 10
    guides = find_guides(features, pids, metric="euclidean")
    for row, pid in enumerate(pids.tolist()):
        means = {p: features[pids == p].mean(0) for p in set(pids.tolist())}
        others = {p: float((features[row] - mean).norm()) for p, mean in means.items() if p != pid}
        torch.testing.assert_close(guides.same[row], means[pid])
        assert int(guides.far_pid[row]) == max(others, key=others.__getitem__)
        torch.testing.assert_close(guides.far[row], means[int(guides.far_pid[row])])


def test_cosine_guides_ignore_the_length_of_features():
    features, pids = torch.randn(12, 6), torch.arange(12) % 3
    plain, scaled = (find_guides(x, pids) for x in (features, features * torch.rand(12, 1)))
    torch.testing.assert_close(plain.centroids, scaled.centroids)
    torch.testing.assert_close(plain.own, normalize(features))


def test_a_batch_of_guides_is_the_guides_of_the_batch():
    guides = find_guides(torch.randn(12, 6), torch.arange(12) % 3)
    index = torch.tensor([7, 2])
    assert len(guides[index]) == 2
    torch.testing.assert_close(guides[index].far, guides.far[index])
    torch.testing.assert_close(guides[3:5].same, guides.same[3:5])


def test_guides_from_another_set_leave_the_own_feature_out():
    attacked, reference = torch.randn(4, 6), torch.randn(9, 6)
    guides = find_guides(attacked, torch.tensor([1, 1, 2, 2]), reference, torch.arange(9) % 3)
    torch.testing.assert_close(guides.same[0], normalize(reference)[1::3].mean(0))
    assert guides.counts.tolist() == [3, 3, 3]


def test_an_identity_without_guides_is_named():
    with pytest.raises(InputError, match="identity 8 has no guide"):
        find_guides(torch.randn(2, 6), torch.tensor([1, 8]), torch.randn(4, 6), torch.arange(4))


def test_one_identity_is_not_enough():
    with pytest.raises(InputError, match="two identities"):
        find_guides(torch.randn(3, 6), torch.ones(3))


@pytest.mark.parametrize("bad", [torch.full((3, 6), torch.nan), torch.randn(3, 6, 1)])
def test_bad_embeddings_are_refused(bad):
    with pytest.raises(InputError, match="attacked embeddings"):
        find_guides(bad, torch.arange(3))
