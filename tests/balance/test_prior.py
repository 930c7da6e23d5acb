"""The prior is Wiener's filter around sketches pieced together from an identity's exemplars."""

import numpy as np
import pytest
import torch

from ddid.balance.diffusion import Denoiser, centre
from ddid.balance.network import GeneratorConfig, LabelledUNet
from ddid.balance.prior import EXEMPLARS, Prior, agreement, evenly, silhouette
from ddid.balance.sampler import karras_sigmas, multistep
from ddid.data.images import to_unit


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
def denoiser(config, real, images, labels, monkeypatch):
    """An untrained generator, which is the prior and nothing else; most images are no exemplars."""
    monkeypatch.setattr("ddid.balance.prior.EXEMPLARS", 2)
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


def people_before_places(seed=0):
    """Six people, three cameras: the middle columns belong to the person, the rest to chance."""
    generator = torch.Generator().manual_seed(seed)
    identity = torch.arange(6).repeat_interleave(12)
    camera = torch.arange(3).repeat(24)
    images = torch.randn(72, 3, 24, 20, generator=generator)
    people = torch.randn(6, 3, 24, 6, generator=generator)
    images[..., 7:13] = people[identity] + 0.1 * images[..., 7:13]
    return images, identity, camera


def test_agreement_is_the_correlation_over_pairs_from_two_cameras():
    images, identity, camera = people_before_places()
    together, pairs = torch.zeros(24, 20), 0
    for i in range(72):
        for j in range(72):
            if identity[i] == identity[j] and camera[i] != camera[j]:
                together += (images[i] * images[j]).sum(0)
                pairs += 1
    wanted = together / pairs / images.square().sum(1).mean(0)
    assert torch.allclose(agreement(images, identity, camera), wanted, atol=1e-4)


def test_images_of_an_unknown_camera_measure_no_camera(config, real):
    camids = real.camids.clone()
    camids[::4] = -1
    pixels = real.images.clone()
    pixels[::4] = 0
    prior = Prior(config)
    prior.fit(pixels, *config.labels(real.pids, camids))
    everything = centre(to_unit(pixels)).mean((0, 2, 3))
    assert torch.allclose(prior.camera[2].mean((1, 2)), everything, atol=1e-5)
    assert prior.places[2].abs().max() == 0
    kept = camids == 1
    wanted = centre(to_unit(pixels[kept])).mean((0, 2, 3))
    assert torch.allclose(prior.camera[0].mean((1, 2)), wanted, atol=1e-5)
    alone = Prior(config)
    alone.fit(pixels, *config.labels(real.pids, torch.full_like(camids, -1)))
    assert torch.equal(alone.person, torch.ones(64, 32))


def test_people_who_agree_by_chance_alone_have_no_silhouette():
    _, identity, camera = people_before_places()
    noise = torch.randn(72, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    assert agreement(noise, identity, camera).max() > 0
    assert torch.equal(silhouette(noise / 50, identity, camera), torch.ones(24, 20))


def test_the_spectrum_of_white_noise_is_flat(config, monkeypatch):
    monkeypatch.setattr(Prior, "sketch", lambda self, noisy, *labels: torch.zeros_like(noisy))
    noise = torch.randn(1000, 3, 16, 8, generator=torch.Generator().manual_seed(0))
    images = (127.5 + 30 * noise).clamp(0, 255).to(torch.uint8)
    prior = Prior(config)
    prior.fit(images, torch.zeros(1000, dtype=torch.int64), torch.zeros(1000, dtype=torch.int64))
    wanted = (2 * 30 / 255) ** 2
    waves = [(0, 1), (3, 2), (8, 4), (8, 0), (0, 4), (5, 4)]
    for row, column in waves:
        assert prior.spectrum[:, row, column].mean().item() == pytest.approx(wanted, rel=0.15)


def test_the_silhouette_is_where_people_stay_the_same():
    person = silhouette(*people_before_places())
    assert person[4:-4, 9:11].min() > 0.9
    assert person[:, [0, 1, -2, -1]].max() < 0.2


def test_without_a_second_camera_everything_is_the_person():
    images, identity, _ = people_before_places()
    assert torch.equal(silhouette(images, identity, 0 * identity), torch.ones(24, 20))


def test_where_nobody_looks_the_same_twice_everything_is_the_person():
    pair = torch.ones(2, 3, 24, 20)
    pair[1] = -1
    same, cameras = torch.tensor([0, 0]), torch.tensor([0, 1])
    assert torch.equal(silhouette(pair, same, cameras), torch.ones(24, 20))


def test_a_new_camera_sees_an_exemplar_before_its_own_place(prior, labels):
    prior.person[:] = 0
    prior.person[:, 8:24] = 1
    count = int(prior.exemplars[0])
    for camid in (0, 1):
        camera = torch.tensor([camid])
        found = prior.seen_by(torch.tensor([0]), camera)[0, :count] - prior.camera[camid]
        same = prior.seen[0, :count] == camid
        assert same.any()
        assert (~same).any()
        assert torch.allclose(found[same], prior.identity[0, :count][same], atol=1e-6)
        own = prior.identity[0, :count, ..., 8:24]
        assert torch.allclose(found[..., 8:24], own, atol=1e-6)
        places = prior.places[camid, : int(prior.place_counts[camid])]
        for image in found[~same]:
            nearest = (places - image)[..., :8].abs().amax((1, 2, 3)).min()
            assert nearest < 1e-6


def test_an_unknown_camera_sees_the_exemplars_as_they_are(prior):
    found = prior.seen_by(torch.tensor([0]), torch.tensor([2]))[0]
    assert torch.allclose(found - prior.camera[2], prior.identity[0], atol=1e-6)


def test_a_few_images_without_a_fitting_sketch_do_not_count_as_detail(config, real, labels):
    many = [part.repeat_interleave(3, 0) for part in (real.images, *labels)]
    odd = torch.randint(0, 256, real.images[:4].shape, dtype=torch.uint8)
    prior = Prior(config)
    prior.fit(torch.cat([many[0], odd]), *(torch.cat([t, t[:4]]) for t in many[1:]))
    assert prior.spectrum.max() < 1e-9


def test_principal_colours_are_uncorrelated(prior):
    assert torch.allclose(prior.colours.T @ prior.colours, torch.eye(3), atol=1e-5)


def test_an_untrained_generator_is_wieners_filter(denoiser, images, labels):
    prior, sigma = denoiser.network.prior, torch.tensor(0.3)
    noisy = images + sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    clean = prior.sketch(images, torch.zeros(len(images)), *labels)
    mean = prior.sketch(noisy, sigma.expand(len(images)), *labels)
    pairs = (images - clean, noisy - mean)
    left, rest = (np.einsum("ji,bjhw->bihw", prior.colours, x.numpy()) for x in pairs)
    power = np.quantile(np.abs(np.fft.fft2(left)) ** 2, 0.5, 0, method="lower")
    medians = np.full((16, 8), np.log(2))
    medians[np.ix_([0, 8], [0, 4])] = 0.4549
    power /= 16 * 8 * medians
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
