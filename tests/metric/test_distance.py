import pytest
import torch

from ddid.errors import InputError
from ddid.metric.distance import normalize, pairwise


def test_distances_equal_their_loop_written_twins():
    query, gallery = torch.randn(4, 5), torch.randn(6, 5)
    for row in range(4):
        for column in range(6):
            q, g = query[row], gallery[column]
            cosine = 1 - float(q @ g) / float(q.norm() * g.norm())
            assert float(pairwise(query, gallery)[row, column]) == pytest.approx(cosine, abs=1e-5)
            euclidean = float((q - g).square().sum().sqrt())
            found = float(pairwise(query, gallery, "euclidean")[row, column])
            assert found == pytest.approx(euclidean, abs=1e-5)


def test_a_zero_embedding_is_at_cosine_distance_one_from_everything():
    assert torch.equal(normalize(torch.zeros(1, 3)), torch.zeros(1, 3))
    assert torch.equal(pairwise(torch.zeros(1, 3), torch.randn(4, 3)), torch.ones(1, 4))


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="manhattan"):
        pairwise(torch.randn(2, 3), torch.randn(2, 3), "manhattan")
