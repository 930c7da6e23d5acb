"""Dishonest models are flagged one by one; honest ones, defended or not, raise no flag."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.autograd import grad

from ddid.attack.budget import Budget
from ddid.attack.scene import Scene
from ddid.attack.seen import fna
from ddid.data.images import to_unit
from ddid.errors import InputError
from ddid.report import audit as module
from ddid.report import robustness
from ddid.report.audit import (
    AUDIT_ATTACKS,
    audit,
    compare_attacks,
    compare_budgets,
    slack,
    sweep,
    sweep_budgets,
)
from ddid.report.robustness import Plan
from ddid.report.subject import Subject

PLAN = Plan(attacks=(), budget=Budget(queries=40))
SHORT = {"few": 12, "levels": (8,)}  # what keeps a test short


class Around(nn.Module):
    """A dishonest layer around an honest model."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.eval()


class Quantized(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.net((images * 12).round() / 12)


class Saturated(Around):
    def forward(self, images: Tensor) -> Tensor:
        return torch.tanh(2000 * self.net(images))


class Noisy(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.net(images + 0.1 * torch.randn_like(images))


class Jpeg(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.net(torch.stack([self.squeeze(image) for image in images]))

    @staticmethod
    def squeeze(image: Tensor) -> Tensor:
        pixels = (image.detach() * 255).byte().permute(1, 2, 0).numpy()
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=50)
        return torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1) / 255


class Severed(Around):
    def forward(self, images: Tensor) -> Tensor:
        return self.net(images.detach())


class Unnumbered(Around):
    """Answers right; its gradient is no number."""

    def forward(self, images: Tensor) -> Tensor:
        found = self.net(images)
        nothing = (images.flatten(1).sum(1, keepdim=True) * 0).sqrt()  # slope: infinity times 0
        return found + nothing


class Vanishing(Around):
    def forward(self, images: Tensor) -> Tensor:
        """Answers right, with a gradient that is nearly nothing and points anywhere."""
        found = self.net(images)
        return found.detach() + 1e-6 * (found.flip(1) - found.flip(1).detach())


class Cached(Around):
    """Answers with the stored embedding of the most similar picture it knows."""

    def __init__(self, net: nn.Module, known: Tensor) -> None:
        super().__init__(net)
        self.known = known

    def forward(self, images: Tensor) -> Tensor:
        nearest = torch.cdist(images.flatten(1), self.known.flatten(1)).argmin(1)
        here = self.net(self.known[nearest])
        return here.detach() + 0 * self.net(images)


class Memory(Cached):
    """Returns a perfect answer for pictures it knows exactly, an honest one otherwise."""

    def forward(self, images: Tensor) -> Tensor:
        distances = (images.flatten(1)[:, None] - self.known.flatten(1)).abs().amax(2)
        exact = distances.amin(1, keepdim=True) < 1e-4
        return self.net(images) + 50 * exact * nn.functional.one_hot(distances.argmin(1) % 24, 24)


class Optimizing(Around):
    def forward(self, images: Tensor) -> Tensor:
        """Moves the image to where its embedding is short before answering."""
        with torch.enable_grad():
            moved = images.detach().requires_grad_()
            (gradient,) = grad(self.net(moved).square().sum(), moved)
        return self.net(images - 0.02 * gradient.sign())


class Company(Around):
    def forward(self, images: Tensor) -> Tensor:
        found = self.net(images)
        return found - found.mean(0, keepdim=True)


class Counting(Around):
    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        self.register_buffer("asked", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.asked += 1
        return self.net(images)


DISHONEST = {
    "input quantization": (Quantized, "gradients"),
    "saturated output": (Saturated, "gradients"),
    "random input noise": (Noisy, "deterministic"),
    "JPEG inside": (Jpeg, "gradients"),
    "zero gradients": (Severed, "gradients"),
    "gradients that are no numbers": (Unnumbered, "gradients"),
    "vanishing gradients": (Vanishing, "gradients are true"),
    "cached answers": (Cached, "small changes"),
    "remembered answers": (Memory, "small changes"),
    "optimization at inference": (Optimizing, "no optimization at inference"),
    "batch statistics": (Company, "independent of the batch"),
    "state": (Counting, "evaluation mode"),
}


@pytest.mark.parametrize(("make", "flag"), DISHONEST.values(), ids=DISHONEST.keys())
def test_a_dishonest_model_is_flagged_for_what_it_does(
    make, flag, net, query, gallery, tmp_path, torch_seed
):
    known = torch.cat([to_unit(query.images), to_unit(gallery.images)])
    model = make(net, known) if issubclass(make, Cached) else make(net)
    result = audit(Subject.of(model, query, gallery), tmp_path, PLAN, **SHORT)
    assert flag in result.flags
    assert json.loads((tmp_path / "audit.json").read_text())["flags"] == result.flags


@pytest.fixture
def torch_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def defended(query, gallery):
    """A small network trained on attacked pictures of the test's own kind."""
    torch.manual_seed(1)
    features = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Flatten())
    net = nn.Sequential(features, nn.Linear(16 * 7 * 3, 24))
    head, images = nn.Linear(24, 13), to_unit(gallery.images)
    budget = Budget(step=3 / 255, steps=3)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(60):
        attacked = fna(Scene(net, images, gallery.pids, budget, torch.Generator()))
        loss = nn.functional.cross_entropy(head(net(attacked)), gallery.pids)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize("kind", ["net", "defended"])
def test_an_honest_model_raises_no_flag(kind, request, query, gallery, tmp_path):
    model = request.getfixturevalue(kind)
    result = audit(Subject.of(model, query, gallery), tmp_path, PLAN, **SHORT)
    assert result.flags == [], result.checks().to_string()


def test_nobody_is_asked_about_pixels_that_there_are_not(net, query, gallery, tmp_path):
    """Black and white ones stay in the range that models are promised."""

    def strict(images):
        assert 0 <= images.min() <= images.max() <= 1
        return net((images + 1e-3) ** (1 / 2.2))

    sides = [replace(side, images=side.images.clone()) for side in (query, gallery)]
    for side in sides:
        side.images[:, :, ::2] = 255 * (side.images[:, :, ::2] > 127)
    result = audit(Subject.of(strict, *sides), tmp_path, PLAN, **SHORT)
    assert "gradients are true" not in result.flags


def test_a_plain_function_is_audited_too(net, query, gallery, tmp_path):
    result = audit(Subject.of(lambda x: net(x), query, gallery), tmp_path, PLAN, **SHORT)
    assert result.flags == []
    assert set(AUDIT_ATTACKS) <= result.robustness.summary().keys()


def test_an_interrupted_audit_ends_with_the_same_bytes(subject, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    audit(subject, first, PLAN, **SHORT)
    stored = (first / "audit.json").read_bytes()
    audit(subject, second, PLAN, **SHORT)
    (second / "audit.json").unlink()
    (second / "attacks" / "sma.json").unlink()
    audit(subject, second, PLAN, **SHORT)
    assert (second / "audit.json").read_bytes() == stored


def test_an_audit_without_a_budget_is_refused(subject, tmp_path):
    with pytest.raises(InputError, match="an eps above 0"):
        audit(subject, tmp_path, Plan(budget=Budget(eps=0)))


def test_probes_ask_few_queries_even_where_the_curves_ask_all(subject, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(module, "PROBED", 3)
    monkeypatch.setattr(module, "question", lambda scene: asked.append(len(scene.images)) or [])
    audit(
        subject, tmp_path, Plan(attacks=(), budget=Budget(queries=4, steps=1)), few=0, levels=(8,)
    )
    assert asked == [3]


def test_every_verdict_has_evidence(subject, tmp_path):
    verdicts = audit(subject, tmp_path, PLAN, **SHORT).verdicts
    assert all(verdict.evidence and verdict.finding for verdict in verdicts)
    checks = [verdict.check for verdict in verdicts]
    assert len(checks) == len(set(checks)) >= 12


def test_more_eps_and_more_steps_hurt_more_and_equal_budgets_are_attacked_once(
    subject, tmp_path, monkeypatch
):
    ran, measure = [], robustness.measure
    monkeypatch.setattr(robustness, "measure", lambda *all: ran.append(all) or measure(*all))
    plan = Plan(("fna",), Budget(steps=8))
    table = sweep(subject, tmp_path, plan, sweep_budgets(plan.budget, [0, 2, 8]))
    assert len(ran) == 8  # of nine: eps_8 is steps_8
    maps = table.query("metric == 'mAP'").set_index(["attack", "budget"])["value"]
    assert maps["fna", "eps_0"] == maps["clean", "eps_0"]
    assert maps["fna", "eps_8"] == maps["fna", "steps_8"]
    assert maps["fna"][["eps_0", "eps_2", "eps_8", "eps_128"]].is_monotonic_decreasing
    assert maps["fna", "steps_8"] < maps["fna", "steps_1"]


def fake_curves(**changes: float) -> pd.DataFrame:
    """FNA's scores under each budget of the audit's sweep, honest unless changed."""
    scores = {"eps_8": 20.0, "eps_128": 0.0, "steps_1": 50.0, "steps_15": 20.0, "steps_60": 18.0}
    rows = [
        {"attack": "fna", "metric": metric, "budget": budget, "value": value}
        for budget, value in (scores | {"restarts_3": 19.0} | changes).items()
        for metric in ("mAP", "rank1")
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, []),
        ({"steps_60": 20.9}, []),
        ({"steps_60": 21.1}, ["more effort is never weaker"]),
        ({"restarts_3": 25.0}, ["more effort is never weaker"]),
        ({"eps_128": 11.0}, ["huge eps"]),
        ({"eps_16": 21.0}, []),
        ({"eps_16": 30.0}, ["more effort is never weaker"]),
        ({"eps_2": 10.0}, ["more effort is never weaker"]),
    ],
)
def test_budgets_are_judged_by_their_order(changes, flags):
    verdicts = compare_budgets(fake_curves(**changes), slack=1.0)
    assert [verdict.check for verdict in verdicts if not verdict.passed] == flags


def test_a_single_query_that_has_an_answer_may_not_decide(subject):
    few = subject.some(5)
    assert slack(few) == 20
    gone = subject.gallery.pids != subject.query.pids[0]
    rest = replace(few, gallery=subject.gallery[gone])
    assert slack(rest) == 25  # its first query has no right answer
    many = replace(subject, rows=subject.rows.repeat(50))
    assert slack(many) == 1


class Scores:
    """A robustness report of given scores."""

    def __init__(self, largest_change: int = 8, **scores: float) -> None:
        honest = {
            "clean": 80.0,
            "noise": 78.0,
            "fna": 20.0,
            "auto": 15.0,
            "square": 40.0,
            "gallery": 9.0,
        }
        self.scores = honest | {"transfer": 60.0} | scores
        self.costs = {"fna": {"largest_change": largest_change}, "patch": {"largest_change": 255}}

    def queries(self) -> pd.DataFrame:
        """Two queries, the second harder by 5; the square attack was asked about it alone."""
        rows = [
            {"query": query, "attack": name, "ap": value + shift}
            for name, value in self.scores.items()
            for query, shift in ((0, 5.0), (1, 0.0))
            if (name, query) != ("square", 0)
        ]
        return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, []),
        ({"noise": 20.0}, []),  # one attack may fail, if another shows the way
        ({"noise": 15.0}, ["noise"]),
        ({"noise": 80.0, "fna": 80.0, "auto": 80.0}, ["noise", "black box", "transfer"]),
        (dict.fromkeys(["noise", "fna", "auto", "square", "transfer", "gallery"], 80.0), []),
        ({"square": 14.5}, []),
        ({"square": 13.0}, ["black box"]),
        ({"transfer": 10.0}, ["transfer"]),
        ({"gallery": 15.5}, []),
        ({"gallery": 16.5}, ["gallery"]),
    ],
)
def test_attacks_are_judged_by_who_sees_more(changes, flags):
    verdicts = compare_attacks(Scores(**changes), slack=1.0)
    assert [verdict.check for verdict in verdicts if not verdict.passed] == flags
