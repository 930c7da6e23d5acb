"""EDM (Karras et al. 2022), the generator's mathematics: preconditioning, loss, guidance.

A denoiser `D` estimates a clean image from a noisy one, `x = y + σn`, `n ~ N(0, 1)`. Images here
are centred: pixels in [0, 1] become [-1, 1]. σ is in those units.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ddid.errors import require

Denoise = Callable[[Tensor, Tensor], Tensor]
"""D(x; σ): noisy images (B, …) and a noise level, (B,) or a scalar, to clean images (B, …)."""


class Preconditioning(NamedTuple):
    """The four coefficients, each shaped like σ."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def precondition(sigma: Tensor, sigma_data: Tensor | float) -> Preconditioning:
    """Coefficients that keep input, target and error of the network at unit variance [summary], for
    `sigma` > 0 of any shape; `sigma_data` is the centred images' standard deviation."""
    total = sigma**2 + sigma_data**2
    return Preconditioning(
        c_skip=sigma_data**2 / total,
        c_out=sigma * sigma_data / total.sqrt(),
        c_in=1 / total.sqrt(),
        c_noise=sigma.log() / 4,
    )


def centre(images: Tensor) -> Tensor:
    """Pixels in [0, 1] → [-1, 1]."""
    return images * 2 - 1


def to_pixels(centred: Tensor) -> Tensor:
    """The inverse of `centre`, cut to [0, 1]."""
    return ((centred + 1) / 2).clamp(0, 1)


class Condition(NamedTuple):
    """What the network is told beside a noisy image, (B, 3, H, W) images and (B,) label indices."""

    source: Tensor  # an image of the person as it stands, less its camera's colours
    person: Tensor  # another image of the person, less its camera's colours
    place: Tensor  # what the camera sees, with somebody else in it
    identity: Tensor
    camera: Tensor

    def blank(self, nulls: tuple[int, int]) -> "Condition":
        """One that tells nothing: zero images and the null labels of identity and camera."""
        images = map(torch.zeros_like, self[:3])
        return Condition(*images, *map(torch.full_like, self[3:], nulls))


class Denoiser(nn.Module):
    """D(x; σ) = c_skip x + c_out F(c_in x; c_noise) around a network `F(x, c_noise, condition)`."""

    sigma_data: Tensor

    def __init__(self, network: nn.Module, sigma_data: float) -> None:
        super().__init__()
        require(sigma_data > 0, f"sigma_data is {sigma_data}: the images are all of one colour")
        self.network = network
        self.register_buffer("sigma_data", torch.tensor(sigma_data, dtype=torch.float32))

    def forward(self, noisy: Tensor, sigma: Tensor, *condition: Condition) -> Tensor:
        """Denoised images (B, 3, H, W) in float32; `sigma` is (B,) or a scalar."""
        sigma = sigma.to(noisy).expand(len(noisy))
        c = precondition(sigma.view(-1, 1, 1, 1), self.sigma_data)
        output = self.network(c.c_in * noisy, c.c_noise.flatten(), *condition)
        return c.c_skip * noisy + c.c_out * output.to(noisy.dtype)


def edm_loss(
    denoiser: Denoiser, images: Tensor, noise: Tensor, sigma: Tensor, *condition: Condition
) -> Tensor:
    """Mean over batch and pixels of λ(σ) (D(y + σn; σ) − y)², λ = 1 / c_out² [summary]. `images` y
    are centred, `noise` n is standard normal, both (B, 3, H, W); `sigma` is (B,)."""
    denoised = denoiser(images + sigma.view(-1, 1, 1, 1) * noise, sigma, *condition)
    c_out = precondition(sigma, denoiser.sigma_data).c_out.view(-1, 1, 1, 1)
    return ((denoised - images) ** 2 / c_out**2).mean()


def guide(
    denoiser: nn.Module, told: Condition, nulls: tuple[int, int], person: float, camera: float
) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022) with a weight for person and for camera.

        D = D(∅, ∅) + w_i (D(i, ∅) − D(∅, ∅)) + w_c (D(i, c) − D(i, ∅))

    Our choice of chain: the camera is learnt from every identity, so its direction is the reliable
    one to take last. The terms with a non-zero coefficient are evaluated in one batch.
    """
    nothing = told.blank(nulls)
    alone = told._replace(place=nothing.place, camera=nothing.camera)
    terms = [(camera, told), (person - camera, alone), (1 - person, nothing)]
    weights, conditions = zip(*(term for term in terms if term[0] != 0), strict=True)
    together = Condition(*map(torch.cat, zip(*conditions, strict=True)))
    copies = len(weights)

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        found = denoiser(noisy.repeat(copies, 1, 1, 1), sigma, together).chunk(copies)
        return sum(weight * part for weight, part in zip(weights, found, strict=True))

    return denoise
