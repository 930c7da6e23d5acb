import json
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch import nn

import ddid.attack
from ddid.attack import Budget, attack_names, attacks, find_attack, registry
from ddid.errors import InputError
from ddid.files import write_json
from ddid.metric.ranking import answerable, rank
from ddid.model import embed as embed_all
from ddid.report import robustness
from ddid.report.robustness import Plan, attack_images, evaluate
from ddid.report.subject import Subject, evenly, load_factory

QUICK = Plan(attacks=("fna", "sma", "ifgsm"), budget=Budget(steps=4))


def test_scores_are_those_of_the_rounded_attacked_queries(subject, tmp_path):
    found = evaluate(subject, tmp_path, replace(QUICK, attacks=("fna",)))
    attacked, cost = attack_images("fna", subject, QUICK)
    assert attacked.dtype == torch.uint8
    features = embed_all(subject.embed, attacked)
    wanted = rank(replace(subject.query, embeddings=features), subject.gallery).summary()
    assert wanted.items() <= found.summary()["fna"].items()
    assert cost == {"embeddings": 4, "gradients": 4, "largest_change": 8}


def test_attacks_hurt_and_the_worst_case_is_below_every_one(subject, tmp_path):
    table = evaluate(subject, tmp_path, QUICK).summary()
    for name in QUICK.attacks:
        assert table[name]["mAP"] < table["clean"]["mAP"]
        for metric in ("mAP", "rank1", "rank5", "mINP"):
            assert table["worst"][metric] <= table[name][metric]


def test_worst_case_is_per_query(subject, tmp_path):
    rankings = evaluate(subject, tmp_path, QUICK).rankings
    for row in range(len(subject.rows)):
        everywhere = [rankings[name].ap[row] for name in ("clean", *QUICK.attacks)]
        assert rankings["worst"].ap[row] == min(everywhere)


def test_unseen_families_do_not_enter_the_worst_case(subject, tmp_path):
    plain = evaluate(subject, tmp_path, QUICK).summary()["worst"]
    more = replace(QUICK, attacks=(*QUICK.attacks, "patch"))
    assert evaluate(subject, tmp_path, more).summary()["worst"] == plain


def test_there_is_no_worst_case_over_no_attack(subject, tmp_path):
    found = evaluate(subject, tmp_path, replace(QUICK, attacks=("patch",)))
    assert set(found.rankings) == {"clean", "patch"}


def test_a_result_says_what_was_spent(subject, tmp_path):
    evaluate(
        subject, tmp_path, replace(QUICK, attacks=("fna",), budget=Budget(eps=4 / 255, steps=2))
    )
    spent = json.loads((tmp_path / "fna.json").read_text())["budget"]
    assert (spent["eps"], spent["steps"]) == (4 / 255, 2)


def test_every_attack_runs_and_stays_in_its_bounds(subject, tmp_path):
    budget = Budget(steps=3, queries=5)
    plan = Plan(tuple(attacks()), budget, gallery_steps=2, gallery_restarts=1)
    found = evaluate(subject, tmp_path, plan, surrogate=subject)
    assert set(found.rankings) == {"clean", "worst", "worst_gallery", *attacks()}
    for name, entry in attacks().items():
        assert found.costs[name]["largest_change"] > 0
        if entry.bounded:
            assert found.costs[name]["largest_change"] <= 8
    assert found.costs["square"]["embeddings"] == 1 + budget.queries
    assert found.costs["square"]["gradients"] == 0


def test_a_query_is_attacked_the_same_however_many_others_are(subject, tmp_path):
    whole, _ = attack_images("fna", subject, QUICK)
    few = subject.some(5)
    some, _ = attack_images("fna", few, QUICK)
    assert float((whole[few.rows] != some).float().mean()) < 0.02
    plan = replace(QUICK, attacks=("fna", "ifgsm"))
    among_all = evaluate(subject, tmp_path / "all", plan).rankings
    among_few = evaluate(few, tmp_path / "few", plan).rankings
    for name in plan.attacks:
        expected = among_all[name].ap[few.rows]
        torch.testing.assert_close(among_few[name].ap, expected, rtol=0, atol=0.02)


def test_an_attack_on_the_gallery_leaves_distractors_clean(subject):
    assert int(subject.gallery.pids[subject.targets("gallery")].min()) > 0


