"""FNES against the paper's formulas written as loops, and at its limits."""

import pytest
import torch

from ddid.defense.fnes import FNES, extend, move_probability, soften
from ddid.errors import InputError
from ddid.metric.losses import smooth_labels

LABELS = torch.tensor([0, 2, 1])
FAR = torch.tensor([3, 0, 2])


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def pair(generator):
    images = torch.rand(3, 3, 4, 2, generator=generator)
    noise = 0.2 * torch.rand(3, 3, 4, 2, generator=generator) - 0.1
    return images, (images + noise).clamp(0, 1)


def test_extension_equals_its_loop(pair):
    images, attacked = pair
    omega = torch.tensor([0.0, 0.25, 1.0])
    result = extend(images, attacked, omega, gamma=1.7)
    for i, w in enumerate(omega.tolist()):
        for x, hat, value in zip(
            images[i].flatten(), attacked[i].flatten(), result[i].flatten(), strict=True
        ):
            temp = x + 1.7 * (hat - x)
            expected = min(max(float(w * x + (1 - w) * temp), 0.0), 1.0)
            assert float(value) == pytest.approx(expected, abs=1e-6)


def test_gamma_one_and_omega_zero_is_the_attacked_image_itself(pair):
    images, attacked = pair
    assert torch.equal(extend(images, attacked, torch.zeros(3), gamma=1.0), attacked)


def test_omega_one_is_the_clean_image(pair):
    images, attacked = pair
    assert torch.allclose(extend(images, attacked, torch.ones(3), gamma=2.0), images)


def test_extension_stays_within_pixels_and_gamma_times_the_budget(pair):
    images, attacked = pair
    result = extend(images, attacked, torch.zeros(3), gamma=3.0)
    assert result.min() >= 0
    assert result.max() <= 1
    assert (result - images).abs().max() <= 3 * (attacked - images).abs().max() + 1e-6


def test_softening_equals_its_loop():
    fnes = FNES(smooth_clean=0.1, smooth_attacked=0.2, shift=0.3)
    omega = torch.tensor([0.0, 0.5, 0.9])
    result = soften(LABELS, FAR, 4, omega, fnes)
    for i, w in enumerate(omega.tolist()):
        for c in range(4):
            clean = 0.9 * (c == LABELS[i]) + 0.1 / 4
            attacked = 0.8 * (c == LABELS[i]) + 0.2 / 4
            attacked += 0.3 * (c == FAR[i]) - 0.3 * (c == LABELS[i])
            expected = w * clean + (1 - w) * float(attacked)
            assert float(result[i, c]) == pytest.approx(float(expected), abs=1e-6)


def test_no_shift_moves_nothing():
    fnes = FNES(shift=0.0, smooth_attacked=0.2)
    assert torch.equal(soften(LABELS, FAR, 4, torch.zeros(3), fnes), smooth_labels(LABELS, 4, 0.2))


@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0])
def test_moving_keeps_a_distribution(amount):
    moved = move_probability(smooth_labels(LABELS, 4, 0.1), LABELS, FAR, amount)
    assert torch.allclose(moved.sum(1), torch.ones(3))
    assert moved.min() >= 0


def test_an_attack_that_aims_at_no_class_moves_nothing():
    targets = smooth_labels(LABELS, 4, 0.1)
    assert torch.allclose(move_probability(targets, LABELS, LABELS, 0.3), targets)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gamma": 0.9},
        {"omega": (0.5, 0.2)},
        {"omega": (0.0, 1.2)},
        {"omega": (0.1,)},
        {"shift": 2.0},
        {"smooth_attacked": -0.1},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="FNES"):
        FNES(**wrong)
