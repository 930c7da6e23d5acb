"""EDM's formulas against loops, diffusers' scheduler and their own defining properties."""

import math

import pytest
import torch
from diffusers import EDMEulerScheduler
from torch import nn

from ddid.balance.edm import (
    Condition,
    Denoiser,
    centre,
    edm_loss,
    guide,
    precondition,
    to_pixels,
)
from ddid.errors import InputError

SIGMAS = torch.tensor([0.002, 0.1, 0.33, 1.0, 80.0], dtype=torch.float64)
SIGMA_DATA = 0.33


class Recorder(nn.Module):
    """F = 3 times its input; remembers what it was given."""

    def forward(self, images, c_noise, *condition):
        self.seen = (images, c_noise, condition)
        return 3 * images


def test_coefficients_equal_their_loop():
    found = precondition(SIGMAS, SIGMA_DATA)
    for i, s in enumerate(SIGMAS.tolist()):
        total = s * s + SIGMA_DATA * SIGMA_DATA
        assert found.c_skip[i] == pytest.approx(SIGMA_DATA**2 / total)
        assert found.c_out[i] == pytest.approx(s * SIGMA_DATA / math.sqrt(total))
        assert found.c_in[i] == pytest.approx(1 / math.sqrt(total))
        assert found.c_noise[i] == pytest.approx(math.log(s) / 4)


@pytest.mark.parametrize("sigma", [0.05, 0.33, 5.0])
def test_network_input_and_target_have_unit_variance(sigma):
    draw = torch.Generator().manual_seed(0)
    clean = SIGMA_DATA * torch.randn(200_000, generator=draw, dtype=torch.float64)
    noisy = clean + sigma * torch.randn(200_000, generator=draw, dtype=torch.float64)
    c = precondition(torch.tensor(sigma, dtype=torch.float64), SIGMA_DATA)
    target = (clean - c.c_skip * noisy) / c.c_out
    assert (c.c_in * noisy).std().item() == pytest.approx(1, abs=0.01)
    assert target.std().item() == pytest.approx(1, abs=0.01)


def test_preconditioning_agrees_with_diffusers():
    scheduler = EDMEulerScheduler(sigma_data=SIGMA_DATA)
    noisy, output = torch.randn(2, 5, 3, 4, 2, dtype=torch.float64).unbind()
    sigma = SIGMAS.view(-1, 1, 1, 1)
    c = precondition(sigma, SIGMA_DATA)
    assert torch.allclose(c.c_in * noisy, scheduler.precondition_inputs(noisy, sigma))
    assert torch.allclose(c.c_noise, scheduler.precondition_noise(sigma))
    ours = c.c_skip * noisy + c.c_out * output
    assert torch.allclose(ours, scheduler.precondition_outputs(noisy, output, sigma))


def test_denoiser_is_the_formula_for_each_image():
    network = Recorder()
    noisy = torch.randn(2, 3, 4, 2)
    sigma, label = torch.tensor([0.1, 2.0]), torch.tensor([4, 5])
    denoised = Denoiser(network, SIGMA_DATA)(noisy, sigma, label)
    for i, s in enumerate(sigma):
        c = precondition(s, SIGMA_DATA)
        assert torch.allclose(denoised[i], (c.c_skip + 3 * c.c_out * c.c_in) * noisy[i])
    assert torch.equal(network.seen[2][0], label)
    assert network.seen[1].shape == (2,)


def test_loss_equals_its_loop():
    denoiser = Denoiser(Recorder(), SIGMA_DATA)
    images, noise = torch.randn(2, 3, 3, 4, 2, generator=torch.Generator().manual_seed(2)).unbind()
    sigma = torch.tensor([0.1, 0.5, 3.0])
    losses = []
    for y, n, s in zip(images, noise, sigma, strict=True):
        error = denoiser((y + s * n)[None], s)[0] - y
        losses.append((s**2 + SIGMA_DATA**2) / (s * SIGMA_DATA) ** 2 * (error**2).mean())
    found = edm_loss(denoiser, images, noise, sigma)
    assert found.item() == pytest.approx(torch.stack(losses).mean().item(), rel=1e-5)


def test_one_coloured_images_are_refused():
    with pytest.raises(InputError, match="one colour"):
        Denoiser(Recorder(), 0.0)


def test_centring_is_undone():
    images = torch.rand(2, 3, 4, 2)
    assert torch.allclose(to_pixels(centre(images)), images, atol=1e-6)
    assert centre(torch.tensor([0.0, 1.0])).tolist() == [-1, 1]


class Told(nn.Module):
    """D = a number per (identity, camera), and per image shown; counts its calls."""

    def __init__(self):
        super().__init__()
        self.table = torch.tensor([[5.0, 7.0, 2.0], [1.0, 4.0, 3.0]])  # last column: no camera
        self.table = torch.cat([self.table, torch.tensor([[0.5, 0.25, 1.0]])])  # no identity
        self.calls, self.images = 0, 0

    def forward(self, noisy, sigma, told):
        self.calls, self.images = self.calls + 1, self.images + len(noisy)
        shown = told.source + 10 * told.person + 100 * told.place
        return self.table[told.identity, told.camera].view(-1, 1, 1, 1) + shown


@pytest.mark.parametrize(
    ("weights", "copies"),
    [((1, 1), 1), ((2, 2), 2), ((3, 1.5), 3), ((1, 2), 2), ((0, 0), 1), ((2, 0), 2)],
)
def test_guidance_is_its_formula_in_one_batch(weights, copies):
    denoiser, (w_i, w_c) = Told(), weights
    noisy = torch.randn(2, 3, 2, 2)
    shown = [torch.full_like(noisy, value) for value in (1.0, 2.0, 3.0)]
    told = Condition(*shown, torch.tensor([0, 1]), torch.tensor([1, 0]))
    found = guide(denoiser, told, (2, 2), w_i, w_c)(noisy, torch.tensor(1.0))
    for k, (i, c) in enumerate([(0, 1), (1, 0)]):
        free = denoiser.table[2, 2]
        one = denoiser.table[i, 2] + 1 + 20
        both = denoiser.table[i, c] + 1 + 20 + 300
        wanted = free + w_i * (one - free) + w_c * (both - one)
        assert found[k].mean().item() == pytest.approx(wanted.item(), rel=1e-5)
    assert denoiser.calls == 1
    assert denoiser.images == 2 * copies