def test_resuming_runs_only_what_is_missing_and_reports_the_same(subject, tmp_path, monkeypatch):
    whole = evaluate(subject, tmp_path / "whole", QUICK)
    evaluate(subject, tmp_path / "part", replace(QUICK, attacks=("fna",)))
    ran = []
    monkeypatch.setattr(
        robustness, "write_json", lambda path, kept: ran.append(path.stem) or write_json(path, kept)
    )
    resumed = evaluate(subject, tmp_path / "part", QUICK)
    assert ran == ["sma", "ifgsm"]
    assert resumed.summary() == whole.summary()
    for name in QUICK.attacks:
        first, second = ((tmp_path / part / f"{name}.json") for part in ("whole", "part"))
        assert first.read_bytes() == second.read_bytes()


def test_a_damaged_result_is_measured_again(subject, tmp_path):
    path, plan = tmp_path / "fna.json", replace(QUICK, attacks=("fna",))
    evaluate(subject, tmp_path, plan)
    whole = path.read_text()
    first = json.loads(whole)["queries"]["ap"][0]
    path.write_text(whole.replace(str(first), "77.7", 1))
    assert evaluate(subject, tmp_path, plan).rankings["fna"].ap[0] == pytest.approx(first)
    assert path.read_text() == whole


@pytest.mark.parametrize("change", [{"seed": 1}, {"budget": Budget(steps=5)}])
def test_another_plan_does_not_reuse_a_result(subject, tmp_path, change):
    plan = replace(QUICK, attacks=("sma",))
    evaluate(subject, tmp_path, plan)
    before = json.loads((tmp_path / "sma.json").read_text())
    evaluate(subject, tmp_path, replace(plan, **change))
    after = json.loads((tmp_path / "sma.json").read_text())
    assert before["key"] != after["key"]


def test_another_model_does_not_reuse_a_result(subject, query, gallery, tmp_path):
    plan = replace(QUICK, attacks=("sma",))
    evaluate(subject, tmp_path, plan)
    before = json.loads((tmp_path / "sma.json").read_text())
    other = Subject.of(lambda x: subject.embed(x) + 1, query, gallery)
    evaluate(other, tmp_path, plan)
    after = json.loads((tmp_path / "sma.json").read_text())
    assert before["key"] != after["key"]


def test_some_queries_are_exactly_as_many_as_asked_for(subject):
    assert [len(subject.some(n).rows) for n in (0, 1, 5, 13, 24, 99)] == [24, 1, 5, 13, 24, 24]
    assert len(subject.some(5).query.pids) == 24
    with pytest.raises(InputError, match="at least one"):
        subject.some(-1)
    assert len(evenly(50_000, 49_998).unique()) == 49_998


def test_some_queries_are_taken_from_those_that_can_be_answered(subject, tmp_path):
    """Also by the dear attacks: of others nothing could be scored."""
    lost = torch.isin(torch.arange(24), torch.tensor([0, 11, 23]))
    query = replace(subject.query, pids=torch.where(lost, 0, subject.query.pids))
    sparse = replace(subject, query=query)
    assert torch.equal(answerable(query, subject.gallery), rank(query, subject.gallery).valid)
    assert not lost[sparse.some(3).rows].any()
    assert len(sparse.some(24).rows) == 21
    found = evaluate(sparse, tmp_path, replace(QUICK, attacks=("square",), dear_queries=2))
    assert found.rankings["square"].valid.tolist() == [True, True]


def test_rows_are_tidy(subject, tmp_path):
    rows = evaluate(subject, tmp_path, QUICK).tidy()
    assert list(rows.columns) == ["attack", "metric", "value"]
    assert not rows.duplicated(["attack", "metric"]).any()
    assert set(rows["metric"]) >= {"mAP", "rank1", "rank10", "mINP", "std", "worst_decile"}
    assert set(attack_names("standard")) >= set(QUICK.attacks)


