"""The discriminator's game against its formula, and each side's gradient."""

import math

import pytest
import torch

from ddid.defense.discriminator import Discriminator, discriminator_game


@pytest.fixture
def game():
    torch.manual_seed(0)
    clean = torch.randn(6, 8, requires_grad=True)
    attacked = torch.randn(4, 8, requires_grad=True)
    return Discriminator(8), clean, attacked


def value_of_the_game(discriminator, clean, attacked):
    probability = torch.sigmoid
    return (
        torch.log(probability(discriminator(clean))).mean()
        + torch.log(1 - probability(discriminator(attacked))).mean()
    )


def test_loss_is_minus_the_value_written_as_a_loop(game):
    discriminator, clean, attacked = game
    value = 0.0
    for logit in discriminator(clean).tolist():
        value += math.log(1 / (1 + math.exp(-logit))) / 6
    for logit in discriminator(attacked).tolist():
        value += math.log(1 - 1 / (1 + math.exp(-logit))) / 4
    assert discriminator_game(*game, weight=1.0)[0].item() == pytest.approx(-value, rel=1e-5)


def test_discriminator_ascends_and_encoder_descends_the_value(game):
    discriminator, clean, attacked = game
    parameters = list(discriminator.parameters())
    loss, _ = discriminator_game(*game, weight=0.5)
    got = torch.autograd.grad(loss, [clean, attacked, *parameters])
    value = value_of_the_game(discriminator, clean, attacked)
    wanted = torch.autograd.grad(value, [clean, attacked, *parameters])
    for descent, gradient in zip(got[:2], wanted[:2], strict=True):
        assert torch.allclose(descent, 0.5 * gradient, atol=1e-6)
    for descent, gradient in zip(got[2:], wanted[2:], strict=True):
        assert torch.allclose(descent, -gradient, atol=1e-6)


def test_no_weight_leaves_the_encoder_alone(game):
    loss, _ = discriminator_game(*game, weight=0.0)
    loss.backward()
    assert game[1].grad.abs().max() == 0
    assert all(p.grad.abs().max() > 0 for p in game[0].parameters())


def test_the_size_of_a_feature_tells_nothing(game):
    discriminator, clean, _ = game
    assert torch.allclose(discriminator(clean), discriminator(clean * 7), atol=1e-5)


def test_trained_discriminator_tells_separable_features_apart_and_equal_ones_not():
    torch.manual_seed(0)
    discriminator = Discriminator(4)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=0.05)
    clean, attacked = torch.randn(64, 4) + 2, torch.randn(64, 4) - 2
    for _ in range(50):
        loss, accuracy = discriminator_game(discriminator, clean, attacked, 1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert accuracy > 0.95
    assert discriminator_game(discriminator, clean, clean, 1.0)[1] == pytest.approx(0.5)
