import math

import pytest
import torch
from PIL import Image

from ddid.errors import InputError
from ddid.report import explorer as module
from ddid.report.explorer import Explorer, panel


@pytest.fixture
def explorer(net, query, gallery):
    return Explorer({"none": net, "twin": net}, query, gallery, answers=4)


def test_nothing_to_spend_changes_nothing(explorer):
    explorer.choose(eps=0, attack="sma", query=3)
    view = explorer.view
    assert torch.equal(view.image, view.attacked)
    assert view.ap_before == view.ap_after
    assert torch.equal(view.before.index, view.after.index)


@pytest.mark.parametrize("attack", ["fna", "sma", "ifgsm", "noise"])
def test_the_change_stays_inside_the_budget(explorer, attack):
    explorer.choose(attack=attack, eps=5, steps=3)
    assert 0 < int(explorer.view.perturbation.abs().max()) <= 5


def test_a_view_shows_the_chosen_query_before_and_after(explorer, query):
    explorer.choose(query=7, steps=3)
    view = explorer.view
    assert torch.equal(view.image[0], query.images[7])
    assert view.before.index.shape == view.after.index.shape == (1, 4)
    assert 0 <= view.ap_after <= view.ap_before <= 100


def test_views_are_lazy_and_remembered(explorer, monkeypatch):
    crafted, attack = [], module.attack_images

    def counted(name, *args, **kwargs):
        crafted.append(name)
        return attack(name, *args, **kwargs)

    monkeypatch.setattr(module, "attack_images", counted)
    explorer.choose(query=2, steps=2)
    explorer.choose(query=4)
    assert crafted == []
    first = explorer.view
    explorer.choose(model="twin")
    other = explorer.view
    explorer.choose(model="none")
    assert explorer.view is first
    assert len(crafted) == 2
    assert torch.equal(first.attacked, other.attacked)


def test_a_query_without_a_right_answer_is_still_shown(net, query, gallery):
    strangers = gallery.take(gallery.pids != query.pids[0])
    view = Explorer({"none": net}, query, strangers).view
    assert math.isnan(view.ap_before)
    assert math.isnan(view.ap_after)
    assert not view.before.right.any()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "gpt"}, "unknown model 'gpt': choose none, twin"),
        ({"attack": "mail"}, "unknown attack 'mail'"),
        ({"query": 24}, "query is 24: give 0 to 23"),
        ({"eps": -1}, "eps is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"epsilon": 8}, "no 'epsilon'"),
    ],
)
def test_an_impossible_choice_is_one_sentence_and_changes_nothing(explorer, change, sentence):
    before = explorer.choice
    with pytest.raises(InputError, match=sentence):
        explorer.choose(**change)
    assert explorer.choice == before


def test_the_figure_is_the_same_for_the_same_choice(explorer, tmp_path):
    explorer.choose(steps=2)
    assert explorer.png() == explorer.png()
    (tmp_path / "view.png").write_bytes(explorer.png())
    assert min(Image.open(tmp_path / "view.png").size) > 200


def test_widgets_drive_the_explorer(explorer):
    explorer.choose(steps=2)
    box = panel(explorer)
    controls = {c.description: c for row in box.children[:-1] for c in row.children}
    picture = box.children[-1]
    before = picture.value
    controls["attack"].value = "noise"
    assert explorer.choice.attack == "noise"
    assert picture.value != before
    assert picture.value == explorer.png()
    controls["query"].value = 6
    controls["eps / 255"].value = 2
    controls["model"].value = "twin"
    assert explorer.choice == module.Choice("twin", "noise", 6, 2, 2)
    assert all(not c.continuous_update for c in controls.values() if hasattr(c, "max"))


def test_the_panel_shows_what_was_chosen_from_python(explorer):
    explorer.choose(query=3, eps=40, steps=2)
    controls = {c.description: c for row in panel(explorer).children[:-1] for c in row.children}
    assert (controls["query"].value, controls["eps / 255"].value) == (3, 40)
