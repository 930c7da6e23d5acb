"""What is known of an image before any training: its labels' mean, and the data's spectrum.

Our choice, and what makes a generator trainable in minutes on a CPU. If images were Gaussian around
their label's mean μ, with the data's power spectrum S, the best denoiser would be Wiener's filter

    D(x; σ) = μ + S / (S + σ²) (x − μ)    (frequency by frequency, colour by colour)

The network F contains it, brought into F's units, so the U-Net only learns what a Gaussian is not:
edges, poses, patterns. Training it from scratch spends most of its steps on learning this filter.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from ddid.balance.diffusion import precondition

if TYPE_CHECKING:
    from ddid.balance.network import GeneratorConfig

SKETCH = (16, 8)  # cells; our choice: enough for where the clothes are and which colour they have


class Prior(nn.Module):
    """Measured means and spectrum; nothing here is trained."""

    identity: Tensor
    camera: Tensor
    colours: Tensor
    spectrum: Tensor
    sigma_data: Tensor

    def __init__(self, config: "GeneratorConfig") -> None:
        super().__init__()
        no_identity, no_camera = config.nulls
        self.size = (config.height, config.width)
        self.register_buffer("identity", torch.zeros(no_identity + 1, 3, *SKETCH))
        self.register_buffer("camera", torch.zeros(no_camera + 1, 3, *SKETCH))
        self.register_buffer("colours", torch.eye(3))  # principal colours, in columns
        frequencies = (config.height, config.width // 2 + 1)
        self.register_buffer("spectrum", torch.ones(3, *frequencies))  # of each principal colour
        self.register_buffer("sigma_data", torch.ones(()))

    def sketch(self, identity: Tensor, camera: Tensor) -> Tensor:
        """μ: what images of these labels look like on average, (B, 3, H, W)."""
        small = self.identity[identity] + self.camera[camera]
        return interpolate(small, self.size, mode="bilinear")

    def forward(self, images: Tensor, c_noise: Tensor, mean: Tensor) -> Tensor:
        """Wiener's denoiser as F sees it: (D(x; σ) − c_skip x) / c_out at c_in x.

        Args:
            images: c_in x, float32 (B, 3, H, W).
            c_noise: (B,).
            mean: μ, as images.
        """
        sigma = (4 * c_noise).exp().view(-1, 1, 1, 1)
        c = precondition(sigma, self.sigma_data)
        noisy = images / c.c_in
        gain = self.spectrum / (self.spectrum + sigma**2)
        waves = torch.fft.rfft2(self._mix(self.colours.T, noisy - mean), norm="ortho")
        rest = torch.fft.irfft2(gain * waves, s=self.size, norm="ortho")
        denoised = mean + self._mix(self.colours, rest)
        return (denoised - c.c_skip * noisy) / c.c_out

    @torch.no_grad()
    def fit(self, images: Tensor, identity: Tensor, camera: Tensor) -> None:
        """Measure everything.

        Args:
            images: centred, (N, 3, H, W).
            identity: label indices (N,).
            camera: label indices (N,).
        """
        small = adaptive_avg_pool2d(images, SKETCH)
        self.camera[:] = small.mean(0)
        for label in camera.unique():
            self.camera[label] = small[camera == label].mean(0)
        rest = small - self.camera[camera]
        for label in identity.unique():
            self.identity[label] = rest[identity == label].mean(0)
        left = images - self.sketch(identity, camera)
        self.colours[:] = torch.linalg.eigh(torch.cov(left.transpose(0, 1).flatten(1)))[1]
        waves = torch.fft.rfft2(self._mix(self.colours.T, left), norm="ortho")
        self.spectrum[:] = waves.abs().square().mean(0)
        self.sigma_data.copy_(images.std())

    @staticmethod
    def _mix(matrix: Tensor, images: Tensor) -> Tensor:
        return torch.einsum("ij,bjhw->bihw", matrix, images)
