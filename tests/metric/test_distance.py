import pytest
import torch

from ddid.metric.distance import normalize


def test_products_of_normalised_rows_are_cosines():
    query, gallery = torch.randn(4, 5), torch.randn(6, 5)
    found = normalize(query) @ normalize(gallery).T
    for row, q in enumerate(query):
        for column, g in enumerate(gallery):
            cosine = float(q @ g) / float(q.norm() * g.norm())
            assert float(found[row, column]) == pytest.approx(cosine, abs=1e-5)


def test_a_zero_embedding_stays_zero():
    assert torch.equal(normalize(torch.zeros(1, 3)), torch.zeros(1, 3))
