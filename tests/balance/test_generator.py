"""The generator learns, resumes exactly, and starts only from one made for the same people."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import interpolate

from ddid.balance.edm import Denoiser
from ddid.balance.generator import (
    GeneratorTask,
    GeneratorTraining,
    pays_bfloat16,
    started,
    train_generator,
    unfit,
)
from ddid.balance.network import GeneratorConfig, ReferenceUNet
from ddid.balance.references import References
from ddid.balance.sampling import Sampling, draw_images
from ddid.data import read_data
from ddid.errors import InputError
from ddid.files import read_json, write_json
from ddid.identity import identity
from ddid.notebook import NOTEBOOKS
from ddid.street.street import StreetConfig, write_street

SHORT = GeneratorTraining(steps=4, batch=8)


def weights(generator):
    return identity(weights=generator.denoiser.state_dict())


class Killed(Exception):
    pass


@pytest.mark.parametrize(("size", "patch"), [((64, 32), 2), ((128, 64), 2), ((256, 128), 4)])
def test_a_killed_run_ends_as_if_it_had_not_been(real, size, patch, tmp_path, monkeypatch):
    real = replace(real, images=interpolate(real.images, size))
    config = GeneratorConfig.of(real, (16, 16, 32), patch)
    every = SHORT.settings(torch.device("cpu"))
    monkeypatch.setattr(
        GeneratorTraining, "settings", lambda *_: replace(every, steps=4, checkpoint_every=2)
    )
    whole = train_generator(real, config, SHORT, tmp_path / "whole")

    def kill(what, done, total):
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        train_generator(real, config, SHORT, tmp_path / "parts", kill)
    seen = []
    resumed = train_generator(
        real, config, SHORT, tmp_path / "parts", lambda what, done, total: seen.append(done)
    )
    assert seen == [3, 4]
    assert weights(whole) == weights(resumed)
    train_generator(real, config, SHORT, tmp_path / "parts", lambda *_: seen.append(0))
    assert seen == [3, 4], "a finished run is not trained again"
    plan = pd.DataFrame({"pid": real.pids[:2], "camid": real.camids[:2], "seed": [0, 1]})
    references = References(real, config, torch.device("cpu"))
    drawn = draw_images(resumed, references, plan, Sampling(steps=2))
    assert drawn.shape == (2, 3, *size)
    assert not torch.equal(*drawn)


def test_an_edited_network_is_trained_again(real, config, tmp_path, monkeypatch):
    steps = []
    for spread in (250.0, 250.0, 1.0):
        monkeypatch.setattr("ddid.balance.network.NOISE_SPREAD", spread)
        tell = lambda _what, done, _total: steps.append(done)  # noqa: E731
        train_generator(real, config, SHORT, tmp_path, tell)
    assert steps == [1, 2, 3, 4] * 2


@pytest.mark.parametrize("labels", ["pids", "camids"])
def test_permuted_labels_are_learnt_again(real, config, tmp_path, labels):
    first = train_generator(real, config, SHORT, tmp_path)
    permuted = replace(real, **{labels: getattr(real, labels).flip(0)})
    assert weights(train_generator(permuted, config, SHORT, tmp_path)) != weights(first)


def test_sigma_data_is_measured(real, config):
    measured = (real.images.float() / 127.5 - 1).std().item()
    found = started(real, config, SHORT).denoiser.sigma_data.item()
    assert found == pytest.approx(measured, rel=1e-4)


def test_the_loss_falls(real, config):
    training = replace(SHORT, batch=16)
    task = GeneratorTask(real, started(real, config, training), training, torch.device("cpu"))
    optimizer = torch.optim.Adam(task.modules.parameters(), 2e-3)
    losses = []
    for step in range(40):
        optimizer.zero_grad()
        losses.append(task.step(step, step)["loss"].item())
        optimizer.step()
    assert sum(losses[-15:]) < 0.9 * sum(losses[:15])


def test_the_file_has_the_networks_weights_and_nothing_of_the_images(real, config, tmp_path):
    train_generator(real, config, SHORT, tmp_path)
    kept = {n: tuple(x.shape) for n, x in load_file(tmp_path / "generator.safetensors").items()}
    network = Denoiser(ReferenceUNet(config), 0.5)
    assert kept == {name: tuple(weight.shape) for name, weight in network.state_dict().items()}
    assert {name for name, _ in network.named_buffers()} == {"sigma_data"}


def test_the_rarely_photographed_are_drawn_more_often_than_their_share(real, config, monkeypatch):
    drawn = []
    told = References.training
    monkeypatch.setattr(
        References,
        "training",
        lambda self, rows, draw: drawn.append(rows) or told(self, rows, draw),
    )
    few = real.take(torch.cat([torch.arange(8), torch.arange(8, 24, 8)]))  # 8, 1 and 1 images
    training = replace(SHORT, batch=4000)
    GeneratorTask(few, started(few, config, training), training, torch.device("cpu")).draw(0)
    shares = torch.bincount(few.labels[drawn[0]]) / 4000
    wanted = torch.tensor([8.0, 1.0, 1.0]).sqrt()
    assert torch.allclose(shares, wanted / wanted.sum(), atol=0.03)


def test_noise_levels_are_spread_around_the_wanted_mean(real, config):
    for wanted in (-0.4, -1.2):
        training = replace(SHORT, batch=2000, log_sigma=wanted)
        task = GeneratorTask(real, started(real, config, training), training, torch.device("cpu"))
        levels = task.draw(0)[2].log()
        assert levels.mean().item() == pytest.approx(wanted, abs=0.1)
        assert levels.std().item() == pytest.approx(1.2, abs=0.1)


@pytest.mark.parametrize("launched", ["no", "bf16"])
def test_under_a_launcher_its_precision_is_in_force(launched, real, config, tmp_path, monkeypatch):
    other = launched == "no"  # what the hardware would choose
    monkeypatch.setattr("ddid.balance.generator.pays_bfloat16", lambda _: other)
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    cpu = torch.device("cpu")
    assert SHORT.settings(cpu).in_force()["precision"] == launched
    train_generator(real, config, SHORT, tmp_path)


def test_a_folder_without_a_generator_does_not_fit(real, config, tmp_path):
    assert unfit(tmp_path / "nothing", real, config) == f"{tmp_path}/nothing holds no generator"


def test_a_damaged_generator_does_not_fit(real, config, start):
    weights = next(Path(start).glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    assert str(start) in unfit(start, real, config)


def test_notes_without_people_do_not_fit(real, config, start):
    path = Path(start) / "generator.json"
    assert unfit(start, real, config) == ""
    for lacking in (True, False):
        notes = read_json(path)
        notes["people"].pop("3") if lacking else notes.pop("people")
        write_json(path, notes)
        assert "other people" in unfit(start, real, config)


@pytest.fixture
def start(real, config, tmp_path):
    train_generator(real, config, SHORT, tmp_path / "start")
    return str(tmp_path / "start")


def test_a_start_is_taken_as_it_is_or_trained_on(real, config, start, tmp_path):
    as_it_is = train_generator(real, config, replace(SHORT, start=start, steps=0), tmp_path / "a")
    longer = train_generator(real, config, replace(SHORT, start=start), tmp_path / "b")
    assert weights(as_it_is) == weights(started(real, config, replace(SHORT, start=start)))
    assert weights(longer) != weights(as_it_is)


def test_a_start_of_others_is_refused(real, config, start):
    with_start = replace(SHORT, start=start)
    with pytest.raises(InputError, match="another architecture"):
        started(real, replace(config, channels=(16, 48)), with_start)
    with pytest.raises(InputError, match="another architecture, other identities"):
        started(real, GeneratorConfig((1,), (1, 2), 16, 8, (16, 32)), with_start)
    strangers = replace(real, images=255 - real.images)
    with pytest.raises(InputError, match="other people"):
        started(strangers, config, with_start)
    again = replace(real, images=(real.images.float() + 2).clamp(max=255).to(torch.uint8))
    started(again, config, with_start)  # another decoder's last digits


@pytest.mark.slow
def test_the_ready_generator_is_for_the_people_of_the_demo(tmp_path):
    ready = NOTEBOOKS / "profiles" / "demo_generator"
    assert (ready / "generator.safetensors").stat().st_size <= 8e6
    for seed in (0, 1):
        street = write_street(tmp_path / f"{seed}", StreetConfig(seed=seed))
        real = read_data(street).images("train", size=(64, 32))
        wrong = unfit(ready, real, GeneratorConfig.of(real))
        assert wrong == "" if seed == 0 else "of another architecture, other identities" in wrong


def test_bfloat16_needs_the_instructions(monkeypatch):
    cpu = torch.device("cpu")
    for features, pays in (({"avx2": True}, False), ({"amx_bf16": True}, True)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda f=features: f, raising=False)
        assert pays_bfloat16(cpu) is pays


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"lr": 0.0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        GeneratorTraining(**wrong)
