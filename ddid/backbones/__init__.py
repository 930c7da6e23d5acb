"""Backbones: every module here has some, found by name when asked for.

A module has `BACKBONES`: name → function of pretrained weights (a folder or a hub's name; "" for
random ones) and of the images' (height, width) to a module from images (B, 3, H, W), normalised as
for ImageNet, to features (B, D), maps (B, D, h, w) or outputs of transformers' vision models.
"""

from collections.abc import Callable

from torch import nn

from ddid.errors import require
from ddid.modules import modules_of

Build = Callable[[str, tuple[int, int]], nn.Module]


def backbones() -> dict[str, Build]:
    """All backbones by name."""
    known = [module.BACKBONES for module in modules_of(__name__)]
    return {name: build for some in known for name, build in some.items()}


def find_backbone(name: str) -> Build:
    """Look a backbone up; InputError lists what there is."""
    known = backbones()
    require(name in known, f"unknown backbone {name!r}: choose of {', '.join(known)}")
    return known[name]
