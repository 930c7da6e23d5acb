"""The training of defences: it learns, resumes exactly, and starts again where anything changed."""

from dataclasses import replace

import pytest
import torch

from ddid.attack.seen import sma
from ddid.backbones import pretrained
from ddid.balance.generator import GeneratorTraining, started
from ddid.balance.judge import JudgeTask
from ddid.balance.network import GeneratorConfig
from ddid.defense.fnes import FNES
from ddid.defense.losses import identity_terms
from ddid.defense.meta import Meta
from ddid.defense.recipes import batch_attacks, find_recipe
from ddid.defense.training import Defence, TrainConfig, train, training_key
from ddid.errors import InputError
from ddid.files import read_json
from ddid.model import ModelConfig, ReIDNet
from ddid.training import read_log


class KilledError(Exception):
    pass


def kill_at(step):
    def progress(what, done, total):
        if done == step:
            raise KilledError

    return progress


def same_weights(first, second):
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("recipe", ["none", "metric_at", "ddid"])
def test_training_learns_the_identities(recipe, colours, short, tmp_path):
    config = replace(short, steps=25, log_every=5, checkpoint_every=50)
    train(recipe, colours, config, tmp_path)
    log = read_log(tmp_path)
    assert log["clean_cls"].iloc[-1] < log["clean_cls"].iloc[0]
    assert log["clean_tri"].iloc[-1] < log["clean_tri"].iloc[0]


@pytest.mark.parametrize("step", [1, 3, 4])
def test_killed_anywhere_it_ends_with_the_same_weights_and_log(step, colours, short, tmp_path):
    whole = train("ddid", colours, short, tmp_path / "whole")
    with pytest.raises(KilledError):
        train("ddid", colours, short, tmp_path / "killed", kill_at(step))
    resumed = train("ddid", colours, short, tmp_path / "killed")
    assert same_weights(whole, resumed)
    logs = [read_log(tmp_path / name).drop(columns="seconds") for name in ("whole", "killed")]
    assert logs[0].equals(logs[1])


def test_fnes_without_extension_and_softening_is_plain_metric_at(colours, short, tmp_path):
    plain = find_recipe("metric_at")
    still = FNES(gamma=1.0, omega=(0.0, 0.0), shift=0.0)
    nets = [
        train(replace(plain, fnes=fnes), colours, short, tmp_path / str(fnes))
        for fnes in (None, still)
    ]
    assert same_weights(*nets)


def test_the_seed_decides_everything(colours, short, tmp_path):
    runs = [
        train("ddid", colours, replace(short, seed=seed), tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2])


def test_a_finished_folder_is_not_trained_again(colours, short, tmp_path):
    first = train("none", colours, short, tmp_path)
    assert same_weights(first, train("none", colours, short, tmp_path, kill_at(1)))


def other_data(**changes):
    return lambda given: {"train_set": replace(given["train_set"], **changes)}


def other_recipe(**changes):
    return lambda given: {"recipe": replace(given["recipe"], **changes)}


def rewritten_loss(batch, clean, attacked):
    return identity_terms(batch, clean, attacked)


@pytest.mark.parametrize(
    "changed",
    [
        lambda given: {"config": replace(given["config"], lr=0.5)},
        other_data(images=torch.zeros(24, 3, 32, 16, dtype=torch.uint8)),
        other_data(pids=torch.arange(24) % 6),
        other_data(camids=torch.zeros(24, dtype=torch.long)),
        other_recipe(loss=rewritten_loss),
        other_recipe(craft=sma),
    ],
    ids=["setting", "images", "identities", "cameras", "loss", "attack"],
)
def test_whatever_changes_is_trained_again(changed, colours, short, tmp_path):
    given = {"recipe": find_recipe("metric_at"), "train_set": colours, "config": short}
    train(**given, folder=tmp_path)
    steps = []
    train(**(given | changed(given)), folder=tmp_path, progress=lambda *told: steps.append(told[1]))
    assert steps == [1, 2, 3, 4, 5]
    assert (tmp_path / "before" / "1" / "model.json").exists()


def test_weights_to_start_from_count_by_content(colours, short, tmp_path):
    def start(seed):
        torch.manual_seed(seed)
        net = ReIDNet(ModelConfig(6, height=32, width=16))
        net.backbone.save_pretrained(tmp_path / "start")
        config = replace(short, weights=str(tmp_path / "start"))
        return training_key(find_recipe("none"), colours, config)

    assert start(0) == start(0) != start(1)


def test_what_changes_no_weight_does_not_count(colours, short):
    recipe = find_recipe("none")
    told = replace(short, log_every=3, checkpoint_every=2)
    assert training_key(recipe, colours, told) == training_key(recipe, colours, short)
    longer = replace(short, average=0.5)
    assert training_key(recipe, colours, longer) != training_key(recipe, colours, short)


def test_weights_are_averaged_as_the_recipe_or_the_config_says(colours, short, tmp_path):
    config = replace(short, average=0.5)
    own = replace(find_recipe("none"), average=0.5)
    nets = {
        name: train(recipe, colours, given, tmp_path / name)
        for name, recipe, given in (
            ("last", "none", short),
            ("config", "none", config),
            ("recipe", own, short),
        )
    }
    last, config, recipe = (net.state_dict()["classifier.weight"] for net in nets.values())
    assert torch.equal(config, recipe)
    assert not torch.equal(config, last)
    notes = [read_json(tmp_path / name / "model.json")["notes"]["training"] for name in nets]
    assert [note["average"] for note in notes] == [0.0, 0.5, 0.5]


