"""Every recipe trains; each rival's inner attack does what its card says."""

import re
from dataclasses import replace

import pytest
import torch

from ddid.attack.budget import Budget
from ddid.attack.scene import Scene
from ddid.defense.meta import Meta
from ddid.defense.recipe import Recipe, forward_both
from ddid.defense.recipes import find_recipe, recipes
from ddid.defense.recipes.hm import hardest, hardness
from ddid.defense.step import prepare_batch
from ddid.defense.training import train
from ddid.errors import InputError
from ddid.metric.distance import normalize
from ddid.model import ModelConfig, ReIDNet
from ddid.training import read_log

ATTACKING = [recipe for recipe in recipes().values() if recipe.craft]


@pytest.fixture
def scene(colours):
    torch.manual_seed(0)
    net = ReIDNet(ModelConfig(6, height=32, width=16)).eval()
    source = ReIDNet(ModelConfig(6, height=32, width=16)).eval()
    rows = torch.arange(0, 24, 2)
    budget = Budget(8 / 255, 4 / 255, 3, random_start=True)
    images = colours.images[rows].float() / 255
    scene = Scene(net, images, colours.labels[rows], budget, torch.Generator().manual_seed(0))
    return replace(scene, surrogate=replace(scene, embed=source))


def embeddings(scene, images):
    with torch.no_grad():
        return normalize(scene.embed(images))


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_trains(name, colours, short, tmp_path):
    train(name, colours, replace(short, steps=3), tmp_path)
    log = read_log(tmp_path)
    assert log["step"].tolist() == [1, 2, 3]
    assert (log["gradient_norm"] > 0).all()


@pytest.mark.parametrize("recipe", ATTACKING, ids=lambda r: r.name)
def test_crafted_images_move_within_the_budget(recipe, scene):
    crafted = recipe.craft(scene)
    share = 1.5 if recipe.name == "dynamic_budget" else 1.0
    moved = (crafted.images - scene.images).abs()
    assert 0 < moved.max() <= share * scene.budget.eps + 1e-6
    assert crafted.images.min() >= 0
    assert crafted.images.max() <= 1


@pytest.mark.parametrize("recipe", ATTACKING, ids=lambda r: r.name)
def test_no_attack_aims_at_the_own_identity(recipe, scene):
    far = recipe.craft(scene).far
    assert far is None or (far != scene.pids).all()


@pytest.mark.parametrize("recipe", recipes().values(), ids=lambda r: r.name)
def test_cards_name_their_source_and_differences(recipe):
    assert re.search(r"\d{4}|DAS", recipe.card.paper)
    assert recipe.card.idea
    assert recipe.name in ("none", "metric_at") or "+" in recipe.name or recipe.card.ours


def test_offline_attack_looks_at_the_source_alone(scene):
    craft = find_recipe("offline_at").craft
    first = craft(scene).images
    with torch.no_grad():
        for parameter in scene.embed.parameters():
            parameter.zero_()
    scene.generator.manual_seed(0)
    assert torch.equal(first, craft(scene).images)
    with pytest.raises(InputError, match="undefended network"):
        craft(replace(scene, surrogate=None))


def test_collapse_brings_nearest_negatives_together(scene):
    before, after = (
        embeddings(scene, images)
        for images in (scene.images, find_recipe("act").craft(scene).images)
    )
    _, near = hardest(before, scene.pids)
    gap = [(e - e[near]).norm(dim=1).mean() for e in (before, after)]
    assert gap[1] < gap[0]


def test_hardness_rises_but_not_far_beyond_the_destination(scene):
    before = embeddings(scene, scene.images)
    far, near = hardest(before, scene.pids)
    after = embeddings(scene, find_recipe("hm").craft(scene).images)
    old, new = (hardness(e, far, near) for e in (before, after))
    easy = old < -0.2
    assert (new[easy] > old[easy]).float().mean() > 0.8


def test_hardest_equals_its_loop():
    points = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    far, near = hardest(points, labels)
    for i in range(6):
        gaps = {j: float((points[i] - points[j]).norm()) for j in range(6)}
        same = {j: g for j, g in gaps.items() if labels[j] == labels[i]}
        other = {j: g for j, g in gaps.items() if labels[j] != labels[i]}
        assert far[i] == max(same, key=same.get)
        assert near[i] == min(other, key=other.get)


def test_meta_test_half_is_attacked_differently_when_asked(scene):
    plain = find_recipe("metric_at+meta")
    other = replace(plain, meta=Meta(other_attack=True))
    camids = torch.zeros(12)
    batches = [
        prepare_batch(
            recipe,
            scene.embed,
            replace(scene, generator=torch.Generator().manual_seed(1)),
            camids,
        )
        for recipe in (plain, other)
    ]
    test = batches[0].meta_test
    assert torch.equal(test, batches[1].meta_test)
    assert torch.equal(batches[0].attacked[~test], batches[1].attacked[~test])
    assert not torch.equal(batches[0].attacked[test], batches[1].attacked[test])


@pytest.mark.parametrize("statistics", ["apart", "together"])
def test_clean_and_attacked_outputs_come_back_in_order(statistics, scene):
    recipe = replace(find_recipe("metric_at"), statistics=statistics)
    batch = prepare_batch(recipe, scene.embed, scene, torch.zeros(12))
    scene.embed.eval()
    clean, attacked = forward_both(recipe, scene.embed, batch)
    assert torch.allclose(clean.embedding, scene.embed(scene.images), atol=1e-4)
    assert torch.allclose(attacked.embedding, scene.embed(batch.attacked), atol=1e-4)


def test_unknown_recipe_is_told_the_known_ones():
    with pytest.raises(InputError, match="no recipe 'magic': choose one of act"):
        find_recipe("magic")


def test_recipes_are_plain_values():
    assert all(isinstance(recipe, Recipe) for recipe in recipes().values())
    assert {"none", "metric_at", "ddid", "goat", "trades"} <= recipes().keys()
