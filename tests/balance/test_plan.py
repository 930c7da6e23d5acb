"""The plan's two rules, its seeds, and its edges."""

import pandas as pd
import pytest

from ddid.balance.bias import gini, identity_bias
from ddid.balance.plan import (
    COLUMNS,
    FEW_IMAGES,
    ONE_CAMERA,
    Thresholds,
    cost,
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


def test_first_rule_fills_up_to_delta1_with_the_rarest_cameras():
    plan, cells = added(CELLS, 4, 1.0)
    assert cells == {(1, 1): 1, (1, 2): 1, (1, 3): 1}
    assert set(plan["reason"]) == {FEW_IMAGES}
    assert len(plan) == 3
    assert list(plan.columns) == COLUMNS


def test_second_rule_brings_the_dominant_share_to_delta2():
    plan, cells = added(CELLS, 0, 0.5)
    assert set(plan["reason"]) == {ONE_CAMERA}
    for pid in (1, 2, 3):
        total = {c: CELLS.get((pid, c), 0) + cells.get((pid, c), 0) for c in (1, 2, 3)}
        assert max(total.values()) / sum(total.values()) <= 0.5
    assert all((pid, 1) not in cells for pid in (1, 2, 3))
    assert cells == {(1, 2): 1, (1, 3): 1, (2, 2): 3, (2, 3): 4}


def test_both_rules_lower_both_biases():
    before = manifest(CELLS)
    plan = resampling_plan(before, Thresholds(9, 0.5))
    after = pd.concat([before, plan.assign(path=plan["name"], split="train", origin="synthetic")])
    old, new = identity_bias(before), identity_bias(after)
    assert gini(new["images"]) < gini(old["images"])
    assert (new["dominance"] <= 0.5).all()
    assert new["images"].min() >= 9


def test_a_second_strong_camera_does_not_become_the_dominant_one():
    cells = {(1, 1): 10, (1, 2): 9, (1, 3): 0 + 1, (2, 1): 1, (2, 2): 1, (2, 3): 1}
    _, new = added(cells, 0, 0.4)
    totals = [cells[1, c] + new.get((1, c), 0) for c in (1, 2, 3)]
    assert max(totals) / sum(totals) <= 0.4
    assert (1, 2) in new


def test_thresholds_that_ask_for_nothing_are_refused():
    with pytest.raises(InputError, match="ask for no image"):
        added(CELLS, 0, 1.0)


def test_a_share_below_that_of_equal_cameras_is_refused():
    with pytest.raises(InputError, match=r"at least 0\.33"):
        added(CELLS, 4, 0.3)


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


def test_cost_adds_training_and_images():
    plan, _ = added(CELLS, 9, 1.0)
    found = cost(plan, training_seconds=60, seconds_per_image=6)
    assert found == {"images": len(plan), "identities": 1, "minutes": 1 + len(plan) / 10}


def test_images_of_unnamed_cameras_count_as_images():
    plan = resampling_plan(
        manifest({(1, -1): 4, (1, 1): 1, (1, 2): 1, (2, 1): 2, (2, 2): 2}), Thresholds(6, 1.0)
    )
    assert set(plan["pid"]) == {2}
    assert len(plan) == 2
