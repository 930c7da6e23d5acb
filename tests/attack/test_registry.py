from dataclasses import fields, replace

import pytest
import torch

from ddid.attack import attack_names, attacks, find_attack, registry
from ddid.attack.budget import Budget, to_8bit
from ddid.attack.registry import Card, attack_scene
from ddid.attack.scene import Scene
from ddid.errors import InputError
from ddid.metric.ranking import Embedded


@pytest.fixture
def scene(net, images, pids):
    pixels = (images * 255).round().to(torch.uint8)
    with torch.no_grad():
        clean = net(images)
    source = torch.Generator().manual_seed(0)
    known = Embedded(clean, pids, torch.full_like(pids, -1))
    parts = {"clean": clean, "references": known, "camids": known.camids, "gallery": known}
    return Scene(net, pixels, pids, Budget(), source, **parts)


@pytest.mark.parametrize("name", attacks())
def test_every_attack_prints_all_points_of_its_card(name):
    entry = find_attack(name)
    assert entry.craft.__doc__.splitlines()[0]
    for field in fields(Card):
        assert f"    {field.name}" in entry.craft.__doc__
        assert getattr(entry.card, field.name)


@pytest.mark.parametrize("name", ["sma", "clean", "worst", "worst_gallery", "unseen"])
def test_an_attack_replaces_no_other_and_no_row_of_a_report(name):
    def own(scene):
        """Mine."""
        return scene.images

    own.__name__ = name
    with pytest.raises(InputError, match=f"have an attack or a row '{name}' already"):
        registry.attack("mine", "none")(own)
    assert attacks().get(name) is None or attacks()[name].craft is not own


STEERED = ["fna", "ifgsm", "mifgsm", "fgsm", "auto"]  # by a gradient from the first step on


@pytest.mark.parametrize("name", STEERED)
def test_the_batch_size_changes_nothing_that_matters(net, scene, name):
    whole, single = (
        attack_scene(find_attack(name), scene.spending(steps=3), size)[:7] for size in (8, 3)
    )
    with torch.no_grad():
        torch.testing.assert_close(net(whole / 255), net(single / 255), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("eps", [0.0, 1 / 255, 0.0299, 8 / 255, 1.0])
def test_rounding_stays_inside_the_budget(images, eps):
    wild = torch.rand(images.shape, generator=torch.Generator().manual_seed(3))
    attacked = (images + eps * (2 * wild - 1)).clamp(0, 1)
    rounded = to_8bit(attacked, images, Budget(eps=eps))
    change = (rounded / 255 - images).abs()
    assert rounded.dtype == torch.uint8
    assert float(change.max()) <= eps + 1e-5
    assert float((rounded / 255 - attacked).abs().max()) <= 1.01 / 255


def test_an_unbounded_attack_is_rounded_to_the_nearest_level(images):
    attacked = torch.rand(images.shape)
    assert torch.equal(to_8bit(attacked, images, None), (attacked * 255).round().byte())


def test_attacks_hurt_more_than_noise(net, scene):
    def damage(name):
        moved = net(attack_scene(find_attack(name), scene) / 255) - net(scene.images / 255)
        return float(moved.detach().norm(dim=1)[:7].mean())

    noise = damage("noise")
    assert all(damage(name) > 1.5 * noise for name in attack_names("standard"))


def test_progress_counts_images(scene):
    told = []
    attack_scene(find_attack("fgsm"), scene, 3, lambda *what: told.append(what))
    assert told == [("attack fgsm", 3, 8), ("attack fgsm", 6, 8), ("attack fgsm", 8, 8)]


@pytest.mark.parametrize("excess", [0.05, -0.2, torch.nan])
def test_an_attack_that_leaves_its_budget_is_refused(monkeypatch, scene, excess):
    wild = replace(find_attack("fna"), craft=lambda scene: scene.images + excess)
    monkeypatch.setitem(registry._ENTERED, "fna", wild)
    with pytest.raises(InputError, match="must stay in"):
        attack_scene(find_attack("fna"), scene)


def test_a_part_of_a_scene_keeps_images_and_features_together(scene, net, images):
    other = replace(scene, clean=2 * scene.clean)
    part = replace(scene, surrogate=other).part(slice(2, 5))
    for name in ("images", "pids", "clean"):
        assert torch.equal(getattr(part, name), getattr(scene, name)[2:5])
    torch.testing.assert_close(part.guides.same, scene.guides.same[2:5])
    assert torch.equal(part.surrogate.clean, other.clean[2:5])
    assert float(part.ready().surrogate.images.max()) <= 1


def test_guides_are_asked_for_only_when_needed(scene, images):
    def asked(_):
        raise AssertionError("the model was asked")

    assert replace(scene, embed=asked).guides.own.shape == (8, 12)
    with pytest.raises(AssertionError, match="asked"):
        _ = replace(scene, embed=asked, clean=None).guides


def test_an_unknown_attack_is_told_what_there_is():
    with pytest.raises(InputError, match="unknown attack 'pgd': choose from"):
        find_attack("pgd")
