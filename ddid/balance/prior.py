"""What is known of an image before any training: exemplars of its identity, and a spectrum.

Our choice, and what makes a generator usable after minutes on a CPU. Suppose an image is a sketch
μ, pieced together from exemplars of its identity as its camera would see them, plus Gaussian detail
with a power spectrum S. Then the best denoiser is Wiener's filter around the sketch:

    D(x; σ) = μ(x) + S / (S + σ²) (x − μ(x))     (frequency by frequency, colour by colour)

A camera that has not seen the exemplar sees it before one of its own places: what stays the same
from camera to camera is the person (`silhouette`), the rest belongs to the camera.

Where images have no detail beyond their exemplars, S is 0 and the sketch is all: so it is at 64×32,
the sketch's own size, while most identities have no more images than exemplars are kept.

The network F contains the filter, in F's units, so the U-Net only learns what it misses. (The
optimal denoiser of a whole data set is such a mean and repeats its images: Karras et al. 2022, B.3.
Windows piece new images together: Kamb and Ganguli 2025. Two things were tried. Hiding a training
image from its own sketch: 400 steps are too few for the U-Net to draw better what it then throws
away. And cutting people out image by image, by what a camera's other images and an identity's other
cameras show, before places without people: sharper pictures, and no gain in training from them.)
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, interpolate

from ddid.balance.diffusion import centre, precondition
from ddid.data.images import to_unit

if TYPE_CHECKING:
    from ddid.balance.network import GeneratorConfig

SKETCH = (64, 32)  # cells; our choice: sharp at 64×32, a sketch for the U-Net at larger sizes
EXEMPLARS = 16  # of an identity or camera; our choice: bounds memory, most identities have fewer
WINDOW = (41, 25)  # cells that must fit together; smaller ones piece more, larger ones copy more
MEASURED = 1024  # images that spectrum and σ_data are measured on
BATCH = 256  # images looked at together
SMOOTH = 5  # cells over which agreement between cameras is averaged, twice
CERTAIN = 0.5  # share of the largest value from which on a cell is all person, both times
AGREEMENT = 0.1  # smoothed correlation that must be reached somewhere; chance stays below it
MEDIANS = (math.log(2), 0.4549)  # of squared complex and real Gaussian waves of mean power 1
TOLERANCE = 0.1  # standard deviation of a cell around its exemplar, pixels in [-1, 1]


class Prior(nn.Module):
    """Measured sketches and spectrum; nothing here is trained."""

    identity: Tensor
    exemplars: Tensor
    seen: Tensor
    camera: Tensor
    places: Tensor
    place_counts: Tensor
    person: Tensor
    colours: Tensor
    spectrum: Tensor
    sigma_data: Tensor

    def __init__(self, config: "GeneratorConfig") -> None:
        super().__init__()
        no_identity, no_camera = config.nulls
        self.size = (config.height, config.width)
        frequencies = (config.height, config.width // 2 + 1)
        sketches = torch.zeros(no_identity + 1, EXEMPLARS, 3, *SKETCH)
        self.register_buffer("identity", sketches)  # less the camera's mean
        self.register_buffer("exemplars", torch.ones(no_identity + 1, dtype=torch.int64))
        seen = torch.full((no_identity + 1, EXEMPLARS), no_camera)
        self.register_buffer("seen", seen)  # the exemplars' cameras
        self.register_buffer("camera", torch.zeros(no_camera + 1, 3, *SKETCH))
        places = torch.zeros(no_camera + 1, EXEMPLARS, 3, *SKETCH)
        self.register_buffer("places", places)  # images of a camera, less its mean
        self.register_buffer("place_counts", torch.ones(no_camera + 1, dtype=torch.int64))
        self.register_buffer("person", torch.ones(SKETCH))
        self.register_buffer("colours", torch.eye(3))  # principal colours, in columns
        self.register_buffer("spectrum", torch.ones(3, *frequencies))  # of each principal colour
        self.register_buffer("sigma_data", torch.ones(()))

    def sketch(self, noisy: Tensor, sigma: Tensor, identity: Tensor, camera: Tensor) -> Tensor:
        """μ(x): for each window, the mean of the exemplars that x may show there.

        Args:
            noisy: x, (B, 3, H, W).
            sigma: (B,).
            identity: label indices (B,).
            camera: label indices (B,).

        Returns:
            (B, 3, H, W).
        """
        choice = self.seen_by(identity, camera)
        cells = adaptive_avg_pool2d(noisy, SKETCH)[:, None]
        misfit = (cells - choice).square().sum(2)
        for kernel in ((WINDOW[0], 1), (1, WINDOW[1])):  # one axis after the other: 16 times faster
            half = (kernel[0] // 2, kernel[1] // 2)
            misfit = avg_pool2d(misfit, kernel, 1, half, count_include_pad=False)
        misfit = misfit * WINDOW[0] * WINDOW[1]
        pixels = self.size[0] * self.size[1] / (SKETCH[0] * SKETCH[1])
        variance = sigma.square().view(-1, 1, 1, 1) / pixels + TOLERANCE**2
        empty = torch.arange(EXEMPLARS, device=noisy.device) >= self.exemplars[identity, None]
        logits = (-misfit / (2 * variance)).masked_fill(empty[..., None, None], -torch.inf)
        mean = (logits.softmax(1)[:, :, None] * choice).sum(1)
        return interpolate(mean, self.size, mode="bilinear")

    def seen_by(self, identity: Tensor, camera: Tensor) -> Tensor:
        """Exemplars (B, J, 3, h, w) of identities (B,) as cameras (B,) would see them."""
        own, no_camera = self.identity[identity], len(self.camera) - 1
        unseen = self.seen[identity] != camera[:, None]
        unseen &= (self.seen[identity] != no_camera) & (camera[:, None] != no_camera)
        rows = torch.arange(EXEMPLARS, device=camera.device) + identity[:, None]
        place = self.places[camera[:, None], rows % self.place_counts[camera, None]]
        return self.camera[camera, None] + torch.where(
            unseen[..., None, None, None], torch.lerp(place, own, self.person), own
        )

    def forward(
        self, images: Tensor, c_noise: Tensor, identity: Tensor, camera: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The filter as F sees it, (D(x; σ) − c_skip x) / c_out at c_in x, and μ(x) / σ_data.

        Args:
            images: c_in x, float32 (B, 3, H, W).
            c_noise: (B,).
            identity: label indices (B,).
            camera: label indices (B,).
        """
        with torch.autocast(images.device.type, enabled=False):  # no Fourier transform in bfloat16
            sigma = (4 * c_noise.float()).exp()
            level = sigma.view(-1, 1, 1, 1)
            c = precondition(level, self.sigma_data)
            noisy = images.float() / c.c_in
            mean = self.sketch(noisy, sigma, identity, camera)
            gain = self.spectrum / (self.spectrum + level**2)
            rest = torch.fft.irfft2(gain * self._waves(noisy - mean), s=self.size, norm="ortho")
            denoised = mean + torch.einsum("ij,bjhw->bihw", self.colours, rest)
            return (denoised - c.c_skip * noisy) / c.c_out, mean / self.sigma_data

    @torch.no_grad()
    def fit(self, images: Tensor, identity: Tensor, camera: Tensor) -> None:
        """Measure everything; the spectrum and σ_data on at most `MEASURED` images.

        Args:
            images: uint8 (N, 3, H, W).
            identity: label indices (N,).
            camera: label indices (N,).
        """
        cells = [adaptive_avg_pool2d(centre(to_unit(x)), SKETCH) for x in images.split(BATCH)]
        rest = torch.cat(cells)
        self.camera[:] = rest.mean(0)
        known = camera != len(self.camera) - 1
        cameras = camera[known].unique()
        for label in cameras:
            self.camera[label] = rest[camera == label].mean(0)
        rest -= self.camera[camera]
        self.person[:] = silhouette(rest[known], identity[known], camera[known])
        for label in identity.unique():
            own = evenly((identity == label).nonzero()[:, 0], EXEMPLARS)
            self.identity[label, : len(own)] = rest[own]
            self.exemplars[label] = len(own)
            self.seen[label, : len(own)] = camera[own]
        for label in cameras:
            own = evenly((camera == label).nonzero()[:, 0], EXEMPLARS)
            self.places[label, : len(own)] = rest[own]
            self.place_counts[label] = len(own)
        some = evenly(torch.arange(len(images), device=images.device), MEASURED)
        self.sigma_data.fill_(measure_sigma_data(images))
        self._measure_detail(images[some], identity[some], camera[some])

    def _measure_detail(self, images: Tensor, identity: Tensor, camera: Tensor) -> None:
        """Principal colours and spectrum of what images have beside their sketches.

        The power is measured by its median, which does not mind a few images whose sketch misses
        them: those of identities with more images than exemplars.
        """
        batches = zip(images.split(BATCH), identity.split(BATCH), camera.split(BATCH), strict=True)
        details = []
        for part, i, c in batches:
            clean = centre(to_unit(part))
            details.append(clean - self.sketch(clean, clean.new_zeros(len(clean)), i, c))
        colours = torch.cov(torch.cat([d.transpose(0, 1).flatten(1) for d in details], 1))
        self.colours[:] = torch.linalg.eigh(colours)[1]
        power = torch.cat([self._waves(d).abs().square() for d in details])
        height, width = self.size
        median = torch.full_like(self.spectrum, MEDIANS[0])
        median[:, :: max(1, height // 2), :: max(1, width // 2)] = MEDIANS[1]
        self.spectrum[:] = power.median(0).values / median

    def _waves(self, images: Tensor) -> Tensor:
        mixed = torch.einsum("ji,bjhw->bihw", self.colours, images)
        return torch.fft.rfft2(mixed, norm="ortho")


def silhouette(rest: Tensor, identity: Tensor, camera: Tensor) -> Tensor:
    """(h, w) in [0, 1]: where an image shows its person rather than its camera's place.

    Twice over, `agreement` is averaged with the cells around and 1 from a share `CERTAIN` of its
    maximum on, so its edges are soft. 1 everywhere if no identity has two cameras, or people look
    no more alike in two than chance would have it.
    """
    person = agreement(rest, identity, camera)
    for least in (AGREEMENT, 0):
        person = avg_pool2d(person[None], SMOOTH, 1, SMOOTH // 2, count_include_pad=False)[0]
        if person.max() < least:
            return torch.ones_like(person)
        person = (person / (CERTAIN * person.max())).clamp(0, 1)
    return person


def agreement(rest: Tensor, identity: Tensor, camera: Tensor) -> Tensor:
    """(h, w): correlation of images of one identity from different cameras, cell by cell.

    What stays the same wherever somebody goes is that somebody.

    Args:
        rest: images (N, 3, h, w) less their cameras' means.
        identity: (N,) labels.
        camera: (N,) labels.
    """
    together, pairs = rest.new_zeros(rest.shape[1:]), 0
    for label in identity.unique():
        own = identity == label
        groups = [own & (camera == c) for c in camera[own].unique()]
        sums = torch.stack([rest[group].sum(0) for group in groups])
        together += sums.sum(0).square() - sums.square().sum(0)
        pairs += int(own.sum()) ** 2 - sum(int(group.sum()) ** 2 for group in groups)
    if not pairs:
        return rest.new_ones(rest.shape[-2:])
    return together.sum(0) / pairs / rest.square().sum(1).mean(0).clamp(min=1e-12)


def measure_sigma_data(images: Tensor) -> float:
    """Standard deviation of centred pixels, of at most `MEASURED` uint8 images (N, 3, H, W)."""
    return centre(to_unit(evenly(images, MEASURED))).std().item()


def evenly(rows: Tensor, most: int) -> Tensor:
    """All rows (N, …), or `most` of them evenly spread."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most).round().long().to(rows.device)]
