"""From noise to images: the probability-flow equation `dx/dσ = (x − D(x; σ)) / σ`, solved.

One seed an image: the same image for any batch size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor

from ddid.balance.edm import Denoise, guide, to_pixels
from ddid.balance.network import Generator, pays_bfloat16
from ddid.balance.references import References
from ddid.data.images import to_uint8
from ddid.errors import require, require_within

WAYS = {"translation": (), "references": ("source",), "labels": ("source", "person", "place")}
"""Ways of sampling, and what is not shown there."""

Watch = Callable[[int, Tensor, Tensor], None]
"""Told (step, x, D(x; σ)) at every step, for pictures of the denoising."""


def karras_sigmas(steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0) -> Tensor:
    """σ_0 = sigma_max > … > σ_{steps-1} = sigma_min > σ_steps = 0, float64 (steps + 1,) [summary].
    σ_i = (σ_max^{1/ρ} + i/(N−1) (σ_min^{1/ρ} − σ_max^{1/ρ}))^ρ, ρ = 7"""
    high, low = sigma_max ** (1 / 7), sigma_min ** (1 / 7)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return torch.cat([(high + ramp * (low - high)) ** 7.0, torch.zeros(1, dtype=torch.float64)])


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor, watch: Watch | None = None) -> Tensor:
    """EDM's second-order sampler without churn [summary]: 2·steps − 1 evaluations of `denoise`.
    From noisy images `x` (B, …) at the first of the falling `sigmas` to samples at the last, 0."""
    for i, (now, after) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, now)
        slope = (x - denoised) / now.item()
        if watch:
            watch(i, x, denoised)
        step = (after - now).item()
        ahead = x + step * slope
        if after > 0:
            slope_ahead = (ahead - denoise(ahead, after)) / after.item()
            ahead = x + step * (slope + slope_ahead) / 2
        x = ahead
    return x


@dataclass(frozen=True)
class Sampling:
    """How images are drawn. Our choices but for Heun's solver [summary: EDM, σ from 80 down]."""

    way: str = "translation"
    """`translation` starts from what the camera sees on average, noised, and shows an image of the
    person to translate; `references`, from noise, two other images; `labels` shows nothing."""
    steps: int = 5
    identity_weight: float = 1.0  # how strongly a sample follows its person; 1: unguided
    camera_weight: float = 1.5  # … its camera
    sigma_max: float = 5.0  # where sampling starts; in training it is seldom higher
    sigma_min: float = 1.0  # last level asked: below it coarse steps leave their noise; EDM 0.002

    def __post_init__(self) -> None:
        known = ", ".join(WAYS)
        require(self.way in WAYS, f"unknown way of sampling {self.way!r}: choose one of {known}")
        limits = dict.fromkeys(("identity_weight", "camera_weight"), "(-inf, inf)")
        limits |= {"sigma_max": "(0, inf)", "sigma_min": f"(0, {self.sigma_max})"}
        require_within("sampling", self, steps="[2, inf)", **limits)

    @property
    def evaluations(self) -> int:
        """Times the denoiser is called for a batch."""
        return 2 * self.steps - 1


@torch.no_grad()
def draw_images(
    generator: Generator,
    references: References,
    rows: pd.DataFrame,
    sampling: Sampling,
    watch: Watch | None = None,
) -> Tensor:
    """Images of plan rows (pid, camid, seed), uint8 (B, 3, H, W), in one batch; InputError for an
    identity or camera that the generator does not know or that has no image."""
    denoiser, config = generator
    picks = references.choose(rows)
    told = references.sampling(rows, picks)
    noise = [torch.Generator().manual_seed(int(seed)) for seed in rows["seed"]]
    shape = (3, config.height, config.width)
    start = torch.stack([torch.randn(shape, generator=g) for g in noise]).to(told.source)
    start = sampling.sigma_max * start
    if sampling.way == "translation":
        start = start + references.views[told.camera]
    nothing = told.blank(config.nulls)
    told = told._replace(**{part: getattr(nothing, part) for part in WAYS[sampling.way]})
    sigmas = karras_sigmas(sampling.steps, sampling.sigma_min, sampling.sigma_max)
    weights = (sampling.identity_weight, sampling.camera_weight)
    denoise = guide(denoiser, told, config.nulls, *weights)
    device = references.device
    with torch.autocast(device.type, torch.bfloat16, enabled=pays_bfloat16(device)):
        drawn = heun(denoise, start, sigmas, watch)
    return to_uint8(to_pixels(drawn)).cpu()
