"""The training loop: it learns, resumes exactly, and refuses what cannot work."""

import json
from dataclasses import replace

import pytest
import torch

from ddid.defense import training
from ddid.defense.fnes import FNES
from ddid.defense.log import read_log
from ddid.defense.recipes import find_recipe
from ddid.defense.training import TrainConfig, learning_rate, train
from ddid.errors import InputError
from ddid.model import ModelConfig, ReIDNet, save_model


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


def test_fnes_on_an_attack_without_a_target_is_refused(colours, short, tmp_path):
    recipe = replace(find_recipe("classifier_at"), fnes=FNES())
    with pytest.raises(InputError, match="FNES follows the class an attack aims at"):
        train(recipe, colours, short, tmp_path)


def test_the_seed_decides_everything(colours, short, tmp_path):
    runs = [
        train("ddid", colours, replace(short, seed=seed), tmp_path / name)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2])


def test_the_callers_random_state_is_left_alone(colours, short, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train("none", colours, short, tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_folder_is_not_trained_again(colours, short, tmp_path):
    first = train("none", colours, short, tmp_path)
    assert same_weights(first, train("none", colours, short, tmp_path, kill_at(1)))


def test_a_folder_of_another_run_is_refused(colours, short, tmp_path):
    train("none", colours, short, tmp_path)
    with pytest.raises(InputError, match=r"was trained with lr = 0\.001, now it is 0\.5"):
        train("none", colours, replace(short, lr=0.5), tmp_path)


def test_images_that_changed_are_noticed(colours, short, tmp_path):
    train("none", colours, short, tmp_path)
    changed = replace(colours, images=colours.images.flip(0))
    with pytest.raises(InputError, match="was trained with images"):
        train("none", changed, short, tmp_path)


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(colours, short, tmp_path):
    recipe = find_recipe("none")
    calls = iter(range(10))

    def explode_later(batch, clean, attacked):
        return {"loss": clean.logits.sum() * (float("nan") if next(calls) == 3 else 0.0)}

    with pytest.raises(InputError, match="training broke down: loss is no number"):
        train(replace(recipe, loss=explode_later), colours, short, tmp_path)
    assert [line["step"] for line in read_log(tmp_path).to_dict("records")] == [1, 2, 3]
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_a_batch_with_one_identity_is_refused(colours, short, tmp_path):
    with pytest.raises(InputError, match="at least 2, so that every process sees two"):
        train("metric_at", colours, replace(short, identities=1), tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"lr": -1.0}, {"warmup": 1.0}, {"eps": 8.0}, {"eps": -1.0}]
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError):
        TrainConfig(**wrong)


def test_learning_rate_warms_up_peaks_and_ends_near_zero():
    rates = [learning_rate(step, TrainConfig(steps=100)) for step in range(100)]
    assert rates[0] < 0.1
    assert max(rates) == rates[10] == 1.0
    assert rates[-1] < 0.001


@pytest.mark.parametrize("recipe", ["metric_at", "offline_at"])
def test_passes_are_counted(recipe, colours, short, tmp_path):
    """8 images: guides, two attack steps, clean and attacked; all but the guides backwards."""
    train(recipe, colours, short, tmp_path)
    assert set(read_log(tmp_path)["forward"]) == {8 * 5}
    assert set(read_log(tmp_path)["backward"]) == {8 * 4}


def test_settings_survive_the_model_file(colours, short, tmp_path):
    recipe = find_recipe("ddid")
    train(recipe, colours, short, tmp_path)
    notes = json.loads((tmp_path / "model.json").read_text())["notes"]
    assert notes["settings"] == training.describe_run(recipe, colours, short)


def test_a_transformer_takes_the_same_path(colours, short, tmp_path):
    config = replace(short, backbone="dinov2-tiny", steps=2)
    net = train("ddid", colours, config, tmp_path)
    assert torch.isfinite(net(torch.rand(2, 3, 32, 16))).all()


def test_a_model_that_is_no_trained_one_is_refused(colours, short, tmp_path):
    save_model(ReIDNet(ModelConfig(6, height=32, width=16)), tmp_path)
    with pytest.raises(InputError, match="was trained with"):
        train("none", colours, short, tmp_path)
