"""Every recipe trains; each rival's inner attack does what its card says; names change recipes."""

import re
from dataclasses import replace

import pytest
import torch

from ddid.attack.budget import Budget
from ddid.attack.scene import Scene
from ddid.attack.seen import fna
from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipe import Recipe
from ddid.defense.recipes import batch_attacks, find_recipe, recipes, tuned
from ddid.defense.recipes.hm import hardest, hardness
from ddid.defense.training import train
from ddid.errors import InputError
from ddid.metric.distance import normalize
from ddid.model import ModelConfig, ReIDNet
from ddid.training import read_log

ATTACKING = [recipe for recipe in recipes().values() if recipe.craft]


@pytest.fixture
def scene(colours):
    torch.manual_seed(0)
    net, source = (ReIDNet(ModelConfig(6, height=32, width=16)).eval() for _ in range(2))
    rows = torch.arange(0, 24, 2)
    images, labels = colours.images[rows].float() / 255, colours.labels[rows]
    budget = Budget(8 / 255, 4 / 255, 3, random_start=True)
    scene = Scene(net, images, labels, budget, torch.Generator().manual_seed(0))
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
def test_attacked_images_move_within_the_budget(recipe, scene):
    attacked = recipe.craft(scene)
    share = 1.5 if recipe.name == "dynamic_budget" else 1.0
    assert 0 < (attacked - scene.images).abs().max() <= share * scene.budget.eps + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1


@pytest.mark.parametrize("recipe", recipes().values(), ids=lambda r: r.name)
def test_cards_name_their_source_and_differences(recipe):
    assert re.search(r"\d{4}|DAS", recipe.paper)
    assert recipe.idea
    assert recipe.name in ("none", "metric_at") or recipe.ours


def test_offline_attack_looks_at_the_source_alone(scene):
    craft = find_recipe("offline_at").craft
    first = craft(scene)
    again = torch.Generator().manual_seed(0)
    blind = replace(scene, embed=None, surrogate=replace(scene.surrogate, generator=again))
    assert torch.equal(first, craft(blind))
    with pytest.raises(InputError, match="undefended network"):
        craft(replace(scene, surrogate=None))


def test_collapse_brings_nearest_negatives_together(scene):
    attacked = find_recipe("act").craft(scene)
    before, after = (embeddings(scene, images) for images in (scene.images, attacked))
    _, near = hardest(before, scene.pids)
    gap = [(e - e[near]).norm(dim=1).mean() for e in (before, after)]
    assert gap[1] < gap[0]


def test_hardness_rises_but_not_far_beyond_the_destination(scene):
    before = embeddings(scene, scene.images)
    far, near = hardest(before, scene.pids)
    after = embeddings(scene, find_recipe("hm").craft(scene))
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


def test_recipes_are_plain_values():
    assert all(isinstance(recipe, Recipe) for recipe in recipes().values())
    assert {"none", "metric_at", "ddid", "half_batches"} <= recipes().keys()


def test_a_name_switches_modules_on_and_off():
    base, whole = find_recipe("metric_at"), find_recipe("ddid")
    assert find_recipe("metric_at+fnes") == replace(base, name="metric_at+fnes", fnes=FNES())
    assert find_recipe("ddid-meta") == replace(whole, name="ddid-meta", meta=None)
    built = find_recipe("metric_at+fnes+discriminator+meta")
    assert replace(built, name="ddid", idea=whole.idea, ours=whole.ours) == whole


def test_a_name_changes_the_attack_and_averages_weights():
    everybody = Budget(8 / 255, 4 / 255, 3, random_start=True)
    wider = find_recipe("metric_at-eps10").spend(everybody)
    assert wider == replace(everybody, eps=10 / 255, step=5 / 255)
    finer = find_recipe("metric_at-steps6").spend(everybody)
    assert finer == replace(everybody, steps=6, step=2 / 255)
    assert find_recipe("metric_at").spend(everybody) == everybody
    assert find_recipe("ddid+ema").average > 0


