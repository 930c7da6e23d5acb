from types import SimpleNamespace

import pytest
import torch

from ddid.errors import InputError
from ddid.metric import counting, ranking
from ddid.metric.counting import count_at_least, count_by_column
from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded, Ranking, answerable, is_match, rank

PROBLEMS = 200


def problem(seed: int) -> tuple[Embedded, Embedded]:
    """A random retrieval problem whose scores are exact in float32, with many ties.

    Rows of +-1 in 16 dimensions: length exactly 4, cosines multiples of 1/8. With distractors (0),
    unknown cameras (-1) and queries that match nothing.
    """
    generator = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, generator=generator)

    def side(size: int, first_pid: int) -> Embedded:
        embeddings = 2.0 * integers(0, 2, size, 16) - 1
        camids = torch.full((size,), -1) if seed % 10 == 9 else integers(-1, 4, size)
        return Embedded(embeddings, integers(first_pid, 8, size), camids)

    query, gallery = side(int(integers(3, 9)), 1), side(int(integers(30, 60)), 0)
    query.pids[0], gallery.pids[0], gallery.embeddings[0] = 1, 1, query.embeddings[0]
    query.camids[0] = -1
    query.pids[-1] = 99
    return query, gallery


def test_where_nothing_may_be_written_counting_is_compiled_all_the_same(monkeypatch):
    def njit(*, cache=False, **options):
        if cache:
            raise RuntimeError("no locator available")
        return lambda function: (options, function)

    monkeypatch.setattr(counting.numba, "njit", njit)
    assert counting._compiled(len) == ({"nogil": True}, len)


def unseen_by_cameras(embeddings: torch.Tensor, pids: torch.Tensor) -> Embedded:
    return Embedded(embeddings, pids, torch.full_like(pids, -1))


def twin(distances: list[float], query: tuple[int, int], gallery: list[tuple[int, int]]):
    """The protocol for one query, as plainly as it can be written: (ap, inp, first rank)."""
    answers = []
    for distance, (pid, camid) in zip(distances, gallery, strict=True):
        right, same_camera = pid == query[0], camid == query[1] >= 0
        if not (right and same_camera):
            answers.append((round(distance, 4), right))
    answers.sort()  # False sorts before True: a tied wrong answer comes first
    places = [place for place, (_, right) in enumerate(answers, 1) if right]
    if not places:
        return 0.0, 0.0, 0
    precisions = [hit / place for hit, place in enumerate(places, 1)]
    return sum(precisions) / len(places), len(places) / places[-1], places[0]


def labels(side: Embedded) -> list[tuple[int, int]]:
    return list(zip(side.pids.tolist(), side.camids.tolist(), strict=True))


def test_equals_the_loop_written_twin_on_random_problems(monkeypatch):
    for seed in range(PROBLEMS):
        query, gallery = problem(seed)
        monkeypatch.setattr(ranking, "CHUNK", 60 + seed)
        found = rank(query, gallery)
        distances = (1 - normalize(query.embeddings) @ normalize(gallery.embeddings).T).tolist()
        for row, ours in enumerate(labels(query)):
            ap, inp, first = twin(distances[row], ours, labels(gallery))
            assert bool(found.valid[row]) == (first > 0)
            assert float(found.ap[row]) == pytest.approx(ap, abs=1e-12)
            assert float(found.inp[row]) == pytest.approx(inp, abs=1e-12)
            assert int(found.first_rank[row]) == first


def test_the_chunk_changes_nothing(monkeypatch):
    query, gallery = problem(3)
    whole = rank(query, gallery)
    monkeypatch.setattr(ranking, "CHUNK", 1)
    single = rank(query, gallery)
    for name in vars(whole):
        assert torch.equal(getattr(whole, name), getattr(single, name))


def test_an_identity_with_every_image_does_not_fill_the_memory(monkeypatch):
    """Tables hold the right answers of one chunk of queries, not of all."""
    largest = 0
    original = ranking.right_answers

    def watched(*args):
        nonlocal largest
        found, right = original(*args)
        largest = max(largest, found.numel())
        return found, right

    monkeypatch.setattr(ranking, "right_answers", watched)
    ones = torch.ones(200, dtype=torch.int64)
    side = unseen_by_cameras(torch.randn(200, 4), ones)
    monkeypatch.setattr(ranking, "CHUNK", 1000)
    rank(side, side)
    assert largest == 1000


def test_the_compiled_count_equals_the_plain_one():
    scores = torch.randn(5, 9000).round(decimals=1)
    thresholds = torch.tensor([[0.5, 0.1, -0.3, -torch.inf]]).repeat(5, 1)
    wanted = (scores[:, None] >= thresholds[:, :, None]).sum(2)
    wanted[:, 3] = 0
    assert torch.equal(count_at_least(scores, thresholds), wanted)
    assert torch.equal(count_by_column(scores, thresholds), wanted)
    assert count_by_column(scores, thresholds[:, :0]).shape == (5, 0)


def test_a_model_that_sees_one_point_gets_the_worst_of_all_orders():
    pids = torch.arange(1, 11)
    ones = torch.ones(10, 4)
    side = unseen_by_cameras(ones, pids)
    found = rank(side, side)
    assert found.summary() == {"mAP": 10, "rank1": 0, "rank5": 0, "rank10": 100, "mINP": 10}


