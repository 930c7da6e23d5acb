"""The samplers on a Gaussian, whose equation has a known answer, and against diffusers'."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusers import EDMEulerScheduler

from ddid.balance.sampling import (
    Sampling,
    draw_images,
    heun,
    karras_sigmas,
)
from ddid.errors import InputError

MEAN, STD = 0.4, 0.25


def gaussian(x, sigma):
    """D(x; σ) for data ~ N(MEAN, STD²): the posterior mean."""
    return (sigma**2 * MEAN + STD**2 * x) / (STD**2 + sigma**2)


def flow(x, before, after):
    """Exact solution of the equation from σ = `before` to `after`."""
    return MEAN + (x - MEAN) * math.sqrt((STD**2 + after**2) / (STD**2 + before**2))


def error(steps):
    noise = torch.randn(64, 1, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    sigmas = karras_sigmas(steps, sigma_min=1e-4)
    exact = flow(sigmas[0] * noise, sigmas[0].item(), 0.0)
    return (heun(gaussian, sigmas[0] * noise, sigmas) - exact).abs().max().item()


def test_schedule_equals_its_loop():
    found = karras_sigmas(7)
    for i in range(7):
        root = 80 ** (1 / 7) + i / 6 * (0.002 ** (1 / 7) - 80 ** (1 / 7))
        assert found[i].item() == pytest.approx(root**7)
    assert found[-1] == 0
    assert len(found) == 8


def test_schedule_agrees_with_diffusers():
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(18)
    assert torch.allclose(karras_sigmas(18).float(), scheduler.sigmas, rtol=1e-5)


def test_halving_the_step_quarters_the_error():
    errors = [error(steps) for steps in (32, 64, 128)]
    for coarse, fine in pairwise(errors):
        assert 3.3 < coarse / fine < 5.5


def test_one_step_of_heun_by_hand():
    x, now, after = 0.7, 2.0, 0.5
    slope = (x * now - gaussian(x * now, now)) / now
    ahead = x * now + (after - now) * slope
    slope_ahead = (ahead - gaussian(ahead, after)) / after
    wanted = gaussian(x * now + (after - now) * (slope + slope_ahead) / 2, after)
    sigmas = torch.tensor([now, after, 0.0], dtype=torch.float64)
    found = heun(gaussian, torch.full((1, 1, 1, 1), x * now, dtype=torch.float64), sigmas)
    assert found.item() == pytest.approx(wanted)


def trajectory(scheduler, steps, noise):
    """diffusers' loop around a network whose preconditioned output is `gaussian`."""
    scheduler.set_timesteps(steps)
    x = noise * scheduler.sigmas[0]
    for i, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[i]
        scheduler.scale_model_input(x, timestep)
        total = sigma**2 + scheduler.config.sigma_data**2
        c_skip = scheduler.config.sigma_data**2 / total
        c_out = sigma * scheduler.config.sigma_data / total.sqrt()
        output = (gaussian(x, sigma) - c_skip * x) / c_out
        x = scheduler.step(output, timestep, x).prev_sample
    return x


def test_heun_beats_diffusers_first_order_sampler():
    noise = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(2)).double()
    exact = flow(80 * noise, 80.0, 0.0)
    euler = (trajectory(EDMEulerScheduler(), 20, noise) - exact).abs().max()
    ours = (heun(gaussian, 80 * noise, karras_sigmas(20)) - exact).abs().max()
    assert ours < euler / 2


def test_watchers_see_every_step():
    seen, start, sigmas = [], torch.randn(2, 1, 1, 1), karras_sigmas(5)
    heun(gaussian, start, sigmas, lambda *told: seen.append(told))
    assert [step for step, _, _ in seen] == [0, 1, 2, 3, 4]
    assert torch.equal(seen[0][1], start)
    for step, x, estimate in seen:
        assert torch.equal(estimate, gaussian(x, sigmas[step]))


FAST = Sampling(steps=3)


def test_images_do_not_depend_on_the_batch(generator, references, plan):
    together = draw_images(generator, references, plan, FAST)
    for i in range(len(plan)):
        alone = draw_images(generator, references, plan.iloc[[i]], FAST)[0]
        assert (together[i].int() - alone.int()).abs().max() <= 1
        assert (together[i] != alone).float().mean() < 0.01


def test_a_translation_from_almost_no_noise_is_its_start(generator, references, plan):
    faint = replace(FAST, camera_weight=1.0, sigma_max=2e-3, sigma_min=1e-3)
    camera = references.sampling(plan, references.choose(plan)).camera
    start = references.views[camera] * 127.5 + 127.5
    found = draw_images(generator, references, plan, faint)
    assert (found - start.clamp(0, 255)).abs().max() < 3


def test_another_source_makes_another_translation(generator, references, plan, monkeypatch):
    one, picks = draw_images(generator, references, plan, FAST), references.choose(plan)
    other = picks._replace(source=picks.person)
    monkeypatch.setattr(references, "choose", lambda rows: other)
    changed = (draw_images(generator, references, plan, FAST) != one).flatten(1).any(1)
    assert torch.equal(changed, picks.source != picks.person)
    # from noise the source is hidden
    noise = replace(FAST, way="references")
    one = draw_images(generator, references, plan, noise)
    monkeypatch.setattr(references, "choose", lambda rows: picks)
    assert torch.equal(one, draw_images(generator, references, plan, noise))


def test_labels_alone_see_no_image(generator, references, plan, real, config):
    alone = replace(FAST, way="labels", sigma_max=20.0)
    others = type(references)(replace(real, images=255 - real.images), config, references.device)
    one, other = (draw_images(generator, r, plan, alone) for r in (references, others))
    assert torch.equal(one, other)
    shown = replace(alone, way="references")
    one, other = (draw_images(generator, r, plan, shown) for r in (references, others))
    assert not torch.equal(one, other)


WRONG = [{"steps": 1}, {"way": "up"}, {"sigma_min": 60.0}, {"sigma_max": "a"}]
WRONG += [{"identity_weight": float("nan")}, {"camera_weight": "much"}]


@pytest.mark.parametrize("wrong", WRONG)
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(InputError):
        Sampling(**wrong)
