"""The labelled U-Net: labels matter, unknown ones are refused, files and checkpoints come back."""

import pytest
import torch
from diffusers import UNet2DModel

from ddid.balance.network import (
    GeneratorConfig,
    build,
    diffusers_settings,
    load_generator,
    save_generator,
    unet_settings,
)
from ddid.errors import InputError


def denoised(generator, identity, camera, warp=None):
    noisy = torch.randn(1, 3, 16, 8, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([identity]), torch.tensor([camera])
    with torch.no_grad():
        return generator.denoiser(noisy, torch.tensor([0.5]), *labels, *([warp] if warp else []))


def test_identity_and_camera_change_the_image(generator):
    plain = denoised(generator, 0, 0)
    assert plain.shape == (1, 3, 16, 8)
    assert not torch.equal(plain, denoised(generator, 1, 0))
    assert not torch.equal(plain, denoised(generator, 0, 1))
    assert not torch.equal(plain, denoised(generator, *generator.config.nulls))


def test_labels_are_positions_and_unknown_cameras_are_null(config):
    identity, camera = config.labels(torch.tensor([20, 3]), torch.tensor([-1, 2]))
    assert identity.tolist() == [2, 0]
    assert camera.tolist() == [2, 1]
    assert config.nulls == (3, 2)


@pytest.mark.parametrize(("pid", "camid", "what"), [(4, 1, "identity"), (3, 9, "camera")])
def test_unknown_labels_are_refused(config, pid, camid, what):
    with pytest.raises(InputError, match=f"{what} .* unknown to the generator"):
        config.labels(torch.tensor([pid]), torch.tensor([camid]))


def test_neighbouring_noise_levels_are_told_apart(generator):
    embedding = generator.denoiser.network.unet.time_proj
    near, far = (torch.tensor([0.0, step]) * 250 for step in (0.01, 2.0))
    assert (embedding(near).diff(dim=0).norm() / embedding(near)[0].norm()) > 0.1
    assert embedding(far).diff(dim=0).norm() > embedding(near).diff(dim=0).norm()


@pytest.mark.parametrize(("size", "patch"), [((64, 32), 2), ((128, 64), 2), ((256, 128), 4)])
def test_paper_sizes_fit(size, patch):
    config = GeneratorConfig((1,), (1,), *size, unet_settings((16, 16, 32), patch))
    zero = torch.zeros(1, dtype=torch.int64)
    images = build(config, 0.3)(torch.zeros(1, 3, *size), torch.ones(1), zero, zero)
    assert images.shape == (1, 3, *size)


def test_sizes_that_do_not_halve_are_refused():
    with pytest.raises(InputError, match="does not divide 60x32"):
        GeneratorConfig((1,), (1,), 60, 32, unet_settings())


def test_a_saved_generator_comes_back(generator, tmp_path):
    save_generator(generator, tmp_path, {"steps": 1})
    loaded = load_generator(tmp_path)
    assert loaded.config == generator.config
    assert torch.equal(denoised(loaded, 1, 1), denoised(generator, 1, 1))


def test_a_damaged_generator_is_refused(generator, tmp_path):
    save_generator(generator, tmp_path, {})
    (tmp_path / "generator.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="train the generator again"):
        load_generator(tmp_path)


def test_a_diffusers_checkpoint_is_a_start(tmp_path):
    theirs = UNet2DModel(sample_size=16, **unet_settings((16, 32), patch=2, prior=False))
    theirs.save_pretrained(tmp_path)
    config = GeneratorConfig((1, 2), (1,), 16, 8, diffusers_settings(tmp_path))
    ours = build(config, 0.3, start=tmp_path).network.unet
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value)


def test_other_checkpoints_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL", "in_channels": 3}')
    with pytest.raises(InputError, match="no UNet2DModel"):
        diffusers_settings(tmp_path)
    fourier = unet_settings() | {"time_embedding_type": "fourier"}
    with pytest.raises(InputError, match="logarithm"):
        GeneratorConfig((1,), (1,), 64, 32, fourier)


@pytest.mark.parametrize("wrong", [{"channels": []}, {"channels": [24, 40]}, {"patch": 0}])
def test_impossible_networks_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        unet_settings(**wrong)
