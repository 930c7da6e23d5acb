import sys

import pytest
import torch

from ddid.errors import InputError
from ddid.metric.approximate import rank_approximate, rank_found
from ddid.metric.ranking import Embedded, rank


def clusters(count: int, seed: int) -> Embedded:
    generator = torch.Generator().manual_seed(seed)
    pids = torch.randint(0, 20, (count,), generator=generator)
    centers = torch.randn(20, 16, generator=torch.Generator().manual_seed(9))
    embeddings = centers[pids] + torch.randn(count, 16, generator=generator)
    return Embedded(embeddings, pids, torch.randint(-1, 3, (count,), generator=generator))


def test_a_complete_search_scores_like_the_exact_ranking():
    query, gallery = clusters(40, 0), clusters(300, 1)
    order = torch.cdist(query.embeddings, gallery.embeddings).argsort(1)
    found, exact = rank_found(order, query, gallery), rank(query, gallery, metric="euclidean")
    for name in ("ap", "inp", "first_rank", "valid"):
        torch.testing.assert_close(getattr(found, name), getattr(exact, name))


def test_what_the_search_missed_comes_last():
    query, gallery = clusters(40, 0), clusters(300, 1)
    order = torch.cdist(query.embeddings, gallery.embeddings).argsort(1)
    whole = rank_found(order, query, gallery)
    order[:, 30:] = -1
    cut = rank_found(order, query, gallery)
    assert bool((cut.ap <= whole.ap).all())
    assert bool((cut.ap < whole.ap).any())


def test_faiss_comes_close_and_says_how_close():
    pytest.importorskip("faiss")
    query, gallery = clusters(50, 0), clusters(3000, 1)
    near = rank_approximate(query, gallery, probes=100)
    assert near.checked == 50
    exact = rank(query, gallery)
    error = 100 * (near.ranking.ap - exact.ap).abs()
    assert near.mean_error == pytest.approx(float(error.mean()))
    assert near.largest_error == pytest.approx(float(error.max()))
    assert near.mean_error < 1
    assert rank_approximate(query, gallery, probes=4).mean_error > near.mean_error


def test_without_faiss_one_sentence_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(InputError, match=r"pip install 'ddid\[faiss\]'"):
        rank_approximate(clusters(5, 0), clusters(50, 1))
