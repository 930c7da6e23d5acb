import math
from dataclasses import replace
from datetime import UTC, datetime
from io import BytesIO

import pytest
import torch
from PIL import Image

from ddid.attack import attacks
from ddid.errors import InputError
from ddid.metric.ranking import rank
from ddid.report import trace as module
from ddid.report.explorer import Choice, Explorer
from ddid.report.figures.style import pictures
from ddid.report.panel import Panel


@pytest.fixture
def explorer(net, query, gallery):
    return Explorer({"none": net, "twin": net}, query, gallery, answers=4)


def picture(kind="PNG", size=(10, 20)) -> bytes:
    stream = BytesIO()
    Image.new("RGB", size, "red").save(stream, kind)
    return stream.getvalue()


def test_nothing_to_spend_changes_nothing(explorer):
    explorer.choose(eps=0, attack="sma", query=3)
    view = explorer.view
    assert torch.equal(view.image, view.attacked)
    assert view.scores[0].ap == view.scores[1].ap
    (_, before), (_, after) = view.lists(9).values()
    assert before.equals(after)


@pytest.mark.parametrize("attack", ["fna", "sma", "ifgsm", "noise"])
def test_the_change_stays_inside_the_budget_at_every_step(explorer, attack):
    explorer.choose(attack=attack, eps=5, steps=3)
    path = explorer.view.trace.path.int()
    assert 0 < int((path - path[0]).abs().max()) <= 5


def test_a_view_shows_the_chosen_query_before_and_after(explorer, query):
    explorer.choose(query=7, steps=3)
    view = explorer.view
    assert torch.equal(view.image[0], query.images[7])
    assert [len(answers) for _, answers in view.lists(4).values()] == [4, 4]
    asked = [image for image, _ in view.lists(4).values()]
    assert (asked[0] == view.pictures["clean"]).all()
    assert (asked[1] == view.pictures["attacked"]).all()
    assert 0 <= view.scores[1].ap <= view.scores[0].ap <= 100
    far = query.images[query.pids == view.trace.far][0]
    assert (view.pictures["farthest person"] == pictures(far[None])[0]).all()


def test_the_slider_goes_through_the_steps_of_one_attack(explorer, query, monkeypatch):
    explorer.choose(steps=3, query=5)
    last = explorer.view
    assert len(last.trace.path) == 1 + 3
    monkeypatch.setattr(module, "attack_scene", None)  # going back attacks nothing
    for step in range(4):
        explorer.choose(shown=step)
        view = explorer.view
        assert torch.equal(view.attacked, last.trace.path[step])
        assert view.scores[1].ap == 100 * float(rank(*view.trace.sides(step)).ap)
    explorer.choose(shown=0)
    assert torch.equal(explorer.view.attacked[0], query.images[5])
    explorer.choose(shown=99)
    assert torch.equal(explorer.view.attacked, last.attacked)


def test_an_attack_on_the_gallery_changes_the_right_answers_alone(explorer, query, gallery):
    explorer.choose(side="gallery", query=2, steps=4)
    trace = explorer.view.trace
    own = (gallery.pids == query.pids[2]).nonzero().squeeze(1)
    assert torch.equal(trace.rows, own)
    clean, attacked = (trace.sides(step)[1].embeddings for step in (0, len(trace.path) - 1))
    moved = (clean != attacked).any(1).nonzero().squeeze(1)
    assert torch.equal(moved, own)
    assert explorer.view.scores[1].ap < explorer.view.scores[0].ap


def test_two_models_are_seen_side_by_side(explorer):
    explorer.choose(steps=2, other="twin")
    views = explorer.views
    assert list(views) == ["none", "twin"]
    assert torch.equal(views["none"].attacked, views["twin"].attacked)
    assert set(explorer.lists()["model"]) == set(explorer.steps()["model"]) == {"none", "twin"}


def test_an_attack_by_transfer_works_on_another_model(explorer, net, query, gallery):
    explorer.choose(attack="transfer", steps=2)
    assert int(explorer.view.perturbation.abs().max()) > 0
    assert "transfer" not in Explorer({"none": net}, query, gallery).offered


