"""The network: everything it is told matters, unknown labels are refused, files come back."""

import pytest
import torch

from ddid.balance.edm import Condition, Denoiser
from ddid.balance.network import (
    NOISE_SPREAD,
    GeneratorConfig,
    ReferenceUNet,
    load_generator,
    save_generator,
)
from ddid.errors import InputError
from ddid.identity import identity


def weights(generator):
    return identity(weights=generator.denoiser.state_dict())


def told(size=(16, 8), **other) -> Condition:
    draw = torch.Generator().manual_seed(2)
    shown = torch.randn(3, 1, 3, *size, generator=draw).unbind()
    zero = torch.zeros(1, dtype=torch.int64)
    return Condition(*shown, zero, zero)._replace(**other)


def denoised(generator, condition):
    noisy = torch.randn(1, 3, 16, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return generator.denoiser(noisy, torch.tensor([0.5]), condition)


@pytest.mark.parametrize("part", Condition._fields)
def test_everything_told_changes_the_image(generator, part):
    other = getattr(told(), part) + 1
    assert not torch.equal(denoised(generator, told()), denoised(generator, told(**{part: other})))


def test_an_untrained_network_knows_nothing(config):
    denoiser, noisy = Denoiser(ReferenceUNet(config), 0.3), torch.randn(1, 3, 16, 8)
    c_skip = 0.3**2 / (0.3**2 + 0.5**2)
    assert torch.allclose(denoiser(noisy, torch.tensor([0.5]), told()), c_skip * noisy)


def test_the_blend_weighs_every_pixel_shown(config):
    """Written as loops, beside a U-Net that draws nothing."""
    torch.manual_seed(3)
    network, patch = ReferenceUNet(config), config.patch
    for layer in (network.gain, network.blend):
        torch.nn.init.normal_(layer.weight)
        torch.nn.init.normal_(layer.bias)
    noisy, level, condition = torch.randn(1, 3, 16, 8), torch.tensor([0.2]), told()
    label = network.identity.weight[condition.identity] + network.camera.weight[condition.camera]
    unet, shown = network.unet, (noisy, condition.source, condition.person, condition.place)
    with torch.no_grad():
        heard = unet.time_embedding(unet.time_proj(level * NOISE_SPREAD)) + label
        weights = 1 + network.gain(heard * torch.sigmoid(heard))[0]
        expected = torch.empty(3, 16, 8)
        cells = [(c, y, x) for c in range(3) for y in range(patch) for x in range(patch)]
        for top in range(0, 16, patch):
            for left in range(0, 8, patch):
                seen = torch.stack([i[0, c, top + y, left + x] for i in shown for c, y, x in cells])
                for own, (c, y, x) in enumerate(cells):
                    mixed = network.blend.weight[own, :, 0, 0] * weights * seen
                    expected[c, top + y, left + x] = mixed.sum() + network.blend.bias[own]
        torch.testing.assert_close(network(noisy, level, condition)[0], expected, atol=1e-4, rtol=0)


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
    config = GeneratorConfig((1,), (1,), *size, channels=(16, 16, 32), patch=patch)
    denoiser = Denoiser(ReferenceUNet(config), 0.3)
    assert denoiser(torch.zeros(1, 3, *size), torch.ones(1), told(size)).shape == (1, 3, *size)


def test_sizes_that_do_not_halve_are_refused():
    with pytest.raises(InputError, match="does not divide 60x32"):
        GeneratorConfig((1,), (1,), 60, 32)


def test_a_saved_generator_comes_back(generator, tmp_path):
    save_generator(generator, tmp_path / "one", {"steps": 1})
    first = load_generator(tmp_path / "one")
    save_generator(first, tmp_path / "two", {"steps": 1})
    again = load_generator(tmp_path / "two")
    assert first.config == generator.config
    assert torch.allclose(denoised(first, told()), denoised(generator, told()), atol=0.02)
    assert weights(first) == weights(again) != weights(generator)
    with torch.no_grad():
        next(again.denoiser.parameters()).add_(1)
    assert weights(first) != weights(again)


def test_loading_costs_the_caller_no_random_numbers(generator, tmp_path):
    save_generator(generator, tmp_path, {})
    before = torch.get_rng_state()
    load_generator(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_damaged_generator_is_refused(generator, tmp_path):
    save_generator(generator, tmp_path, {})
    (tmp_path / "generator.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match="of another architecture: train it again"):
        load_generator(tmp_path)


@pytest.mark.parametrize(
    "wrong", [{"channels": ()}, {"channels": (24, 40)}, {"channels": (32, 16)}, {"patch": 0}]
)
def test_impossible_networks_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        GeneratorConfig((1,), (1,), **wrong)
