"""The generator learns, resumes exactly, and stops when it goes astray."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open

from ddid.balance import training as module
from ddid.balance.training import (
    GeneratorTrainer,
    GeneratorTraining,
    learning_rate,
    pays_bfloat16,
    train_generator,
)
from ddid.errors import InputError

SHORT = GeneratorTraining(steps=6, batch=8, checkpoint_every=2)


def weights(generator):
    return generator.denoiser.state_dict()


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


class Killed(Exception):
    pass


def test_a_killed_run_ends_as_if_it_had_not_been(real, config, tmp_path):
    whole = train_generator(real, config, SHORT, tmp_path / "whole")

    def kill(what, done, total):
        if done == 5:
            raise Killed

    with pytest.raises(Killed):
        train_generator(real, config, SHORT, tmp_path / "parts", kill)
    with safe_open(tmp_path / "parts" / "checkpoint.safetensors", framework="pt") as stream:
        names = list(stream.keys())
    assert any("unet" in name for name in names)
    assert not [name for name in names if "prior" in name], "it is measured again, not stored"
    seen = []
    resumed = train_generator(
        real, config, SHORT, tmp_path / "parts", lambda what, done, total: seen.append(done)
    )
    assert seen == [5, 6]
    assert same(weights(whole), weights(resumed))
    assert not (tmp_path / "parts" / "checkpoint.safetensors").exists()


def test_a_finished_run_is_not_trained_again_but_checked(real, config, tmp_path):
    first = train_generator(real, config, SHORT, tmp_path)
    calls = []
    again = train_generator(real, config, SHORT, tmp_path, lambda *_: calls.append(1))
    assert not calls
    assert same(weights(first), weights(again))
    with pytest.raises(InputError, match="lr"):
        train_generator(real, config, replace(SHORT, lr=1e-4), tmp_path)


def test_sigma_data_is_measured(real, config, tmp_path):
    generator = train_generator(real, config, replace(SHORT, steps=1), tmp_path)
    measured = (real.images.float() / 127.5 - 1).std().item()
    assert generator.denoiser.sigma_data.item() == pytest.approx(measured, rel=1e-4)


def test_the_loss_falls(real, config):
    training = GeneratorTraining(steps=40, batch=16)
    trainer = GeneratorTrainer(real, config, training, Accelerator())
    losses = [trainer.step(step).item() for step in range(40)]
    assert sum(losses[-15:]) < 0.9 * sum(losses[:15])


def test_labels_are_hidden_independently(real, config):
    training = GeneratorTraining(batch=4000, label_dropout=0.25)
    trainer = GeneratorTrainer(real, config, training, Accelerator())
    identity, camera, _ = trainer.draw(0).condition
    no_identity, no_camera = identity == config.nulls[0], camera == config.nulls[1]
    assert no_identity.float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert no_camera.float().mean().item() == pytest.approx(0.25, abs=0.03)
    both = (no_identity & no_camera).float().mean().item()
    assert both == pytest.approx(0.25**2, abs=0.02)


def test_the_average_follows_the_weights(real, config):
    trainer = GeneratorTrainer(real, config, SHORT, Accelerator())
    before = next(iter(trainer.average.parameters())).clone()
    with torch.no_grad():
        trainer.parameters[0].fill_(1.0)
    trainer.follow(19)
    keep = 0.5 ** (1 / (SHORT.half_life * 20))
    after = next(iter(trainer.average.parameters()))
    assert torch.allclose(after, keep * before + (1 - keep), atol=1e-6)
    assert not after.requires_grad
    assert after.grad_fn is None


def test_a_loss_that_is_no_number_stops_the_run(real, config, tmp_path, monkeypatch):
    nan = torch.tensor(torch.nan, requires_grad=True)
    monkeypatch.setattr(module, "edm_loss", lambda *_: nan)
    with pytest.raises(InputError, match="no number at step 2"):
        train_generator(real, config, SHORT, tmp_path)
    assert not (tmp_path / "generator.json").exists()


def test_the_rate_warms_up_and_falls_to_nothing():
    training = GeneratorTraining(steps=100, warmup=0.1)
    rates = [learning_rate(step, training) for step in range(100)]
    assert max(rates) == pytest.approx(1)
    assert rates.index(max(rates)) == 10
    assert rates[-1] < 0.001


def test_bfloat16_needs_the_instructions(monkeypatch):
    cpu = torch.device("cpu")
    for features, pays in (({"avx2": True}, False), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda f=features: f, raising=False)
        assert pays_bfloat16(cpu) is pays


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"lr": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        GeneratorTraining(**wrong)
