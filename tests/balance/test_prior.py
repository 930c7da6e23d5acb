"""The prior is Wiener's filter around sketches pieced together from an identity's exemplars."""

import numpy as np
import pytest
import torch

from ddid.balance.diffusion import Denoiser, centre
from ddid.balance.network import GeneratorConfig, LabelledUNet
from ddid.balance.prior import EXEMPLARS, Prior, evenly
from ddid.balance.sampler import karras_sigmas, multistep
from ddid.data.loading import to_unit


@pytest.fixture
def labels(real, config):
    return config.labels(real.pids, real.camids)


@pytest.fixture
def images(real):
    return centre(to_unit(real.images))


@pytest.fixture
def prior(config, real, labels):
    prior = Prior(config)
    prior.fit(real.images, *labels)
    return prior


@pytest.fixture
def denoiser(config, real, images, labels):
    """An untrained generator, which is the prior and nothing else."""
    network = LabelledUNet(config)
    network.prior.fit(real.images, *labels)
    return Denoiser(network, images.std().item()).eval()


def test_in_much_noise_the_sketch_is_the_label_s_mean(prior, images, labels):
    sketch = prior.sketch(images, torch.full((len(images),), 1e4), *labels)
    for i in range(3):
        own = labels[0] == i
        found, wanted = sketch[own].mean((0, 2, 3)), images[own].mean((0, 2, 3))
        assert torch.allclose(found, wanted, atol=1e-3)
    null = torch.tensor([3]), torch.tensor([2])
    nothing = prior.sketch(images[:1], torch.tensor([1e4]), *null)
    assert torch.allclose(nothing.mean((0, 2, 3)), images.mean((0, 2, 3)), atol=1e-3)


def test_in_little_noise_the_sketch_fits_the_image(prior, images, labels):
    sigmas = torch.full((2, len(images)), 1e-3)
    sigmas[1] = 1e4
    near, far = (prior.sketch(images, sigma, *labels) for sigma in sigmas)
    assert (near - images).square().mean() < 0.9 * (far - images).square().mean()


def test_no_identity_has_more_exemplars_than_fit(config, real):
    labels = torch.zeros(40, dtype=torch.int64), torch.ones(40, dtype=torch.int64)
    prior = Prior(config)
    prior.fit(real.images[:20].repeat(2, 1, 1, 1), *labels)
    assert prior.exemplars.tolist() == [EXEMPLARS, 1, 1, 1]


def test_principal_colours_are_uncorrelated(prior):
    assert torch.allclose(prior.colours.T @ prior.colours, torch.eye(3), atol=1e-5)


def test_an_untrained_generator_is_wieners_filter(denoiser, images, labels):
    prior, sigma = denoiser.network.prior, torch.tensor(0.3)
    noisy = images + sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    clean = prior.sketch(images, torch.zeros(len(images)), *labels)
    mean = prior.sketch(noisy, sigma.expand(len(images)), *labels)
    pairs = (images - clean, noisy - mean)
    left, rest = (np.einsum("ji,bjhw->bihw", prior.colours, x.numpy()) for x in pairs)
    power = (np.abs(np.fft.fft2(left)) ** 2).mean(0) / (16 * 8)
    kept = np.fft.ifft2(power / (power + sigma.item() ** 2) * np.fft.fft2(rest)).real
    wanted = mean + torch.tensor(np.einsum("ij,bjhw->bihw", prior.colours, kept)).float()
    assert torch.allclose(denoiser(noisy, sigma, *labels), wanted, atol=1e-4)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 2.0])
def test_the_filter_beats_edms_skip_alone(denoiser, images, labels, sigma):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    noisy, level = images + sigma * noise, torch.tensor(sigma)
    error = (denoiser(noisy, level, *labels) - images).square().mean()
    skip = denoiser.sigma_data**2 / (sigma**2 + denoiser.sigma_data**2)
    assert error < (skip * noisy - images).square().mean()


def test_samples_of_the_prior_have_the_data_s_spread(denoiser, images, labels):
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    drawn = multistep(lambda x, s: denoiser(x, s, *labels), noise, karras_sigmas(24, sigma_max=20))
    assert drawn.std().item() == pytest.approx(images.std().item(), rel=0.15)


def test_a_diffusers_checkpoint_has_no_prior():
    unet = {"in_channels": 3, "out_channels": 3, "block_out_channels": [32, 32]}
    types = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    config = GeneratorConfig((1,), (1,), 16, 8, unet | types)
    assert not config.has_prior
    assert LabelledUNet(config).prior is None


def test_autocast_leaves_the_prior_in_full_precision(denoiser, images, labels):
    args = (images, torch.tensor(0.3), *labels)
    plain = denoiser.network.prior(images, torch.full((len(images),), -0.3), *labels)[0]
    with torch.autocast("cpu", torch.bfloat16):
        cast = denoiser.network.prior(images, torch.full((len(images),), -0.3), *labels)[0]
        assert denoiser(*args).dtype == torch.float32
    assert torch.equal(plain, cast)


def test_measuring_takes_no_more_images_than_it_needs():
    rows = torch.arange(10)
    assert evenly(rows, 20) is rows
    assert evenly(rows, 4).tolist() == [0, 3, 6, 9]
