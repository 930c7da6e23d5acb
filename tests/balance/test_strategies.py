"""The strategies of the balancing experiment differ in what they add, and in nothing else."""

import pandas as pd
import pytest
import torch

from ddid.balance.strategies import STRATEGIES, augment, strategy_manifest
from ddid.data.images import load_images
from ddid.data.manifest import check_manifest
from ddid.errors import InputError


@pytest.fixture
def drafts(plan):
    """The plan's first attempt, of which one was kept at once and one at the second attempt."""
    first = plan.assign(attempt=0, verdict=["kept", "identity", "camera", "copy", "identity"])
    second = plan.iloc[[1]].assign(name="b_r1", attempt=1, verdict="kept")
    both = pd.concat([first, second], ignore_index=True)
    return both.assign(
        path="/synthetic/" + both["name"] + ".png", split="train", origin="synthetic"
    )


def added(name, manifest, drafts, folder):
    whole = check_manifest(strategy_manifest(name, manifest, drafts, folder))
    assert whole["path"].tolist()[: len(manifest)] == manifest["path"].tolist()
    return whole.iloc[len(manifest) :]


@pytest.mark.parametrize(
    ("name", "count"), zip(STRATEGIES, (0, 5, 5, 5, 2), strict=True), ids=STRATEGIES
)
def test_each_strategy_fills_the_plan(name, count, manifest, drafts, tmp_path):
    new = added(name, manifest, drafts, tmp_path)
    assert len(new) == count
    if count == 5:
        assert new["pid"].tolist() == drafts["pid"].tolist()[:5]
        assert new["camid"].tolist() == drafts["camid"].tolist()[:5]


def test_copies_show_the_identity_and_its_camera(real, manifest, drafts, tmp_path):
    repeats = added("repeat", manifest, drafts, tmp_path)
    for row, image in zip(
        repeats.itertuples(), load_images(repeats["path"].tolist(), (16, 8)), strict=True
    ):
        source = next(i for i, other in enumerate(real.images) if torch.equal(image, other))
        assert (real.pids[source], real.camids[source]) == (row.pid, row.camid)


def test_classical_images_are_changed_but_alike(manifest, drafts, tmp_path):
    repeats = added("repeat", manifest, drafts, tmp_path / "a")
    changed = added("classical", manifest, drafts, tmp_path / "b")
    one, other = (load_images(f["path"].tolist(), (16, 8)).float() for f in (repeats, changed))
    assert (one != other).flatten(1).any(1).all()
    assert (one.mean((2, 3)) - other.mean((2, 3))).abs().max() < 60


def test_augmentation_is_its_seeds(real):
    image = real.images[0] / 255
    assert torch.equal(augment(image, 3), augment(image, 3))
    assert not torch.equal(augment(image, 3), augment(image, 4))
    assert augment(image, 3).min() >= 0
    assert augment(image, 3).max() <= 1


def test_an_unknown_strategy_is_refused(manifest, drafts, tmp_path):
    with pytest.raises(InputError, match="gated"):
        strategy_manifest("more", manifest, drafts, tmp_path)