def test_a_larger_budget_has_larger_steps(short):
    setting, named = replace(short, eps=16 / 255), find_recipe("metric_at-eps16")
    assert setting.budget == named.spend(short.budget)
    assert setting.budget.step == pytest.approx(8 / 255)
    assert replace(short, attack_step=1 / 255).budget.step == 1 / 255


def test_the_attack_of_a_ramped_recipe_grows_while_it_trains(colours, short, tmp_path):
    spent = []

    def watched(scene):
        spent.append(scene.budget.eps)
        return scene.images

    train(replace(find_recipe("none"), craft=watched, ramp=0.6), colours, short, tmp_path)
    assert spent == pytest.approx([short.eps * share for share in (1 / 3, 2 / 3, 1, 1, 1)])


def test_the_launchers_precision_counts(colours, short, monkeypatch):
    recipe = find_recipe("none")
    plain = training_key(recipe, colours, short)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert training_key(recipe, colours, short) != plain


def test_a_batch_with_one_identity_is_refused(colours, short, tmp_path):
    with pytest.raises(InputError, match="identities"):
        replace(short, identities=1)
    with pytest.raises(InputError, match="ask for 2 to 1 by"):
        train("metric_at", colours.take(colours.pids == colours.pids[0]), short, tmp_path)


@pytest.mark.parametrize("recipe", ["ddid", "half_batches"])
def test_halves_of_one_person_are_refused(recipe, colours, short, tmp_path):
    """Nobody is there to be told from: triplets would be 0, and FNA would aim at oneself."""
    with pytest.raises(InputError, match=r"batches of 3 identities .* at least 4"):
        train(recipe, colours, replace(short, identities=3), tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"images_per_identity": 1},
        {"steps": 0},
        {"lr": -1.0},
        {"warmup": 1.0},
        {"eps": 8.0},
        {"eps": -1.0},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError):
        TrainConfig(**wrong)


@pytest.mark.parametrize("recipe", ["metric_at", "offline_at"])
def test_passes_are_counted(recipe, colours, short, tmp_path):
    """8 images: guides, two attack steps, clean and attacked; all but the guides backwards."""
    train(recipe, colours, short, tmp_path)
    assert set(read_log(tmp_path)["forward"]) == {8 * 5}
    assert set(read_log(tmp_path)["backward"]) == {8 * 4}


@pytest.mark.parametrize("second_order", [False, True])
def test_a_transformer_takes_the_same_path(second_order, colours, short, tmp_path):
    config = replace(short, backbone="dinov2-tiny", steps=2)
    recipe = replace(find_recipe("ddid"), meta=Meta(second_order=second_order))
    net = train(recipe, colours, config, tmp_path)
    assert torch.isfinite(net(torch.rand(2, 3, 32, 16))).all()


def convolution(weights, size):
    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))


def test_a_backbone_of_ones_own_is_trained_and_its_code_counts(
    colours, short, tmp_path, monkeypatch
):
    monkeypatch.setattr(pretrained, "BACKBONES", {"mine": convolution})
    config = replace(short, steps=2, backbone="mine")
    net = train("ddid", colours, config, tmp_path)
    assert net(torch.rand(2, 3, 32, 16)).shape == (2, 8)
    (tmp_path / "weights").write_text("1")
    started = replace(config, weights=str(tmp_path / "weights"))
    recipe = find_recipe("ddid")
    keys = [training_key(recipe, colours, some) for some in (config, started)]
    (tmp_path / "weights").write_text("2")
    keys.append(training_key(recipe, colours, started))
    monkeypatch.setattr(pretrained, "BACKBONES", {"mine": lambda *given: convolution(*given)})
    keys.append(training_key(recipe, colours, config))
    assert len(set(keys)) == 4, "another start or another builder is another training"


def test_editing_an_attack_that_no_recipe_uses_trains_nothing_again(colours, short, monkeypatch):
    from ddid.attack import objectives

    pooled = replace(find_recipe("ddid"), meta=Meta(attacks=batch_attacks(["color"])))
    trained = [find_recipe("metric_at"), pooled]
    keys = [training_key(recipe, colours, short) for recipe in trained]
    monkeypatch.setattr(objectives, "odfa", lambda guides: None)
    assert [training_key(recipe, colours, short) for recipe in trained] == keys
    monkeypatch.setattr(objectives, "gap", lambda guides, target: None)
    assert training_key(trained[0], colours, short) != keys[0]


def test_an_attack_on_a_source_depends_on_how_the_source_is_trained(colours, short, monkeypatch):
    recipes = find_recipe("offline_at"), find_recipe("metric_at")
    before = [training_key(recipe, colours, short) for recipe in recipes]
    none = replace(find_recipe("none"), loss=lambda *given: identity_terms(*given))
    monkeypatch.setattr("ddid.defense.training.find_recipe", lambda _: none)
    after = [training_key(recipe, colours, short) for recipe in recipes]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]


def test_no_gpu_is_seeded_for_the_caller(colours, short, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    Defence(find_recipe("ddid"), colours, short)
    JudgeTask(colours.images, colours.pids, 1, 0)
    started(colours, GeneratorConfig.of(colours), GeneratorTraining())
    assert not seeded
