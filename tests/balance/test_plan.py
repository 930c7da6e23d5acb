"""The plan's two rules, its seeds, and its edges."""

import numpy as np
import pandas as pd
import pytest

from ddid.balance.bias import identity_bias, summarise
from ddid.balance.plan import (
    COLUMNS,
    FEW_IMAGES,
    ONE_CAMERA,
    Thresholds,
    resampling_plan,
)
from ddid.errors import InputError


def manifest(cells):
    """Real train rows from {(pid, camid): images}."""
    rows = [(p, c) for (p, c), n in cells.items() for _ in range(n)]
    frame = pd.DataFrame(rows, columns=["pid", "camid"])
    paths = [f"{i}.jpg" for i in range(len(frame))]
    return frame.assign(path=paths, split="train", origin="real")


CELLS = {(1, 1): 1, (2, 1): 8, (2, 2): 1, (3, 1): 3, (3, 2): 3, (3, 3): 3}


def added(cells, delta1, delta2):
    plan = resampling_plan(manifest(cells), Thresholds(delta1, delta2))
    return plan, plan.groupby(["pid", "camid"]).size().to_dict()


@pytest.mark.parametrize(("pid", "seed"), [(-1, 0), (1, -1)])
def test_people_and_seeds_below_zero_are_one_sentence(pid, seed):
    with pytest.raises(InputError, match="needs a seed and people of 0 or more"):
        resampling_plan(manifest({(pid, 1): 2, (7, 2): 2}), Thresholds(4, 1.0), seed)


def test_first_rule_fills_up_to_delta1_with_the_rarest_cameras():
    plan, cells = added(CELLS, 4, 1.0)
    assert cells == {(1, 1): 1, (1, 2): 1, (1, 3): 1}
    assert set(plan["reason"]) == {FEW_IMAGES}
    assert len(plan) == 3
    assert list(plan.columns) == COLUMNS


def test_second_rule_gives_one_image_to_every_other_camera():
    plan, cells = added(CELLS, 0, 0.5)
    assert set(plan["reason"]) == {ONE_CAMERA}
    assert cells == {(1, 2): 1, (1, 3): 1, (2, 2): 1, (2, 3): 1}


def test_a_share_of_delta2_itself_is_not_above_it():
    assert added({(1, 1): 29, (1, 2): 21}, 0, 0.58)[0].empty, "0.58 * 50 is below 29 in floats"
    assert len(added({(1, 1): 30, (1, 2): 20}, 0, 0.58)[0]) == 1


def test_both_rules_look_at_the_real_counts():
    """What the first rule fills neither makes nor unmakes a dominant camera."""
    cells = {(1, 1): 4, (1, 2): 1, (2, 1): 2, (2, 2): 2}
    plan, new = added(cells, 9, 0.5)
    assert new == {(1, 1): 1, (1, 2): 3 + 1, (2, 1): 3, (2, 2): 2}
    assert plan.groupby("reason").size().to_dict() == {FEW_IMAGES: 9, ONE_CAMERA: 1}


def test_a_share_of_exactly_delta2_does_not_dominate():
    _, cells = added({(1, 1): 2, (1, 2): 2, (2, 1): 3, (2, 2): 1}, 0, 0.5)
    assert cells == {(2, 2): 1}


def test_the_plan_equals_its_loop():
    """The rules as the paper writes them, counted by hand for random manifests."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        cells = {(p, c): int(rng.integers(0, 6)) for p in range(1, 5) for c in (1, 2, 3)}
        cells = {key: n for key, n in cells.items() if n} | {(9, 1): 1, (9, 2): 1, (9, 3): 1}
        delta1, delta2 = int(rng.integers(0, 12)), float(rng.choice([0.4, 0.5, 0.8]))
        _, new = added(cells, delta1, delta2)
        for pid in {p for p, _ in cells}:
            own = {c: cells.get((pid, c), 0) for c in (1, 2, 3)}
            wanted = max(0, delta1 - sum(own.values()))
            wanted += 2 * (max(own.values()) / sum(own.values()) > delta2)
            assert sum(new.get((pid, c), 0) for c in (1, 2, 3)) == wanted


def test_both_rules_lower_both_biases():
    before = manifest(CELLS)
    plan = resampling_plan(before, Thresholds(9, 0.5))
    after = pd.concat([before, plan.assign(split="train", origin="synthetic")])
    was, becomes = (summarise(identity_bias(frame)) for frame in (before, after))
    assert becomes["gini"] < was["gini"]
    assert becomes["camera_dominance"] < was["camera_dominance"]


def test_where_there_is_nothing_to_balance_the_plan_is_empty():
    even = manifest({(p, c): 8 for p in (1, 2) for c in (1, 2)})
    plan = resampling_plan(even, Thresholds(16, 0.5))
    assert plan.empty
    assert list(plan.columns) == COLUMNS


def test_one_camera_in_the_data_leaves_the_second_rule_nothing_to_do():
    _, cells = added({(1, 1): 2, (2, 1): 5}, 3, 0.5)
    assert cells == {(1, 1): 1}


def test_thresholds_that_ask_for_millions_are_refused():
    with pytest.raises(InputError, match="lower it"):
        added(CELLS, 10_000_000, 0.5)


@pytest.mark.parametrize(("delta1", "delta2"), [(-1, 0.5), (4, 0.0), (4, 1.5)])
def test_impossible_thresholds_are_refused(delta1, delta2):
    with pytest.raises(InputError, match="delta"):
        Thresholds(delta1, delta2)


def test_unknown_cameras_are_refused():
    with pytest.raises(InputError, match="name the cameras"):
        resampling_plan(manifest({(1, -1): 3}), Thresholds())


def test_seeds_are_unique_and_survive_other_thresholds():
    small, _ = added(CELLS, 5, 1.0)
    large, _ = added(CELLS, 30, 0.5)
    assert large["seed"].is_unique
    assert large["name"].is_unique
    shared = small.merge(large, on="name")
    assert len(shared) == len(small)
    assert (shared["seed_x"] == shared["seed_y"]).all()
    other = resampling_plan(manifest(CELLS), Thresholds(5, 1.0), seed=1)
    assert not set(other["seed"]) & set(small["seed"])


def test_synthetic_and_test_rows_are_not_counted():
    frame = manifest({(1, 1): 3, (1, 2): 3})
    frame.loc[0, "origin"] = "synthetic"
    frame.loc[1, "split"] = "gallery"
    assert len(resampling_plan(frame, Thresholds(6, 1.0))) == 2


def test_images_of_unnamed_cameras_count_as_images():
    plan = resampling_plan(
        manifest({(1, -1): 4, (1, 1): 1, (1, 2): 1, (2, 1): 2, (2, 2): 2}), Thresholds(6, 1.0)
    )
    assert set(plan["pid"]) == {2}
    assert len(plan) == 2
