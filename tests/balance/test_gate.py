"""The gate keeps real-looking images of the right identity and camera, and says why not."""

import pandas as pd
import pytest
import torch

from ddid.balance import resampling
from ddid.balance.gate import (
    CAMERA,
    COPY,
    IDENTITY,
    KEPT,
    REASONS,
    STATISTICS,
    Gate,
    JudgeTraining,
    Limits,
    brightness_contrast,
    train_judge,
)
from ddid.balance.resampling import balanced_manifest, rejections, resample
from ddid.balance.synthesis import Sampling
from ddid.data.images import ImageSet
from ddid.data.manifest import check_manifest
from ddid.errors import InputError

TRAINING = JudgeTraining(steps=40, classes=3)


@pytest.fixture(scope="module")
def judge(real, tmp_path_factory):
    return train_judge(real, TRAINING, tmp_path_factory.mktemp("judge"))


@pytest.fixture(scope="module")
def fresh(real):
    """New images of the same kind: the real ones with their noise mirrored."""
    return ImageSet(real.images.flip(-1).flip(-2), real.pids, real.camids, real.paths)


def test_good_images_pass(judge, fresh):
    assert set(Gate(judge).verdicts(fresh)) == {KEPT}


def test_every_reason_is_found(judge, real, fresh):
    wrong = torch.where(fresh.pids == 3, 7, 3)
    other = 3 - fresh.camids
    gate = Gate(judge)
    assert set(gate.verdicts(real)) == {COPY}
    black = ImageSet(0 * fresh.images, fresh.pids, fresh.camids, fresh.paths)
    assert set(gate.verdicts(black)) == {STATISTICS}
    assert set(gate.verdicts(ImageSet(fresh.images, wrong, fresh.camids, ()))) == {IDENTITY}
    assert set(gate.verdicts(ImageSet(fresh.images, fresh.pids, other, ()))) == {CAMERA}


def test_limits_loosen_the_gate(judge, real, fresh):
    other = ImageSet(fresh.images, fresh.pids, 3 - fresh.camids, ())
    assert set(Gate(judge, Limits(camera_rank=0)).verdicts(other)) == {KEPT}
    assert set(Gate(judge, Limits(camera_rank=2)).verdicts(other)) == {KEPT}
    assert set(Gate(judge, Limits(copy=0.0)).verdicts(real)) == {KEPT}


def test_statistics_equal_their_loop(real):
    for image, found in zip(real.images, brightness_contrast(real.images), strict=True):
        pixels = image.double().flatten() / 255
        assert found[0].item() == pytest.approx(pixels.mean().item(), rel=1e-4)
        assert found[1].item() == pytest.approx(pixels.std().item(), rel=1e-4)


def test_a_trained_judge_is_taken_from_its_folder(real, tmp_path):
    short = JudgeTraining(steps=2, classes=3)
    first = train_judge(real, short, tmp_path)
    steps = []
    again = train_judge(real, short, tmp_path, lambda *_: steps.append(1))
    assert not steps
    assert torch.equal(first.identity.classifier.weight, again.identity.classifier.weight)
    with pytest.raises(InputError, match="steps"):
        train_judge(real, JudgeTraining(steps=3, classes=3), tmp_path)


def test_with_one_camera_there_is_none_to_mistake(real, tmp_path):
    alone = real.take(real.camids == 1)
    judge = train_judge(alone, JudgeTraining(steps=2, classes=3), tmp_path)
    assert judge.camera is None
    assert set(judge.agreement(alone)[1].tolist()) == {1}
    with pytest.raises(InputError, match="steps"):
        JudgeTraining(steps=0)


class Fickle(Gate):
    """Keeps what has been tried often enough: 'a' at once, 'b' at the third attempt, 'c' never."""

    def verdicts(self, images):
        names = [path.rsplit("/", 1)[-1].removesuffix(".png") for path in images.paths]
        good = {"a", "d", "e", "b_r2"}
        return [KEPT if name in good else IDENTITY for name in names]


@pytest.fixture
def drafts(generator, plan, judge, tmp_path):
    gate = Fickle(judge, Limits(attempts=3))
    return resample(generator, plan, tmp_path / "synthetic", Sampling(steps=2), gate)


def test_rejected_rows_are_retried_with_new_seeds(drafts):
    tried = drafts.groupby(drafts["name"].str[0])["attempt"].max().to_dict()
    assert tried == {"a": 0, "b": 2, "c": 2, "d": 0, "e": 0}
    assert drafts["seed"].is_unique
    assert rejections(drafts) == {IDENTITY: 5}
    assert (drafts["verdict"] == KEPT).sum() == 4


def test_the_balanced_manifest_has_what_was_kept(drafts, manifest):
    balanced = check_manifest(balanced_manifest(manifest, drafts))
    synthetic = balanced[balanced["origin"] == "synthetic"]
    assert len(synthetic) == 4
    assert set(synthetic["split"]) == {"train"}
    assert synthetic["pid"].tolist() == [3, 3, 20, 20]
    pd.testing.assert_frame_equal(balanced.iloc[: len(manifest)], manifest, check_dtype=False)


def test_an_empty_plan_is_refused(generator, plan, judge, tmp_path):
    with pytest.raises(InputError, match="no rows"):
        resample(generator, plan.iloc[:0], tmp_path, Sampling(), Gate(judge))


def test_reasons_are_what_the_gate_says():
    assert set(REASONS) == {STATISTICS, COPY, IDENTITY, CAMERA}
    assert resampling.KEPT not in REASONS
    with pytest.raises(InputError, match="attempts"):
        Limits(attempts=0)