def test_a_ramped_attack_grows_from_nothing_to_everybodys_and_stays():
    everybody = Budget(8 / 255, 4 / 255, 3, random_start=True)
    ramped = find_recipe("metric_at+ramp")
    half = ramped.spend(everybody, ramped.ramp / 2)
    assert (half.eps, half.step, half.steps) == pytest.approx((4 / 255, 2 / 255, 3))
    assert ramped.spend(everybody, ramped.ramp) == everybody == ramped.spend(everybody, 1)
    assert find_recipe("metric_at").spend(everybody, 0.01) == everybody
    both = find_recipe("metric_at-eps12+ramp").spend(everybody, ramped.ramp / 3)
    assert (both.eps, both.step) == pytest.approx((4 / 255, 2 / 255))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("magic", "no recipe 'magic': choose one of metric_at"),
        ("metric_at+magic", "no recipe 'metric_at.magic': choose one of metric_at"),
        ("metric_at fnes", "no recipe"),
        ("metric_at+fnes7", "no recipe 'metric_at.fnes7'"),
        ("metric_at+eps10", "no recipe"),
        ("metric_at-eps", "no recipe"),
        ("metric_at-eps0", "no recipe"),
        ("metric_at-fnes", "-fnes changes nothing"),
        ("ddid+meta", ".meta changes nothing"),
        ("ddid+ema+ema", ".ema changes nothing"),
        ("none+fnes", "this recipe attacks no images"),
        ("none-eps10", "this recipe attacks no images"),
        ("none+ramp", "this recipe attacks no images"),
        ("metric_at-eps300", "eps is 1.176"),
        ("goat+discriminator", "it learns from attacked ones"),
        ("classifier_at+fnes", "the class that FNA aims at"),
    ],
)
def test_nonsense_is_one_sentence(name, sentence):
    with pytest.raises(InputError, match=sentence):
        find_recipe(name)


def test_a_recipe_of_ones_own_is_one_file(tmp_path, monkeypatch):
    import ddid.defense.recipes as room

    (tmp_path / "mine.py").write_text(
        "from ddid.defense.recipe import Recipe\n"
        "RECIPES = [Recipe('mine', '2026, mine', 'clean images', craft=None)]\n"
    )
    monkeypatch.setattr(room, "__path__", [*room.__path__, str(tmp_path)])
    assert find_recipe("mine+ema").average > 0


def test_a_name_may_hold_what_the_grammar_splits_at(monkeypatch):
    import ddid.defense.recipes as room

    own = [replace(find_recipe("none"), name=name) for name in ("ddid+", "ddid-a", "ddid+fnes2")]
    known = recipes() | {recipe.name: recipe for recipe in own}
    monkeypatch.setattr(room, "recipes", lambda: known)
    assert [find_recipe(recipe.name) for recipe in own] == own
    assert find_recipe("ddid-a+ema") == replace(own[1], name="ddid-a+ema", average=0.05)
    assert find_recipe("ddid+ema").meta
    assert find_recipe("ddid+fnes2+ema").average > 0


def test_settings_reach_the_modules_that_are_on():
    fnes, meta = FNES(gamma=2.0), Meta(rate=0.5)
    whole = tuned(find_recipe("ddid"), fnes, meta, 0.7)
    assert (whole.fnes, whole.meta, whole.discriminator) == (fnes, meta, 0.7)
    base = find_recipe("metric_at")
    assert tuned(base, fnes, meta, 0.7) == base
    halves = tuned(find_recipe("half_batches"), fnes, replace(meta, rate=0.5), 0.7)
    assert halves.meta == replace(meta, rate=0.0)


def test_a_pool_of_attacks_is_looked_up_and_checked():
    assert batch_attacks(["fna", "color"])[0] is fna
    for name in ("universal", "gallery", "transfer"):
        with pytest.raises(InputError, match=f"cannot use the attack '{name}'"):
            batch_attacks([name])
