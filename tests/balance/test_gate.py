"""The gate keeps what its judge takes for photographs of the wanted identity and camera."""

from dataclasses import replace

import pandas as pd
import pytest
import torch

from ddid.balance.gate import CAMERA, COPY, IDENTITY, KEPT, Gate, Limits, accepted
from ddid.balance.judge import Expert, JudgeTask, train_judge
from ddid.data.images import ImageSet, to_unit
from ddid.errors import InputError
from ddid.metric.losses import batch_hard_triplet


@pytest.fixture(scope="module")
def judge(real, tmp_path_factory):
    return train_judge(real, tmp_path_factory.mktemp("judge"), epochs=20)


@pytest.fixture(scope="module")
def fresh(real):
    """New images of the same kind: the real ones with their noise mirrored."""
    return ImageSet(real.images.flip(-1).flip(-2), real.pids, real.camids, real.paths)


def kept(gate, images):
    return sum(verdict == KEPT for verdict in gate.verdicts(images)) / len(images)


def test_a_judge_learns_classes_and_triplets_of_augmented_photographs(real, monkeypatch):
    task = JudgeTask(real.images, real.pids, epochs=1, seed=0)
    seen = []
    monkeypatch.setattr(task, "augment", lambda images: seen.append(images) or 0.5 * images)
    loss = task.step(0, 0)["loss"].item()
    (pixels,), labels = seen, task.labels[0]
    assert torch.equal(pixels, to_unit(real.images[task.rows[0]]))
    heads = task.net(0.5 * pixels, heads=True)
    chances = heads.logits.log_softmax(1)
    smooth = 0.9 * chances[torch.arange(len(labels)), labels] + 0.1 * chances.mean(1)
    expected = batch_hard_triplet(heads.feature, labels) - smooth.mean()
    assert loss == pytest.approx(expected.item(), rel=1e-4)


def test_most_good_images_pass(judge, fresh):
    assert kept(Gate(judge), fresh) > 0.5
    assert kept(Gate(judge, Limits(photographs=1)), fresh) == 1
    assert kept(Gate(judge, Limits(photographs=0.2)), fresh) <= kept(Gate(judge), fresh)


def test_every_reason_is_found(judge, real, fresh):
    wrong = torch.where(fresh.pids == 3, 7, 3)
    gate = Gate(judge)
    assert set(gate.verdicts(real)) == {COPY}
    assert set(gate.verdicts(replace(fresh, pids=wrong))) == {IDENTITY}
    found = gate.verdicts(replace(fresh, camids=3 - fresh.camids))
    assert set(found) <= {CAMERA, IDENTITY}
    assert CAMERA in found


def test_a_judge_of_another_network_is_trained_again(real, tmp_path, monkeypatch):
    first = train_judge(real, tmp_path, epochs=1).held_out
    assert torch.equal(train_judge(real, tmp_path, epochs=1).held_out, first)
    monkeypatch.setattr("ddid.balance.judge.BACKBONE", "resnet18")
    assert not torch.equal(train_judge(real, tmp_path, epochs=1).held_out, first)


def with_scores(judge, identity, camera):
    return replace(judge, held_out=torch.tensor([identity, camera]).T)


def test_the_limits_are_what_photographs_reach(judge):
    scores = [float(i) for i in range(11)]
    gate = Gate(with_scores(judge, scores, [-s for s in scores]), Limits(photographs=0.9))
    assert gate.least() == pytest.approx((1.0, -9.0))
    alone = with_scores(judge, scores, [torch.inf] * 11)
    assert Gate(alone).least()[1] == -torch.inf


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_photographs_pass_as_often_as_the_limits_say(judge, share):
    scores = [float(i) for i in range(101)]
    alike, opposed = with_scores(judge, scores, scores), with_scores(judge, scores, scores[::-1])
    assert Gate(alike, Limits(share)).photographs_passing() == pytest.approx(share, abs=0.01)
    both = max(0.0, 2 * share - 1)  # who is sure of the person is unsure of the camera
    assert Gate(opposed, Limits(share)).photographs_passing() == pytest.approx(both, abs=0.02)


