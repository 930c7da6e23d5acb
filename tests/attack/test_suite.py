from dataclasses import fields, replace

import pytest
import torch

from ddid.attack import ATTACKS, STANDARD, UNSEEN, craft
from ddid.attack.guides import find_guides
from ddid.attack.loop import Budget
from ddid.attack.suite import Card, Scene, find_attack, to_8bit
from ddid.errors import InputError


@pytest.fixture
def scene(net, images, guides):
    pixels = (images * 255).round().to(torch.uint8)
    return Scene(net, pixels, guides, torch.Generator().manual_seed(0))


def test_the_table_holds_what_the_kit_promises():
    assert STANDARD == ["fna", "sma", "ifgsm", "mifgsm", "fgsm", "odfa", "auto"]
    assert set(UNSEEN) == {"universal", "generator", "transfer", "square", "color", "warp", "patch"}


@pytest.mark.parametrize("name", ATTACKS)
def test_every_attack_prints_all_points_of_its_card(name):
    text = ATTACKS[name].craft.__doc__
    assert text.splitlines()[0]
    for field in fields(Card):
        assert f"    {field.name}" in text
        assert getattr(ATTACKS[name].card, field.name)


STEERED = ["fna", "ifgsm", "mifgsm", "fgsm", "auto"]  # by a gradient from the first step on


@pytest.mark.parametrize("name", STEERED)
def test_the_batch_size_changes_nothing_that_matters(net, scene, guides, name):
    whole, single = (craft(name, scene, Budget(steps=3), size)[:7] for size in (8, 3))
    with torch.no_grad():
        torch.testing.assert_close(net(whole / 255), net(single / 255), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("eps", [0.0, 1 / 255, 0.0299, 8 / 255, 1.0])
def test_rounding_stays_inside_linf(images, eps):
    wild = torch.rand(images.shape, generator=torch.Generator().manual_seed(3))
    attacked = (images + eps * (2 * wild - 1)).clamp(0, 1)
    rounded = to_8bit(attacked, images, Budget(eps=eps))
    change = (rounded / 255 - images).abs()
    assert rounded.dtype == torch.uint8
    assert float(change.max()) <= eps + 1e-5
    assert float((rounded / 255 - attacked).abs().max()) <= 1.01 / 255


def test_rounding_stays_inside_l2(images):
    budget = Budget(eps=0.3, norm="l2")
    shift = torch.randn(images.shape, generator=torch.Generator().manual_seed(3))
    shift = budget.eps * shift / shift.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    rounded = to_8bit((images + shift).clamp(0, 1), images, budget)
    assert float((rounded / 255 - images).flatten(1).norm(dim=1).max()) <= budget.eps + 1e-5


def test_an_unbounded_attack_is_rounded_to_the_nearest_level(images):
    attacked = torch.rand(images.shape)
    assert torch.equal(to_8bit(attacked, images, None), (attacked * 255).round().byte())


def test_attacks_hurt_more_than_noise(net, scene, guides):
    def damage(name):
        moved = net(craft(name, scene, Budget()) / 255) - net(scene.images / 255)
        return float(moved.detach().norm(dim=1)[:7].mean())

    noise = damage("noise")
    assert all(damage(name) > 1.5 * noise for name in STANDARD)


def test_progress_counts_images(scene):
    told = []
    craft("fgsm", scene, Budget(), 3, lambda *what: told.append(what))
    assert told == [("attack fgsm", 3, 8), ("attack fgsm", 6, 8), ("attack fgsm", 8, 8)]


@pytest.mark.parametrize("excess", [0.05, -0.2, torch.nan])
def test_an_attack_that_leaves_its_budget_is_refused(monkeypatch, scene, excess):
    wild = replace(ATTACKS["fna"], craft=lambda scene, budget: scene.images + excess)
    monkeypatch.setitem(ATTACKS, "fna", wild)
    with pytest.raises(InputError, match="must stay in"):
        craft("fna", scene, Budget())


def test_a_part_of_a_scene_keeps_images_guides_and_surrogate_together(scene, net, images, pids):
    other = replace(scene, guides=find_guides(2 * net(images).detach(), pids))
    part = replace(scene, surrogate=other).part(slice(2, 5))
    assert torch.equal(part.images, scene.images[2:5])
    assert torch.equal(part.guides.own, scene.guides.own[2:5])
    assert torch.equal(part.surrogate.guides.own, other.guides.own[2:5])
    assert float(part.ready().surrogate.images.max()) <= 1


def test_an_unknown_attack_is_told_what_there_is():
    with pytest.raises(InputError, match="unknown attack 'pgd': choose from fna, sma"):
        find_attack("pgd")
