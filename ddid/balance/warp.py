"""Non-leaky augmentation (Karras et al. 2020): the network is told how an image was warped.

Told zero at sampling, it draws upright images although it was trained on flipped and shifted ones.
"""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

WARPS = 4  # flip, shift right, shift down, log2 of the scale
SHIFT, SCALE = (
    0.08,
    0.1,
)  # our choice: what a detector's boxes vary by; shares of the image, octaves


def draw_warps(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Random warps (count, WARPS), float32; each part is 0 (no change) unless drawn.

    Args:
        count: images.
        probability: that a part is drawn.
        generator: on the CPU.
    """
    size = torch.randn(count, WARPS, generator=generator) * torch.tensor([0, SHIFT, SHIFT, SCALE])
    size[:, 0] = 1
    return size * (torch.rand(count, WARPS, generator=generator) < probability)


def apply_warps(images: Tensor, warps: Tensor) -> Tensor:
    """Warp images (B, 3, H, W); borders are repeated."""
    flip, right, down, octaves = warps.unbind(1)
    zoom = torch.exp2(-octaves)
    zero = torch.zeros_like(zoom)
    rows = [
        torch.stack([zoom * (1 - 2 * flip), zero, -2 * right * zoom * (1 - 2 * flip)], 1),
        torch.stack([zero, zoom, -2 * down * zoom], 1),
    ]
    grid = affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="border", align_corners=False)
