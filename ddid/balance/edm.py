"""EDM (Karras et al. 2022), the generator's mathematics: preconditioning, loss, guidance.

A denoiser `D` estimates a clean image from a noisy one, `x = y + σn`, `n ~ N(0, 1)`:

    D(x; σ) = c_skip x + c_out F(c_in x; c_noise)

Images inside this module are centred: pixels in [0, 1] become [-1, 1]. σ is in those units.
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
    """Coefficients that keep input, target and error of the network at unit variance [summary].

    Args:
        sigma: noise levels, positive, any shape.
        sigma_data: standard deviation of the centred images.
    """
    total = sigma**2 + sigma_data**2
    return Preconditioning(
        c_skip=sigma_data**2 / total,
        c_out=sigma * sigma_data / total.sqrt(),
        c_in=1 / total.sqrt(),
        c_noise=sigma.log() / 4,
    )


def loss_weight(sigma: Tensor, sigma_data: Tensor | float) -> Tensor:
    """λ(σ) = (σ² + σ_data²) / (σ σ_data)² = 1 / c_out² [summary]."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def centre(images: Tensor) -> Tensor:
    """Pixels in [0, 1] → [-1, 1]."""
    return images * 2 - 1


def to_pixels(centred: Tensor) -> Tensor:
    """The inverse of `centre`, cut to [0, 1]."""
    return ((centred + 1) / 2).clamp(0, 1)


class Condition(NamedTuple):
    """What the network is told beside a noisy image; a zero image and a null label tell nothing."""

    source: Tensor
    """(B, 3, H, W): an image of the person as it stands, less its camera's colours."""
    person: Tensor
    """(B, 3, H, W): another image of the person, less its camera's colours."""
    place: Tensor
    """(B, 3, H, W): what the camera sees, centred, with somebody else in it."""
    identity: Tensor
    """(B,) label indices."""
    camera: Tensor
    """(B,) label indices."""


class Denoiser(nn.Module):
    """D(x; σ) around a network `F(x, c_noise, condition)`.

    Args:
        network: F, images (B, 3, H, W), noise (B,) and a condition to (B, 3, H, W).
        sigma_data: measured from the data; 0.33 on the street, not EDM's 0.5.
    """

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


class NoisyBatch(NamedTuple):
    """What one training step looks at."""

    images: Tensor  # y, centred, (B, 3, H, W)
    noise: Tensor  # n, standard normal, same shape
    sigma: Tensor  # (B,)
    condition: Condition | None = None


def edm_loss(denoise: nn.Module, batch: NoisyBatch, sigma_data: Tensor | float) -> Tensor:
    """Mean over batch and pixels of λ(σ) (D(y + σn; σ) − y)² [summary]."""
    sigma = batch.sigma.view(-1, 1, 1, 1)
    told = () if batch.condition is None else (batch.condition,)
    denoised = denoise(batch.images + sigma * batch.noise, batch.sigma, *told)
    return (loss_weight(sigma, sigma_data) * (denoised - batch.images) ** 2).mean()


class Guidance(NamedTuple):
    """How strongly a sample follows person and camera; 1 and 1 is plain conditional sampling."""

    identity: float = 1.0
    camera: float = 1.0


def hide(condition: Condition, nulls: tuple[int, int], what: str) -> Condition:
    """The condition without its `identity` (label, source, person) or its `camera` (label, place).

    Args:
        condition: what is told.
        nulls: the index that stands for no identity, and for no camera.
        what: `identity` or `camera`.
    """
    names = ("source", "person") if what == "identity" else ("place",)
    null = nulls[what == "camera"]
    blank = {name: torch.zeros_like(getattr(condition, name)) for name in names}
    return condition._replace(**blank, **{what: torch.full_like(getattr(condition, what), null)})


def guide(
    denoiser: nn.Module, condition: Condition, nulls: tuple[int, int], weights: Guidance
) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022) with a weight for person and for camera.

        D = D(∅, ∅) + w_i (D(i, ∅) − D(∅, ∅)) + w_c (D(i, c) − D(i, ∅))

    Our choice of chain: the camera is learnt from every identity, so its direction is the reliable
    one to take last. The terms with a non-zero coefficient are evaluated in one batch.

    Args:
        denoiser: D(x, σ, condition).
        condition: i and c, labels and images.
        nulls: the index that stands for no identity, and for no camera.
        weights: w_i and w_c.
    """
    w_i, w_c = weights
    alone = hide(condition, nulls, "camera")
    nothing = hide(alone, nulls, "identity")
    terms = [(w_c, condition), (w_i - w_c, alone), (1 - w_i, nothing)]
    coefficients, told = zip(*(term for term in terms if term[0] != 0), strict=True)
    together = Condition(*(torch.cat(parts) for parts in zip(*told, strict=True)))
    copies = len(told)

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        found = denoiser(noisy.repeat(copies, 1, 1, 1), sigma, together).chunk(copies)
        return sum(c * part for c, part in zip(coefficients, found, strict=True))

    return denoise
