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

P_MEAN, P_STD = -1.2, 1.2  # ln σ in training ~ N(P_MEAN, P_STD²) [summary: EDM]

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


def training_sigma(normal: Tensor) -> Tensor:
    """Noise levels to train on from standard normal draws, same shape [summary]."""
    return (P_MEAN + P_STD * normal).exp()


def centre(images: Tensor) -> Tensor:
    """Pixels in [0, 1] → [-1, 1]."""
    return images * 2 - 1


def to_pixels(centred: Tensor) -> Tensor:
    """The inverse of `centre`, cut to [0, 1]."""
    return ((centred + 1) / 2).clamp(0, 1)


class Denoiser(nn.Module):
    """D(x; σ) around a network `F(x, c_noise, *condition)`.

    Args:
        network: F, images (B, 3, H, W), noise (B,) and conditions to (B, 3, H, W).
        sigma_data: measured from the data; 0.33 on the street, not EDM's 0.5.
    """

    sigma_data: Tensor

    def __init__(self, network: nn.Module, sigma_data: float) -> None:
        super().__init__()
        require(sigma_data > 0, f"sigma_data is {sigma_data}: the images are all of one colour")
        self.network = network
        self.register_buffer("sigma_data", torch.tensor(sigma_data, dtype=torch.float32))

    def forward(self, noisy: Tensor, sigma: Tensor, *condition: Tensor) -> Tensor:
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
    condition: tuple[Tensor, ...] = ()  # further inputs of the network, each (B, …)


def edm_loss(denoise: nn.Module, batch: NoisyBatch, sigma_data: Tensor | float) -> Tensor:
    """Mean over batch and pixels of λ(σ) (D(y + σn; σ) − y)² [summary]."""
    sigma = batch.sigma.view(-1, 1, 1, 1)
    noisy = batch.images + sigma * batch.noise
    error = denoise(noisy, batch.sigma, *batch.condition) - batch.images
    return (loss_weight(sigma, sigma_data) * error**2).mean()


class Guidance(NamedTuple):
    """How strongly a sample follows its labels; 1 and 1 is plain conditional sampling."""

    identity: float = 1.5
    camera: float = 1.5


def guide(
    denoiser: nn.Module,
    identity: Tensor,
    camera: Tensor,
    nulls: tuple[int, int],
    weights: Guidance,
) -> Denoise:
    """Classifier-free guidance (Ho and Salimans 2022) with a weight for each of the two labels.

        D = D(∅, ∅) + w_i (D(i, ∅) − D(∅, ∅)) + w_c (D(i, c) − D(i, ∅))

    Our choice of chain: the camera is learnt from every identity, so its direction is the reliable
    one to take last. The terms with a non-zero coefficient are evaluated in one batch.

    Args:
        denoiser: D(x, σ, identity, camera).
        identity: label indices (B,).
        camera: label indices (B,).
        nulls: the index that stands for no identity, and for no camera.
        weights: w_i and w_c.
    """
    w_i, w_c = weights
    no_identity, no_camera = (
        torch.full_like(label, null) for label, null in zip((identity, camera), nulls, strict=True)
    )
    terms = [
        (w_c, identity, camera),
        (w_i - w_c, identity, no_camera),
        (1 - w_i, no_identity, no_camera),
    ]
    coefficients, identities, cameras = zip(*(t for t in terms if t[0] != 0), strict=True)
    copies, labels = len(coefficients), (torch.cat(identities), torch.cat(cameras))

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        together = denoiser(noisy.repeat(copies, 1, 1, 1), sigma, *labels).chunk(copies)
        return sum(c * part for c, part in zip(coefficients, together, strict=True))

    return denoise