def test_views_are_lazy_and_remembered(explorer, monkeypatch):
    crafted, attack = [], module.attack_scene
    monkeypatch.setattr(
        module, "attack_scene", lambda *given: crafted.append(given[0].name) or attack(*given)
    )
    explorer.choose(query=2, steps=2)
    explorer.choose(query=4)
    assert crafted == []
    first = explorer.view.trace
    explorer.choose(model="twin")
    assert explorer.view.trace is not first
    explorer.choose(model="none")
    assert explorer.view.trace is first
    assert len(crafted) == 2


def test_what_is_offered_is_what_the_registry_holds_now(explorer, monkeypatch):
    assert set(explorer.offered) == {name for name, a in attacks().items() if not a.whole}
    monkeypatch.setattr("ddid.report.explorer.attacks", lambda: {"mine": attacks()["fna"]})
    explorer.choose(attack="mine")
    assert explorer.choice.attack == "mine"


def test_a_query_without_a_right_answer_is_still_shown(net, query, gallery):
    strangers = gallery.take(gallery.pids != query.pids[0])
    view = Explorer({"none": net}, query, strangers).view
    assert all(math.isnan(score.ap) for score in view.scores)
    assert not view.lists(9)["before"][1]["right"].any()


def test_a_model_that_breaks_down_under_attack_is_not_taken_for_no_right_answer(query, gallery):
    def model(images):
        found = images.flatten(1)[:, :9]
        return found / (images * 255 % 1 < 1e-3).all() if len(images) == 1 else found

    explorer = Explorer({"none": model}, query, gallery)
    explorer.choose(attack="noise")
    assert not math.isnan(explorer.view.scores[0].ap)


def test_right_answers_stand_where_the_ranks_say(explorer):
    explorer.choose(query=6, steps=3)
    view = explorer.view
    for score, (_, answers) in zip(view.scores, view.lists(99).values(), strict=True):
        ranks = answers.loc[answers["right"], "rank"].tolist()
        ap = sum((hit + 1) / at for hit, at in enumerate(ranks)) / len(ranks)
        assert 100 * ap == pytest.approx(score.ap)


def test_ones_own_picture_is_a_query_of_a_stranger(explorer, query):
    before = explorer.view.trace.features
    explorer.upload("me.png", picture())
    assert explorer.choice.query == len(query)
    view = explorer.view
    assert view.image[0, :, 0, 0].tolist() == [255, 0, 0]
    assert int(view.perturbation.abs().max()) > 0
    assert math.isnan(view.scores[1].ap)
    written = [text.get_text() for axes in explorer.figure().axes for text in axes.texts]
    assert any("no right answer is known" in text for text in written)
    titles = "".join(axes.get_title() for axes in explorer.figure().axes)
    assert not set("✗✓") & set(titles)
    explorer.choose(query=0)  # whose guides know nothing of the picture
    assert torch.equal(explorer.view.trace.features, before)


BAD = {"text": b"hello", "cut": picture()[:45], "gif": picture("GIF"), "huge": bytes(2**24 + 1)}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_a_bad_picture_is_one_sentence_and_changes_nothing(explorer, content):
    before = explorer.choice
    with pytest.raises(InputError, match=r"^me\.png is no JPEG or PNG") as told:
        explorer.upload("me.png", content)
    assert "/" not in str(told.value)
    assert explorer.choice == before


def test_queries_are_found_by_difficulty(explorer, query):
    found = explorer.find()
    ap = [value for _, value in found]
    assert ap == sorted(ap)
    assert len(found) == len(query)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "gpt"}, "unknown model 'gpt': choose none, twin"),
        ({"attack": "mail"}, "unknown attack 'mail'"),
        ({"side": "left"}, "unknown side 'left'"),
        ({"query": 24}, "query is 24: give a whole number, 0 to 23"),
        ({"eps": -1}, "eps is -1"),
        ({"steps": 0}, "steps is 0"),
        ({"eps": 0.9}, "eps is 0.9: give a whole number, 0 to 255"),
        ({"steps": "a"}, "steps is 'a'"),
        ({"epsilon": 8}, "no 'epsilon'"),
    ],
)
def test_an_impossible_choice_is_one_sentence_and_changes_nothing(explorer, change, sentence):
    before = explorer.choice
    with pytest.raises(InputError, match=sentence):
        explorer.choose(**change)
    assert explorer.choice == before


