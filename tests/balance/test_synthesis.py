"""One seed an image: the same whatever the batch, the order or the interruptions."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from ddid.balance.sampler import SOLVERS
from ddid.balance.synthesis import Sampling, draw_images, noise_of, synthesise
from ddid.errors import InputError

FAST = Sampling(steps=3)


def test_noise_belongs_to_its_seed():
    together = noise_of([5, 6], (4, 2))
    assert torch.equal(together[1], noise_of([6], (4, 2))[0])
    assert not torch.equal(together[0], together[1])


@pytest.mark.parametrize("solver", SOLVERS)
def test_images_do_not_depend_on_the_batch(generator, plan, solver):
    sampling = replace(FAST, solver=solver)
    together = draw_images(generator, plan, sampling)
    for i in range(len(plan)):
        alone = draw_images(generator, plan.iloc[[i]], sampling)[0]
        assert (together[i].int() - alone.int()).abs().max() <= 1
        assert (together[i] != alone).float().mean() < 0.01


def test_files_do_not_depend_on_the_batch_size(generator, plan, tmp_path):
    synthesise(generator, plan, tmp_path / "one", replace(FAST, batch=1))
    synthesise(generator, plan.iloc[::-1], tmp_path / "all", FAST)
    for name in plan["name"]:
        one, other = (Image.open(tmp_path / f / f"{name}.png") for f in ("one", "all"))
        assert one.size == (8, 16)
        difference = torch.tensor(list(one.tobytes())) - torch.tensor(list(other.tobytes()))
        assert difference.abs().max() <= 1


def test_finished_images_are_kept(generator, plan, tmp_path, files):
    synthesise(generator, plan.iloc[:2], tmp_path, FAST)
    before, seen = files(tmp_path), []
    paths = synthesise(generator, plan, tmp_path, FAST, lambda what, done, n: seen.append(done))
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(plan) == len(paths)
    assert seen == [5]


def test_images_of_other_settings_are_made_anew(generator, plan, tmp_path, files):
    synthesise(generator, plan, tmp_path, FAST)
    before = files(tmp_path)
    with torch.no_grad():
        next(generator.denoiser.parameters()).add_(1.0)
    synthesise(generator, plan, tmp_path, FAST)
    assert all(files(tmp_path)[name] != time for name, time in before.items())


def test_a_damaged_image_is_made_anew(generator, plan, tmp_path):
    path = synthesise(generator, plan, tmp_path, FAST)[0]
    whole = open(path, "rb").read()  # noqa: SIM115
    with open(path, "wb") as stream:
        stream.write(b"torn")
    synthesise(generator, plan, tmp_path, FAST)
    assert open(path, "rb").read() == whole  # noqa: SIM115


def test_unknown_labels_stop_before_anything_is_written(generator, plan, tmp_path):
    with pytest.raises(InputError, match="identity"):
        synthesise(generator, plan.assign(pid=99), tmp_path / "new", FAST)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("wrong", [{"solver": "rk4"}, {"steps": 1}, {"batch": 0}])
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(InputError):
        Sampling(**wrong)
