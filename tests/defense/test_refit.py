"""The classifier experiment: only the classifier changes, and it learns."""

import pandas as pd
import pytest
import torch

from ddid.attack.budget import Budget
from ddid.data.likeness import least_repeated
from ddid.defense.refit import classifier_accuracy, refit_classifier
from ddid.defense.training import TrainConfig
from ddid.errors import InputError
from ddid.model import ModelConfig, ReIDNet
from tests.cells import code_cells


def accuracy(net, images):
    return classifier_accuracy(net, images, images.classes)


def split(images):
    held = least_repeated(images)
    return images.take(~held), images.take(held)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return ReIDNet(ModelConfig(6, height=32, width=16)).eval()


def test_refitting_learns_and_touches_the_classifier_only(net, colours):
    before = {name: value.clone() for name, value in net.state_dict().items()}
    refitted = refit_classifier(net, colours, steps=100)
    assert accuracy(refitted, colours) > accuracy(net, colours)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    changed = {n for n, v in refitted.state_dict().items() if not torch.equal(v, before[n])}
    assert changed == {"classifier.weight"}


def test_accuracy_equals_its_loop(net, colours):
    with torch.no_grad():
        logits = [net(image[None].float() / 255, heads=True).logits for image in colours.images]
    right = sum(int(v.argmax()) == int(t) for v, t in zip(logits, colours.labels, strict=True))
    assert accuracy(net, colours) == pytest.approx(100 * right / len(colours))


def test_attack_lowers_the_accuracy(net, colours):
    refitted = refit_classifier(net, colours, steps=100)
    attacked = classifier_accuracy(refitted, colours, colours.classes, Budget(steps=5))
    assert attacked < accuracy(refitted, colours)


def test_a_part_of_the_images_keeps_the_classes_of_the_whole(net, colours):
    refitted = refit_classifier(net, colours, steps=100)
    parts = [colours.take(colours.pids == pid) for pid in colours.classes]
    shares = [classifier_accuracy(refitted, part, colours.classes) * len(part) for part in parts]
    assert sum(shares) / len(colours) == pytest.approx(accuracy(refitted, colours))
    with pytest.raises(InputError, match="is no class"):
        classifier_accuracy(refitted, colours, colours.classes[1:])


def test_a_refitted_classifier_knows_the_identities_it_was_fitted_on(net, colours):
    part = colours.take(colours.pids > 7)
    refitted = refit_classifier(net, part, steps=100)
    assert refitted(part.images[:1].float() / 255, heads=True).logits.shape == (1, 3)
    assert accuracy(refitted, part) > 50


def experiment(nets, fitted, probes, gallery, query, strategies=None):
    """Notebook 03's table, by its own cell."""
    cells = code_cells("03_adversarial_meta_training")
    (code,) = (source for source, _ in cells if "refit_classifier(trained" in source)
    given = {"train_set": fitted, "probes": probes, "unseen": gallery, "query": query}
    given |= {"nets": nets, "strategies": strategies or {}, "refit_steps": 100}
    tools = {"torch": torch, "pd": pd, "Budget": Budget, "refit_classifier": refit_classifier}
    names = given | tools | {"classifier_accuracy": classifier_accuracy, "config": TrainConfig()}
    exec(code, names)
    return names["accuracy"]


def test_the_experiment_compares_each_classifier_with_its_refitted_self(net, colours):
    rest, held = split(colours)
    strangers = rest.take(rest.pids > 7)
    table = experiment({"mine": net}, rest, held, strangers, held)
    kinds = ["as trained", "refitted", "unseen identities"]
    assert list(table.index) == [("mine", kind) for kind in kinds]
    assert (table["PGD accuracy"] <= table["clean accuracy"]).all()
    expected = {
        "as trained": classifier_accuracy(net, held, rest.classes),
        "refitted": classifier_accuracy(refit_classifier(net, rest, 100), held, rest.classes),
        "unseen identities": accuracy(
            refit_classifier(net, strangers, 100), held.take(held.pids > 7)
        ),
    }
    for kind, share in expected.items():
        assert table.loc[("mine", kind), "clean accuracy"] == pytest.approx(share)


def test_who_may_have_learnt_from_the_probes_is_asked_for_strangers_alone(net, colours):
    rest, held = split(colours)
    nets, strategies = {"plain": net, "balanced": net}, {"plain": "", "balanced": "gated"}
    table = experiment(nets, rest, held, rest.take(rest.pids > 7), held, strategies)
    asked = [("plain", "as trained"), ("plain", "refitted")]
    asked += [(name, "unseen identities") for name in ("plain", "balanced")]
    assert list(table.index) == asked