class Fussy(nn.Module):
    """A model with one fault."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault
        self.train(fault == "training")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        flat = images.flatten(1)[:, :8]
        if self.fault == "single" and len(images) == 1:
            raise ValueError("Expected more than 1 value per channel")
        if self.fault == "switches":
            self.train()
        wrong = {
            "nan": flat * torch.nan,
            "flat": flat.sum(1),
            "batch": flat[:1].repeat(2, 1)[: max(1, len(images) - 1)],
            "length": flat[:, : 1 + len(images)],
            "integer": flat.long(),
        }
        return wrong.get(self.fault, flat)


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("training", "is in training mode"),
        ("switches", "switched itself to training mode"),
        ("single", "fails on a batch of 1 images"),
        ("nan", "NaN"),
        ("flat", r"\(N, D\)"),
        ("batch", "2 images gave 1 embeddings"),
        ("length", "lengths"),
        ("integer", "give floats"),
    ],
)
def test_a_faulty_model_gets_one_sentence(query, gallery, fault, sentence):
    with pytest.raises(InputError, match=sentence):
        Subject.of(Fussy(fault), query, gallery)


def test_a_part_in_training_mode_is_told(query, gallery):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.BatchNorm1d(12)).eval()
    model[2].train()
    with pytest.raises(InputError, match="a part of it, is in training mode"):
        Subject.of(model, query, gallery)


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16])
def test_a_model_may_answer_in_another_precision(net, query, gallery, subject, tmp_path, kind):
    plan = replace(QUICK, attacks=("auto", "gallery"))
    found = evaluate(Subject.of(lambda x: net(x).to(kind), query, gallery), tmp_path, plan)
    same = evaluate(subject, tmp_path / "same", plan).summary()
    assert found.summary()["auto"]["mAP"] == pytest.approx(same["auto"]["mAP"], abs=5.0)
    assert found.summary()["gallery"]["mAP"] < found.summary()["clean"]["mAP"]


def test_unknown_attacks_and_a_missing_surrogate_are_told(subject, tmp_path):
    with pytest.raises(InputError, match="unknown attack 'pgd'"):
        Plan(attacks=("pgd",))
    with pytest.raises(InputError, match="surrogate"):
        evaluate(subject, tmp_path, Plan(attacks=("fna", "transfer")))
    assert not list(tmp_path.iterdir())


def test_a_budget_of_parts_of_a_level_is_refused():
    with pytest.raises(InputError, match=r"eps is 0\.9/255.*give whole levels"):
        Plan(budget=Budget(eps=0.9 / 255))


def test_a_file_beside_the_data_shadows_no_package(tmp_path, monkeypatch):
    (tmp_path / "ours.py").write_text("import torch\nload = torch.nn.Identity\n")
    (tmp_path / "kornia.py").write_text("load = None\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert isinstance(load_factory("ours:load"), nn.Identity)
    assert find_spec("kornia").origin != str(tmp_path / "kornia.py")


class Mended(nn.Module):
    """Answers like `net`, with its gradient or without."""

    def __init__(self, net: nn.Module, scale: float) -> None:
        super().__init__()
        self.net, self.scale = net, scale
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.net(images)
        return found.detach() + self.scale * (found - found.detach())


def stored(folder, name="fna"):
    return json.loads((folder / f"{name}.json").read_text())


def test_a_mended_gradient_is_attacked_again(net, query, gallery, tmp_path):
    plan = replace(QUICK, attacks=("fna",))
    masked, mended = (Subject.of(Mended(net, scale), query, gallery) for scale in (0.0, 1.0))
    before = evaluate(masked, tmp_path, plan).summary()["fna"]["mAP"]
    after = evaluate(mended, tmp_path, plan).summary()["fna"]["mAP"]
    assert after < before - 10


@pytest.mark.parametrize("labels", ["pids", "camids"])
def test_permuted_labels_are_attacked_again(subject, tmp_path, labels):
    plan = replace(QUICK, attacks=("fna",))
    evaluate(subject, tmp_path, plan)
    before = stored(tmp_path)["key"]
    swapped = replace(subject.gallery, **{labels: getattr(subject.gallery, labels).flip(0)})
    evaluate(replace(subject, gallery=swapped), tmp_path, plan)
    assert stored(tmp_path)["key"] != before


def test_an_edited_attack_is_attacked_again_and_the_others_are_kept(subject, tmp_path, monkeypatch):
    evaluate(subject, tmp_path, QUICK)
    before = {name: stored(tmp_path, name) for name in QUICK.attacks}
    edited = replace(find_attack("sma"), craft=lambda scene: scene.images)
    monkeypatch.setitem(registry._ENTERED, "sma", edited)
    evaluate(subject, tmp_path, QUICK)
    after = {name: stored(tmp_path, name) for name in QUICK.attacks}
    assert [name for name in QUICK.attacks if before[name] != after[name]] == ["sma"]


@pytest.mark.parametrize("part", ["attack_images", "measure", "worst_of_none"])
def test_edited_measuring_is_measured_again(subject, tmp_path, monkeypatch, part):
    plan = replace(QUICK, attacks=("fna",))
    evaluate(subject, tmp_path, plan)
    before = stored(tmp_path)
    original = getattr(robustness, part, None)

    def edited(*given):
        return original(*given)

    monkeypatch.setattr(robustness, part, edited, raising=False)
    evaluate(subject, tmp_path, plan)
    assert (stored(tmp_path) != before) == (part != "worst_of_none")


def test_the_identity_of_a_model_survives_other_threads(subject):
    threads = torch.get_num_threads()
    first = subject.slopes()
    torch.set_num_threads(2)
    again = subject.slopes()
    torch.set_num_threads(threads)
    assert first == again


ATTACK = '''
from ddid.attack.registry import attack

@attack("a test", "black pixels")
def blackout(scene):
    """Darkens everything as far as eps allows."""
    return (scene.images - scene.budget.eps).clamp_min(0)
'''


def test_an_attack_is_one_file(subject, tmp_path, monkeypatch):
    """Written after everything was imported, it is in the worst case, the tables and the bars."""
    (tmp_path / "blackout.py").write_text(ATTACK)
    monkeypatch.setattr(registry, "_ENTERED", attacks())
    monkeypatch.setattr(ddid.attack, "__path__", [*ddid.attack.__path__, str(tmp_path)])
    assert "blackout" in attack_names("standard")
    assert "blackout" in Plan().attacks
    found = evaluate(subject, tmp_path, replace(QUICK, attacks=("fna", "blackout")))
    dark = found.rankings["blackout"].ap
    assert bool((found.rankings["worst"].ap <= dark).all())
    assert "blackout" in found.table().index
    assert "blackout" in set(found.tidy()["attack"])


def test_the_mean_over_unseen_families_is_of_every_query(subject, tmp_path):
    names = [*attack_names("unseen")[:1], "color"]
    found = evaluate(subject, tmp_path, replace(QUICK, attacks=("fna", *dict.fromkeys(names))))
    scores = found.summary()
    wanted = sum(scores[name]["mAP"] for name in dict.fromkeys(names)) / len({*names})
    assert scores["unseen"]["mAP"] == pytest.approx(wanted)
    queries = found.queries().query("attack == 'unseen'")
    assert queries["ap"].mean() == pytest.approx(wanted)
    assert "unseen" not in evaluate(subject, tmp_path, QUICK).summary()


def test_dear_attacks_may_ask_fewer_queries(subject, tmp_path):
    plan = Plan(("fna", "square"), Budget(steps=3, queries=5), dear_queries=6)
    found = evaluate(subject, tmp_path, plan)
    assert len(found.rankings["square"].ap) == 6
    assert len(found.rankings["worst"].ap) == len(subject.rows)
    queries = found.queries()
    of_square = queries[queries["attack"] == "square"]["query"].tolist()
    assert of_square == found.rows["square"].tolist()
    clean = queries[queries["attack"] == "clean"].set_index("query")
    assert set(of_square) <= set(clean.index)


def test_unseen_is_one_number_though_dear_attacks_ask_fewer_queries(subject, tmp_path):
    plan = Plan(("color", "square"), Budget(steps=3, queries=5), dear_queries=6)
    found = evaluate(subject, tmp_path, plan)
    rows = found.queries().pivot(index="query", columns="attack", values="ap")
    shared = rows.dropna(subset=["square"])
    wanted = shared[["color", "square"]].to_numpy().mean()
    assert found.summary()["unseen"]["mAP"] == pytest.approx(wanted)
    assert rows["unseen"].dropna().index.equals(shared.index)
    assert rows["unseen"].mean() == pytest.approx(wanted)


def test_knowing_the_gallery_is_never_better_for_a_query(subject, tmp_path):
    plan = replace(QUICK, attacks=("fna", "gallery"), gallery_steps=10, gallery_restarts=1)
    rankings = evaluate(subject, tmp_path, plan).rankings
    assert bool((rankings["worst_gallery"].ap <= rankings["worst"].ap).all())
    assert float(rankings["gallery"].ap.mean()) < float(rankings["fna"].ap.mean())