def test_a_judge_that_cannot_see_says_so(judge):
    blind = with_scores(judge, [-1.0, -1.0, 1.0] * 4, [1.0, 1.0, torch.inf] * 4)
    assert "the identity of 33 % of held-out photographs" in blind.message()
    assert "camera" not in blind.message()
    assert with_scores(judge, [1.0, 1.0] * 5, [1.0, torch.inf] * 5).message() == ""
    untried = with_scores(judge, [1.0, torch.inf] * 9, [1.0, 1.0] * 9)
    assert "tried on 9 held-out photograph(s) of people that it knows" in untried.message()


def test_a_judge_that_is_no_number_is_refused(judge, fresh):
    class Broken(torch.nn.Module):
        mean = torch.zeros(1)

        def forward(self, pixels, heads):
            return type("Heads", (), {"logits": torch.full((len(pixels), 3), torch.nan)})

    broken = Expert(Broken(), judge.identity.classes)
    with pytest.raises(InputError, match="no number"):
        broken.leads(fresh.images, fresh.pids)


def test_a_lead_is_over_the_best_other_class(judge, fresh):
    logits = judge.identity.net(fresh.images.float() / 255, heads=True).logits
    found = judge.identity.leads(fresh.images, fresh.pids)
    for row, pid, lead in zip(logits.tolist(), fresh.pids.tolist(), found.tolist(), strict=True):
        own = row.pop([3, 7, 20].index(pid))
        assert lead == pytest.approx(own - max(row), abs=1e-3)


def test_where_nobody_can_spare_a_photograph_the_last_one_is_held_out(real, tmp_path):
    few = real.take(torch.arange(0, len(real), 2))
    pairs = replace(few, pids=torch.arange(len(few)) // 2)
    assert train_judge(real, tmp_path / "many", epochs=1).held_out.shape == (3, 2)
    assert train_judge(pairs, tmp_path / "few", epochs=1).held_out.shape == (1, 2)


def test_a_trained_judge_is_taken_from_its_folder(real, tmp_path, monkeypatch):
    steps = []
    first = train_judge(real, tmp_path, epochs=1)
    again = train_judge(real, tmp_path, lambda *_: steps.append(1), epochs=1)
    assert not steps
    assert torch.equal(first.held_out, again.held_out)
    others = replace(real, images=255 - real.images)
    train_judge(others, tmp_path, lambda *_: steps.append(1), epochs=1)
    assert steps, "a judge of other people was taken"
    steps.clear()
    monkeypatch.setattr("ddid.training.loop.learning_rate", lambda settings, step: 0.5)
    train_judge(others, tmp_path, lambda *_: steps.append(1), epochs=1)
    assert steps, "a judge of another loop was taken"
    steps.clear()
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setattr("ddid.balance.judge.fit", lambda *_: steps.append(1))
    train_judge(others, tmp_path, epochs=1)
    assert steps, "a judge of another precision was taken"


def test_with_one_camera_there_is_none_to_mistake(real, tmp_path):
    alone = real.take(real.camids == 1)
    judge = train_judge(alone, tmp_path, epochs=1)
    assert judge.camera is None
    assert judge.leads(alone)[:, 1].min() == torch.inf
    with pytest.raises(InputError, match="epochs"):
        train_judge(real, tmp_path, epochs=0)


def test_a_judge_of_one_person_is_refused(real, tmp_path):
    one, two = real.take(real.pids == 3), real.take(torch.tensor([0, 8]))  # an image of each
    for few in (one, two):
        with pytest.raises(InputError, match="only one person"):
            train_judge(few, tmp_path, epochs=1)


def test_accepted_shares_count_each_wanted_draft_once():
    rows = [(1, 0, KEPT), (1, 0, IDENTITY), (1, 1, KEPT), (2, 0, CAMERA), (2, 1, CAMERA)]
    drafts = pd.DataFrame(rows, columns=["pid", "attempt", "verdict"])
    found = accepted(drafts, "pid")
    assert found.loc[1].tolist() == [2, 2, 1.0]
    assert found.loc[2].tolist() == [1, 0, 0.0]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"photographs": 0.0}, {"copy": float("nan")}])
def test_impossible_limits_are_refused(wrong):
    with pytest.raises(InputError):
        Limits(**wrong)
