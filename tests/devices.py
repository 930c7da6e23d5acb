"""One step of everything on a pretended device: nothing mixes devices, no loop waits for it."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch import nn

from ddid.attack import Budget, Scene, attacks, find_attack, gallery
from ddid.balance.gate import Gate
from ddid.balance.generator import GeneratorTask, GeneratorTraining, started
from ddid.balance.judge import JudgeTask, train_judge
from ddid.balance.network import GeneratorConfig
from ddid.balance.sampling import WAYS, Sampling, draw_images
from ddid.data.images import ImageSet
from ddid.defense.recipes import find_recipe, recipes
from ddid.defense.refit import classifier_accuracy, refit_classifier
from ddid.defense.training import Defence, TrainConfig
from ddid.metric.ranking import Embedded
from ddid.model import ModelConfig, ReIDNet
from ddid.report.explorer import Explorer
from ddid.report.probes import PROBES, question
from ddid.report.robustness import Plan, attack_images
from ddid.report.subject import Subject
from ddid.training.loop import Fit, Loop
from tests.pretended import WAITED, pretended

SHORT = TrainConfig(steps=3, identities=4, images_per_identity=2, attack_steps=2)


@pytest.fixture
def images():
    """24 images of noise: six identities, three cameras."""
    pixels = torch.randint(0, 256, (24, 3, 32, 16), dtype=torch.uint8)
    pids = torch.arange(6).repeat_interleave(4)
    return ImageSet(pixels, pids, torch.arange(24) % 3, tuple(map(str, range(24))))


def network(device):
    torch.manual_seed(0)
    return ReIDNet(ModelConfig(6, height=32, width=16)).to(device).eval()


def scene_on(device):
    """Eight images, a convolutional network and a gallery, all on the device."""
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.Flatten(), nn.Linear(8 * 7 * 3, 12)]
    net = nn.Sequential(*layers).to(device).eval()
    images, labels = torch.rand(8, 3, 16, 8).to(device), torch.arange(8, device=device) // 2
    ranked = Embedded(torch.randn(20, 12), torch.arange(20) % 4, torch.arange(20) % 3).to(device)
    clean, budget = net(images).detach(), Budget(steps=3, queries=4, restarts=2)
    camids = torch.zeros_like(labels)
    scene = Scene(net, images, labels, budget, torch.Generator(), clean=clean, camids=camids)
    return replace(scene, gallery=ranked, surrogate=scene)


def test_the_pretended_device_tells_waiting_and_mixing():
    with pretended() as device:
        there = torch.ones(3, device=device)
        with pytest.raises(RuntimeError, match="two devices"):
            _ = there + torch.zeros(3)
        assert WAITED == []
        _ = float(there.sum()), there[there > 2], there.tolist(), torch.zeros(3).copy_(there)
        assert WAITED == ["_local_scalar_dense", "index", "_to_copy", "copy_"]


@pytest.mark.parametrize("name", attacks())
def test_an_attack_never_waits_in_its_loop(name, monkeypatch):
    with pretended() as device:
        scene, entry = scene_on(device), find_attack(name)
        monkeypatch.setattr(gallery, "most_right", lambda right: 5)  # waits once, before the loop
        WAITED.clear()
        attacked = entry.craft(scene)
        attacked = attacked(scene) if entry.whole else attacked
        assert WAITED == []
        assert attacked.device == device
        assert attacked.shape == scene.images.shape


@pytest.mark.parametrize("name", [*recipes(), "ddid+ema"])
def test_a_training_step_never_waits(name, images):
    recipe = find_recipe(name)
    with pretended() as device:
        source = network(device) if recipe.needs_source else None
        task = Defence(recipe, images, SHORT, source)
        loop = Loop(task, replace(SHORT, average=recipe.average))
        loop.take(0)
        WAITED.clear()
        report = loop.take(1)
        assert WAITED == []
        assert all(value.device == device for value in report.values())


def test_training_of_generator_and_judge_never_waits(images):
    training = GeneratorTraining(batch=4)
    with pretended() as device:
        generator = started(images, GeneratorConfig.of(images), training)
        drawing = GeneratorTask(images, generator, training, device), training.settings(device)
        judging = JudgeTask(images.images, images.pids, 4, 0), Fit(3, 1e-3)
        for task, settings in (drawing, judging):
            loop = Loop(task, settings)
            loop.take(0)
            WAITED.clear()
            loop.take(1)
            assert WAITED == []


@pytest.mark.parametrize("way", WAYS)
def test_images_are_drawn_and_judged(way, images, tmp_path):
    training, rows = GeneratorTraining(batch=4), pd.DataFrame({"pid": [1, 2], "camid": [2, 0]})
    sampling = Sampling(way, steps=2, identity_weight=2.0)
    with pretended() as device:
        generator = started(images, GeneratorConfig.of(images), training)
        task = GeneratorTask(images, generator, training, device)
        WAITED.clear()
        drawn = draw_images(generator, task.references, rows.assign(seed=range(2)), sampling)
        assert set(WAITED) == {"_to_copy"}, "the finished images, nothing else"
        gate = Gate(train_judge(images, tmp_path, epochs=4))
        made = ImageSet(drawn, torch.tensor(rows["pid"]), torch.tensor(rows["camid"]), ("a", "b"))
        assert len(gate.verdicts(made)) == 2


def test_a_model_elsewhere_serves_transfer_and_a_function_says_where_it_computes(images):
    with pretended() as device:
        net, query = network(device), images.take(torch.arange(0, 24, 5))
        away = Subject.of(lambda pixels: net(pixels.to(device)), query, images)
        assert away.device == device
        here = Subject.of(lambda pixels: pixels.flatten(1), query, images)
        plan = Plan(("transfer",), Budget(steps=2))
        for subject, other in ((here, away), (away, here)):
            attacked, cost = attack_images("transfer", subject, plan, other)
            assert attacked.device.type == "cpu"
            assert cost["embeddings"] == 0 < cost["largest_change"]


def test_an_audit_asks_and_attacks_there(images):
    with pretended() as device:
        query = images.take(torch.arange(0, 24, 5))
        subject = Subject.of(network(device), query, images)
        verdicts = question(subject.scene("query", Budget(), torch.Generator()))
        assert len(verdicts) == len(PROBES)
        plan = Plan(("fna",), Budget(steps=2))
        assert attack_images("fna", subject, plan)[1]["largest_change"] > 0


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_the_explorer_shows_a_model_that_is_there(side, images):
    with pretended() as device:
        query = images.take(torch.arange(0, 24, 5))
        explorer = Explorer({"mine": network(device)}, query, images, answers=3)
        explorer.choose(side=side, steps=2, query=3)
        assert explorer.view.attacked.device.type == "cpu"
        assert 0 <= explorer.view.scores[1].ap <= 100


def test_a_classifier_is_fitted_anew_there(images):
    with pretended() as device:
        held = images.take(torch.arange(0, 24, 4))
        new = refit_classifier(network(device), images, 3)
        assert classifier_accuracy(new, held, images.classes, Budget(steps=2)) >= 0