def test_the_figure_has_two_lists_a_model(explorer):
    explorer.choose(steps=2, other="twin")
    labels = [ax.get_ylabel() for ax in explorer.figure().axes if ax.get_ylabel()]
    assert labels == [
        f"{name}\n{when}" for name in ("none", "twin") for when in ("before", "after")
    ]


@pytest.fixture
def panel(explorer):
    explorer.choose(query=3, eps=40, steps=2)
    return Panel(explorer)


def test_widgets_drive_the_explorer(panel, explorer):
    assert (panel.controls["query"].value, panel.controls["eps"].value) == (3, 40)
    seen = {panel.view.value}
    for name, value in {"attack": "noise", "query": 6, "eps": 2, "model": "twin"}.items():
        panel.controls[name].value = value
        seen.add(panel.view.value)
    assert replace(explorer.choice, shown=-1) == Choice("twin", "", "noise", "query", 6, 2, 2)
    assert len(seen) == 5
    assert "done in" in panel.status.value
    assert "noise" in panel.help.value
    panel.controls["shown"].value = 0
    assert explorer.choice.shown == 0
    assert "step 0 of" in panel.view.value


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_ones_own_picture_is_shown_whatever_was_attacked_before(side, panel, explorer, query):
    panel.controls["side"].value = side
    (upload,) = (part for part in panel.box.children[2].children if hasattr(part, "accept"))
    file = {"name": "me.png", "type": "image/png", "size": 1, "content": memoryview(picture())}
    upload.value = ({**file, "last_modified": datetime.now(UTC)},)
    assert "done in" in panel.status.value
    assert explorer.choice.query == len(query) == panel.controls["query"].max
    assert explorer.choice.side == panel.controls["side"].value == "query"
    assert "no right answer is known" in panel.view.value


def test_what_goes_wrong_is_told_in_the_page(panel, monkeypatch):
    monkeypatch.setattr("ddid.report.trace.attack_scene", lambda *given: 1 / 0)
    panel.controls["query"].value = 9
    assert "role='alert'" in panel.status.value
    assert "ZeroDivisionError" in panel.status.value


def test_names_from_outside_cannot_write_html(net, query, gallery):
    page = Panel(Explorer({"<b>x": net}, query, gallery, answers=2)).view.value
    assert "<b>x" not in page
    assert "&lt;b&gt;x" in page


def test_a_thumbnail_picks_its_query(panel, explorer):
    panel.picker.selected_index = 0
    thumbnails = panel.shelf.children
    assert len(thumbnails) == 12
    thumbnails[-1].children[1].click()
    assert explorer.choice.query == explorer.find()[-1][0]
    assert panel.controls["query"].value == explorer.choice.query


def test_thumbnails_can_be_of_one_camera_the_hardest_or_any(panel, explorer, query):
    def shown() -> list[int]:
        return [int(one.children[1].description.split(":")[0]) for one in panel.shelf.children]

    panel.picker.selected_index = 0
    panel.kind.value = "the hardest"
    assert shown() == [row for row, _ in explorer.find()[:12]]
    panel.kind.value = "at random"
    assert len(set(shown())) == 12
    camera = int(query.camids[0])
    panel.camera.value = camera
    assert set(shown()) <= set((query.camids == camera).nonzero().flatten().tolist())


def test_thumbnails_follow_the_model(net, query, gallery):
    blurred = Panel(
        Explorer({"mine": net, "flat": lambda x: net(x.mean(3, True).expand_as(x))}, query, gallery)
    )
    blurred.picker.selected_index = 0
    for name in ("flat", "mine"):
        blurred.controls["model"].value = name
        row, ap = blurred.explorer.find()[0]
        assert blurred.shelf.children[0].children[1].description == f"{row}: {ap:.0f} %"


def test_the_slider_goes_back_through_the_attack_and_a_new_attack_shows_its_end(panel, explorer):
    panel.controls["steps"].value = 5
    assert "step 5 of 5" in panel.view.value
    panel.controls["shown"].value = 2
    assert "step 2 of 5" in panel.view.value
    panel.controls["query"].value = 8
    assert "step 5 of 5" in panel.view.value
    assert panel.controls["shown"].value == 5
