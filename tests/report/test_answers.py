import torch

from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded, rank
from ddid.report.trace import answers_to


def crowd(count: int, seed: int) -> Embedded:
    generator = torch.Generator().manual_seed(seed)
    return Embedded(
        torch.randn(count, 8, generator=generator),
        torch.randint(1, 5, (count,), generator=generator),
        torch.randint(1, 3, (count,), generator=generator),
    )


def test_lists_agree_with_a_loop():
    query, gallery, k = crowd(6, 0), crowd(40, 1), 7
    distances = 1 - normalize(query.embeddings) @ normalize(gallery.embeddings).T
    for q in range(6):
        found = answers_to(query[q : q + 1], gallery, k)
        allowed = [
            g
            for g in range(40)
            if gallery.pids[g] != query.pids[q] or gallery.camids[g] != query.camids[q]
        ]
        nearest = sorted(allowed, key=lambda g: float(distances[q, g]))[:k]
        assert found["row"].tolist() == nearest
        assert found["right"].tolist() == [bool(gallery.pids[g] == query.pids[q]) for g in nearest]
        assert found["identity"].tolist() == gallery.pids[nearest].tolist()
        torch.testing.assert_close(
            torch.tensor(found["similarity"].to_numpy()), 1 - distances[q, nearest]
        )


def test_the_first_right_answer_is_where_the_metric_says():
    query, gallery = crowd(12, 2), crowd(60, 3)
    scored = rank(query, gallery)
    for q in range(12):
        found = answers_to(query[q : q + 1], gallery, 30)
        assert found[found["right"]]["rank"].iloc[0] == scored.first_rank[q]


def test_a_small_gallery_gives_short_lists_without_ignored_images():
    query = Embedded(torch.eye(2)[:1], torch.tensor([1]), torch.tensor([1]))
    gallery = Embedded(torch.eye(2).repeat(2, 1), torch.tensor([1, 1, 1, 2]), torch.ones(4).long())
    found = answers_to(query, gallery, 10)
    assert found["row"].tolist() == [3]
    assert found["right"].tolist() == [False]


def test_unknown_cameras_ignore_nothing():
    gallery = Embedded(torch.eye(3), torch.tensor([1, 1, 2]), torch.full((3,), -1))
    query = Embedded(torch.eye(3)[:1], torch.tensor([1]), torch.tensor([-1]))
    assert len(answers_to(query, gallery, 3)) == 3
