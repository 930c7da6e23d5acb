"""The prior is Wiener's filter around the labels' mean images."""

import numpy as np
import pytest
import torch

from ddid.balance.diffusion import Denoiser, centre
from ddid.balance.network import GeneratorConfig, LabelledUNet
from ddid.balance.prior import Prior
from ddid.balance.sampler import karras_sigmas, multistep
from ddid.data.loading import to_unit


@pytest.fixture
def labels(real, config):
    return config.labels(real.pids, real.camids)


@pytest.fixture
def images(real):
    return centre(to_unit(real.images))


@pytest.fixture
def prior(config, images, labels):
    prior = Prior(config)
    prior.fit(images, *labels)
    return prior


@pytest.fixture
def denoiser(config, images, labels):
    """An untrained generator, which is the prior and nothing else."""
    network = LabelledUNet(config)
    network.prior.fit(images, *labels)
    return Denoiser(network, images.std().item()).eval()


def test_sketches_are_mean_images(prior, images, labels):
    for i in range(3):
        own = labels[0] == i
        shown = prior.sketch(labels[0][own], labels[1][own])
        assert torch.allclose(shown.mean((0, 2, 3)), images[own].mean((0, 2, 3)), atol=1e-4)
    nothing = prior.sketch(torch.tensor([3]), torch.tensor([2]))
    assert torch.allclose(nothing.mean((0, 2, 3)), images.mean((0, 2, 3)), atol=1e-4)


def test_principal_colours_are_uncorrelated(prior):
    assert torch.allclose(prior.colours.T @ prior.colours, torch.eye(3), atol=1e-5)


def test_an_untrained_generator_is_wieners_filter(denoiser, images, labels):
    prior, sigma = denoiser.network.prior, 0.3
    noisy = images + sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    mean, colours = prior.sketch(*labels).numpy(), prior.colours.numpy()
    left, rest = (np.einsum("ji,bjhw->bihw", colours, x.numpy() - mean) for x in (images, noisy))
    power = (np.abs(np.fft.fft2(left)) ** 2).mean(0) / (16 * 8)
    kept = np.fft.ifft2(power / (power + sigma**2) * np.fft.fft2(rest)).real
    wanted = mean + np.einsum("ij,bjhw->bihw", colours, kept)
    found = denoiser(noisy, torch.tensor(sigma), *labels)
    assert torch.allclose(found, torch.tensor(wanted).float(), atol=1e-4)


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
    mean = denoiser.network.prior.sketch(*labels)
    assert (drawn - mean).std().item() == pytest.approx((images - mean).std().item(), rel=0.1)


def test_a_diffusers_checkpoint_has_no_prior():
    unet = {"in_channels": 3, "out_channels": 3, "block_out_channels": [32, 32]}
    types = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2}
    config = GeneratorConfig((1,), (1,), 16, 8, unet | types)
    assert not config.has_prior
    assert LabelledUNet(config).prior is None
