import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from ddid.attack.budget import Budget
from ddid.errors import InputError
from ddid.report.embedding import UnderAttack, project
from ddid.report.robustness import Plan
from ddid.report.subject import Subject
from tests.cells import code_cells


@pytest.fixture(scope="module")
def first_map(under):
    """The process's first map, and torch's threads before and after: numba starts its own once."""
    before = torch.get_num_threads()
    projection = project(under, seed=1)
    return projection, before, torch.get_num_threads()


@pytest.fixture(scope="module")
def under(subject):
    return UnderAttack.of(subject, "fna", Plan(budget=Budget(steps=5)))


def test_an_attack_moves_queries_away_from_their_identity_and_nothing_else(under, subject):
    found, guides = under.similarities(), under.guides
    assert found["own, attacked"].mean() < found["own, clean"].mean()
    clean, attacked = under.clean.embeddings, under.attacked.embeddings
    for state, query in (("clean", clean), ("attacked", attacked)):
        for row in range(len(query)):
            near = {
                int(pid): float(query[row] @ mean / query[row].norm() / mean.norm())
                for pid, mean in zip(guides.pids, guides.centroids, strict=True)
            }
            own = int(subject.query.pids[row])
            others = clean[subject.query.pids == own].sum(0) - clean[row]
            expected = {"own": float(query[row] @ others / query[row].norm() / others.norm())}
            del near[own]
            far = int(guides.far_pid[row])
            expected |= {"nearest other": max(near.values()), "farthest": near[far]}
            for name, value in expected.items():
                assert found[f"{name}, {state}"][row] == pytest.approx(value, abs=1e-5)
    assert torch.equal(under.gallery.embeddings, subject.gallery.embeddings)


def test_a_set_with_one_query_of_each_person_passes_the_notebooks_check_and_is_recorded():
    nothing = pd.DataFrame({"own, clean": [np.nan], "own, attacked": np.nan, "mAP": 1.0}, ["ddid"])
    cells = [source for source, _ in code_cells("05_embedding_visualization")]
    (check,) = [line for cell in cells for line in cell.splitlines() if "nothing away" in line]
    exec(check, {"table": nothing, "own": nothing["own, clean"]})
    (kept,) = [line for cell in cells for line in cell.splitlines() if "embeddings=table" in line]
    record = eval(kept.strip().removeprefix("embeddings=").removesuffix(","), {"table": nothing})
    told = {"own, clean": None, "own, attacked": None, "mAP": 1.0}
    assert json.loads(json.dumps(record, allow_nan=False)) == {"ddid": told}
    worse = pd.DataFrame({"own, clean": [0.5], "own, attacked": 0.6}, ["ddid"])
    with pytest.raises(AssertionError, match="nothing away"):
        exec(check, {"table": worse, "own": worse["own, clean"]})


def test_who_has_one_query_has_no_other_to_be_near_to(net, query, gallery):
    alone = query.take(torch.arange(len(query)) > 0)  # the first person keeps one query
    found = UnderAttack.of(Subject.of(net, alone, gallery), "fna", Plan(budget=Budget(steps=2)))
    missing = found.similarities()[["own, clean", "own, attacked"]].isna()
    alone = (alone.pids == query.pids[0]).numpy()
    assert missing[alone].all(axis=None)
    assert not missing[~alone].any(axis=None)


def test_a_query_moves_alike_whoever_else_is_attacked(under, subject):
    few = UnderAttack.of(subject.some(3), "fna", Plan(budget=Budget(steps=5)))
    rows = subject.some(3).rows
    assert torch.equal(few.images, under.images[rows])
    assert torch.allclose(few.guides.far, under.guides.far[rows])


def test_an_empty_budget_moves_nothing(subject):
    under = UnderAttack.of(subject, "fna", Plan(budget=Budget(eps=0, steps=2)))
    assert torch.equal(under.images, subject.query_images)
    assert torch.equal(under.clean.embeddings, under.attacked.embeddings)


@pytest.mark.slow  # UMAP compiles
def test_attacked_queries_do_not_redraw_the_map(under, first_map):
    moved = first_map[0]
    as_clean = project(replace(under, attacked=under.clean), seed=1)
    assert np.array_equal(as_clean.gallery, moved.gallery)
    assert np.array_equal(as_clean.clean, moved.clean)
    assert not np.array_equal(as_clean.attacked, moved.attacked)
    assert moved.attacked.shape == (len(under.images), 2)
    assert moved.rows.tolist() == list(range(len(under.gallery.pids)))


@pytest.mark.slow  # UMAP compiles
def test_an_unmoved_query_lands_near_its_place(under):
    shown = project(replace(under, attacked=under.clean), seed=0)
    spread = np.linalg.norm(shown.clean - shown.clean.mean(0), axis=1).mean()
    assert np.median(np.linalg.norm(shown.attacked - shown.clean, axis=1)) < spread


@pytest.mark.slow  # UMAP compiles
def test_a_map_leaves_torch_its_threads(first_map):
    assert first_map[1] == first_map[2]


def test_too_few_images_for_a_map_are_one_sentence(under):
    one = under.clean[:1]
    with pytest.raises(InputError, match="at least 4"):
        project(replace(under, clean=one, attacked=one, gallery=one), seed=0)