def test_perfect_embeddings_score_a_hundred_and_spread_nothing():
    pids = torch.arange(20) % 5 + 1
    side = unseen_by_cameras(torch.eye(6)[pids], pids)
    found = rank(side, side)
    assert set(found.summary().values()) == {100.0}
    assert found.spread() == {"std": 0.0, "worst_decile": 100.0, "rank1_std": 0.0}


def test_distractors_only_push_down_and_junk_does_nothing():
    query, gallery = problem(4)
    plain = rank(query, gallery)
    many = Embedded(
        torch.cat([gallery.embeddings, gallery.embeddings]),
        torch.cat([gallery.pids, torch.zeros_like(gallery.pids)]),
        torch.cat([gallery.camids, gallery.camids]),
    )
    assert bool((rank(query, many).ap <= plain.ap).all())
    junk = (gallery.pids == query.pids[1]) & (gallery.camids == query.camids[1])
    assert junk.any()
    assert plain.valid[1]
    without = rank(query, gallery[~junk])
    assert float(without.ap[1]) == pytest.approx(float(plain.ap[1]), abs=1e-12)
    cut_badly = Embedded(many.embeddings, many.pids.where(many.pids > 0, -1), many.camids)
    known = gallery[gallery.pids > 0]
    assert torch.equal(rank(query, cut_badly).ap, rank(query, known).ap)


def test_a_distractor_among_the_queries_is_left_out():
    query, gallery = problem(5)
    query.pids[0] = 0
    assert int(gallery.pids.min()) == 0
    assert not bool(rank(query, gallery).valid[0])


@pytest.mark.parametrize(
    ("query", "gallery", "matches"),
    [
        ((5, 1), (5, 2), True),
        ((5, 1), (5, 1), False),
        ((5, -1), (5, -1), True),
        ((5, 1), (5, -1), True),
        ((5, 1), (6, 2), False),
        ((0, 1), (0, 2), False),
    ],
)
def test_a_match_is_the_same_person_from_another_camera(query, gallery, matches):
    own, there = torch.tensor([query]), torch.tensor([gallery, (7, 1)])
    sides = [SimpleNamespace(pids=s[:, 0], camids=s[:, 1]) for s in (own, there)]
    assert answerable(*sides).tolist() == [matches]


def test_who_can_be_answered_is_counted_as_is_match_says():
    for seed in range(50):
        source = torch.Generator().manual_seed(seed)
        sides = torch.randint(-1, 5, (2, 12, 2), generator=source)
        query, gallery = (SimpleNamespace(pids=s[:, 0], camids=s[:, 1]) for s in sides)
        expected = [
            any(is_match(*found, *asked) for found in sides[1].unbind()) for asked in sides[0]
        ]
        assert answerable(query, gallery).tolist() == expected


@pytest.mark.parametrize(("queries", "length"), [(1, 256), (3, 256), (1, 2048)])
def test_one_point_for_all_is_the_worst_model_whatever_the_product_rounds(queries, length):
    for seed in range(5):
        point = torch.randn(1, length, generator=torch.Generator().manual_seed(seed))
        pids = torch.full((1003,), 2)
        pids[-1] = 1
        asked = unseen_by_cameras(point.expand(queries, -1), torch.ones(queries).long())
        found = rank(asked, unseen_by_cameras(point.expand(1003, -1), pids))
        assert found.first_rank.tolist() == [1003] * queries


def test_spread_is_over_identities_not_queries():
    found = Ranking(
        ap=torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0], dtype=torch.float64),
        inp=torch.zeros(5),
        first_rank=torch.tensor([1, 1, 2, 3, 0]),
        valid=torch.tensor([True, True, True, True, False]),
        pids=torch.tensor([1, 1, 1, 2, 3]),
    )
    assert found.per_identity() == {1: 100.0, 2: 50.0}
    assert found.per_identity(rank1=True) == pytest.approx({1: 200 / 3, 2: 0.0})
    assert found.spread() == pytest.approx(
        {"std": 25.0, "worst_decile": 50.0, "rank1_std": 100 / 3}
    )


GOOD = {
    "embeddings": torch.randn(4, 3),
    "pids": torch.arange(1, 5),
    "camids": torch.full((4,), -1),
}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"embeddings": torch.full((4, 3), torch.nan)}, "NaN"),
        ({"embeddings": torch.randn(4, 3, 2)}, r"\(N, D\)"),
        ({"embeddings": torch.randn(5, 3)}, "one whole number each"),
        ({"camids": torch.zeros(2)}, "camids"),
        ({"embeddings": torch.randn(4, 7)}, "one model"),
        ({name: value[:0] for name, value in GOOD.items()}, "0 queries against 4"),
        ({"pids": torch.full((4,), 77)}, "no query has a right answer"),
    ],
)
def test_bad_input_is_one_sentence(change, sentence):
    with pytest.raises(InputError, match=sentence):
        rank(Embedded(**(GOOD | change)), Embedded(**GOOD))
