"""One training step: attacked by whose guides, softened towards whom, whose gradient is whose."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from ddid.attack.budget import Budget
from ddid.attack.seen import fna, sma
from ddid.defense.fnes import FNES
from ddid.defense.losses import forward_both
from ddid.defense.meta import Meta
from ddid.defense.recipes import batch_attacks, find_recipe
from ddid.defense.step import Draw, Learner
from ddid.defense.training import Defence
from ddid.errors import InputError
from ddid.model import ModelConfig, ReIDNet
from ddid.training.loop import Loop

CPU = torch.device("cpu")
LABELS = torch.arange(4).repeat_interleave(2)
CAMIDS = torch.arange(8) % 3
HALVES = (torch.tensor([0, 1, 4, 5]), torch.tensor([2, 3, 6, 7]))


def learner(recipe, seed=0):
    recipe = find_recipe(recipe) if isinstance(recipe, str) else recipe
    torch.manual_seed(seed)
    net = ReIDNet(ModelConfig(6, height=32, width=16))
    nn.init.normal_(net.classifier.weight, std=0.1)
    return Learner(recipe, net.train(), Budget(8 / 255, 4 / 255, 2))


@pytest.fixture
def batch():
    images = torch.rand(8, 3, 32, 16, generator=torch.Generator().manual_seed(3))
    return learner("metric_at").batch(images, LABELS)


def gradient(learner):
    grads = [p.grad.flatten() for p in learner.net.parameters() if p.grad is not None]
    return torch.cat(grads)


def test_clean_and_attacked_outputs_come_back_in_order(batch):
    net = learner("metric_at").net.eval()
    batch = replace(batch, attacked=batch.images.flip(0), attacked_targets=batch.targets)
    clean, attacked = forward_both(net, batch)
    assert torch.allclose(clean.embedding, net(batch.images), atol=1e-4)
    assert torch.allclose(attacked.embedding, net(batch.attacked), atol=1e-4)


def test_self_meta_never_aims_at_an_identity_of_the_other_half(batch):
    """The farthest class of an image that FNES softens towards, and the guides, are of its half."""
    seen = []

    def spy(self, batch, *rest):
        result = attack(self, batch, *rest)
        moved = (result.attacked_targets - batch.targets > 1e-6).nonzero()[:, 1]
        seen.append((set(moved.tolist()), set(batch.labels.tolist())))
        return result

    attack, still = Learner.attack, FNES(omega=(0.0, 0.0), shift=0.05)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "attack", spy)
        whole = learner(replace(find_recipe("ddid-discriminator"), fnes=still))
        whole.gradient(batch, HALVES, Draw(0, CPU))
    assert [own for _, own in seen] == [{0, 2}, {1, 3}]
    assert all(aimed and aimed <= own for aimed, own in seen)


def test_attacks_of_the_pool_that_aim_at_nobody_move_no_label(batch):
    fnes = FNES(shift=0.3, smooth_attacked=0.1, smooth_clean=0.1)
    subject = learner(replace(find_recipe("ddid"), fnes=fnes))
    plain = subject.attack(batch, subject.net, Draw(0, CPU), sma)
    aimed = subject.attack(batch, subject.net, Draw(0, CPU), fna)
    assert torch.allclose(plain.attacked_targets, batch.targets)
    assert not torch.allclose(aimed.attacked_targets, batch.targets)


def test_omega_stays_in_its_range_and_repeats_with_the_seed():
    subject = learner(replace(find_recipe("ddid"), fnes=FNES(gamma=1.0, omega=(0.1, 0.4))))
    batch = subject.batch(torch.zeros(1000, 3, 1, 1), torch.zeros(1000, dtype=torch.int64))

    def drawn():
        made = subject.attack(batch, subject.net, Draw(5, CPU), lambda scene: scene.images + 1)
        return 1 - made.attacked.flatten()[::3]

    assert torch.equal(drawn(), drawn())
    assert 0.1 - 1e-6 <= drawn().min() < 0.11
    assert 0.39 < drawn().max() <= 0.4 + 1e-6


def test_the_pool_attacks_the_meta_test_half_alone(batch):
    meta, crafted = Meta(attacks=batch_attacks(["sma", "ifgsm"])), []

    def spy(self, batch, forward, draw, craft=None):
        crafted.append(craft or self.recipe.craft)
        return attack(self, batch, forward, draw, craft)

    attack = Learner.attack
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "attack", spy)
        subject = learner(replace(find_recipe("metric_at+meta"), meta=meta))
        for seed in range(8):
            subject.gradient(batch, HALVES, Draw(seed, CPU))
    assert set(crafted[0::2]) == {fna}
    assert {craft.__name__ for craft in crafted[1::2]} == {"sma", "ifgsm"}


def test_half_batches_are_two_batches_that_never_meet(batch):
    """Without looking ahead the gradient is that of each half alone, attacked alone, summed."""
    whole, alone = learner("half_batches"), learner("metric_at")
    whole.gradient(batch, HALVES, Draw(5, CPU))
    draw = Draw(5, CPU)
    halves = [alone.attack(batch.take(rows), alone.net, draw) for rows in HALVES]
    sum(alone.loss(half, alone.net) for half in halves).backward()
    assert torch.allclose(gradient(whole), gradient(alone), rtol=1e-3, atol=1e-4)
    plain = learner("metric_at")
    plain.gradient(batch, (), Draw(5, CPU))
    assert torch.cosine_similarity(gradient(plain), gradient(whole), dim=0) < 0.99


def test_a_loss_without_names_is_refused_in_a_sentence(batch):
    mine = replace(find_recipe("metric_at"), name="mine", loss=lambda *_: torch.zeros(()))
    with pytest.raises(InputError, match="mine: its loss returns Tensor, not scalars by name"):
        learner(mine).gradient(batch, (), Draw(0, CPU))
    for term in (torch.zeros(2), 0.5):
        rough = replace(mine, loss=lambda *_, term=term: {"fine": torch.zeros(()), "rough": term})
        with pytest.raises(InputError, match="mine: its loss' rough is no scalar tensor"):
            learner(rough).gradient(batch, (), Draw(0, CPU))


def test_attacking_ahead_differs_by_the_look_ahead_alone(batch):
    def after(rate, ahead):
        recipe = replace(find_recipe("metric_at+meta"), meta=Meta(rate=rate, ahead=ahead))
        subject = learner(recipe)
        subject.net.eval()  # BatchNorm's running statistics move between the two attacks otherwise
        subject.net.train = lambda mode=True: subject.net
        subject.gradient(batch, HALVES, Draw(1, CPU))
        return gradient(subject)

    assert torch.allclose(after(0.0, ahead=True), after(0.0, ahead=False), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after(0.5, ahead=True), after(0.5, ahead=False), rtol=1e-3)


def test_attack_and_augmentation_draw_from_seeds_of_their_own():
    draw = Draw(7, CPU)
    assert len({7, draw.host.initial_seed(), draw.device.initial_seed()}) == 3


def test_all_processes_share_one_batch(colours, short):
    task = Defence(find_recipe("metric_at"), colours, short)
    assert task.batches.shape == (short.steps, 8)
    report = Loop(task, short).take(0)
    assert torch.isfinite(report["gradient_norm"])
