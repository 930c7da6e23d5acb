"""From noise to images: the probability-flow equation `dx/dσ = (x − D(x; σ)) / σ`, solved."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from ddid.balance.diffusion import Denoise
from ddid.errors import require

Watch = Callable[[int, Tensor], None]
"""Told (step, D(x; σ)) at every step, for pictures of the denoising."""


def karras_sigmas(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Tensor:
    """σ_0 = sigma_max > … > σ_{steps-1} = sigma_min > σ_steps = 0, float64 (steps + 1,) [summary].

    σ_i = (σ_max^{1/ρ} + i/(N−1) (σ_min^{1/ρ} − σ_max^{1/ρ}))^ρ
    """
    require(steps >= 2, f"sampling in {steps} step(s): take at least 2")
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)])


def heun(denoise: Denoise, noise: Tensor, sigmas: Tensor, watch: Watch | None = None) -> Tensor:
    """EDM's second-order sampler without churn [summary]: 2·steps − 1 evaluations of `denoise`.

    Args:
        denoise: D(x; σ).
        noise: standard normal (B, …); decides the image.
        sigmas: falling noise levels ending in 0, as `karras_sigmas`.
        watch: told the denoised images at every step.

    Returns:
        Samples, shaped like `noise`.
    """
    x = sigmas[0].item() * noise
    for i, (now, after) in enumerate(pairwise(sigmas)):
        denoised = denoise(x, now)
        slope = (x - denoised) / now.item()
        step = (after - now).item()
        ahead = x + step * slope
        if after > 0:
            slope_ahead = (ahead - denoise(ahead, after)) / after.item()
            ahead = x + step * (slope + slope_ahead) / 2
        x = ahead
        if watch:
            watch(i, denoised)
    return x


def multistep(
    denoise: Denoise, noise: Tensor, sigmas: Tensor, watch: Watch | None = None
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022): second order at one evaluation a step, `steps` in all.

    With t = −ln σ the equation is linear in x; D is extrapolated from the last two evaluations:

        x ← (σ'/σ) x + (1 − σ'/σ) D̃,   D̃ = D + (D − D_last) h / (2 h_last),   h = ln(σ/σ')

    Arguments and result as for `heun`.
    """
    x = sigmas[0].item() * noise
    last: Tensor | None = None
    h_last = 0.0
    for i, (now, after) in enumerate(pairwise(sigmas)):
        denoised = estimate = denoise(x, now)
        ratio = (after / now).item()
        h = -torch.log(after / now).item()
        if last is not None and after > 0:
            estimate = denoised + (denoised - last) * (h / (2 * h_last))
        x = ratio * x + (1 - ratio) * estimate
        last, h_last = denoised, h
        if watch:
            watch(i, denoised)
    return x


SOLVERS = {"heun": heun, "multistep": multistep}
