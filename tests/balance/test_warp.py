"""Warps against slicing, and their label."""

import torch

from ddid.balance.warp import WARPS, apply_warps, draw_warps

IMAGES = torch.rand(2, 3, 16, 8, generator=torch.Generator().manual_seed(0))


def warp(**parts):
    names = ("flip", "right", "down", "octaves")
    return torch.tensor([[float(parts.get(name, 0)) for name in names]] * 2)


def test_no_warp_is_the_image():
    assert torch.allclose(apply_warps(IMAGES, warp()), IMAGES, atol=1e-6)


def test_flip_mirrors_left_and_right():
    assert torch.allclose(apply_warps(IMAGES, warp(flip=1)), IMAGES.flip(-1), atol=1e-6)


def test_shifts_move_the_content():
    right = apply_warps(IMAGES, warp(right=2 / 8))
    assert torch.allclose(right[..., 2:], IMAGES[..., :-2], atol=1e-5)
    down = apply_warps(IMAGES, warp(down=4 / 16))
    assert torch.allclose(down[..., 4:, :], IMAGES[..., :-4, :], atol=1e-5)


def test_a_flipped_shift_shifts_the_flipped_image():
    found = apply_warps(IMAGES, warp(flip=1, right=2 / 8))
    assert torch.allclose(found[..., 2:], IMAGES.flip(-1)[..., :-2], atol=1e-5)


def test_an_octave_doubles_the_size():
    small = torch.zeros(2, 3, 16, 8)
    small[:, :, 6:10, 3:5] = 1
    assert apply_warps(small, warp(octaves=1)).sum() > 3.5 * small.sum()


def test_draws_are_rare():
    drawn = draw_warps(4000, 0.1, torch.Generator().manual_seed(3))
    assert drawn.shape == (4000, WARPS)
    shares = (drawn != 0).float().mean(0)
    assert ((shares - 0.1).abs() < 0.02).all()
    assert set(drawn[:, 0].tolist()) == {0, 1}
    never = draw_warps(100, 0.0, torch.Generator().manual_seed(3))
    assert (never == 0).all()
