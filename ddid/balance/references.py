"""What the generator is shown of real images: the person, another image of it, and the place.

An image of somebody is shown *less its camera's colours*: each camera's mean and spread, measured
in the middle of the boxes, are taken away. In training the network restores an image from such a
copy of itself in another camera's surroundings, its colours off by a little: it learns to keep the
person and to draw the place anew, as sampling asks for [ours].
"""

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ddid.balance.edm import Condition, centre
from ddid.balance.network import GeneratorConfig
from ddid.data.images import ImageSet, to_unit, where_rows
from ddid.errors import require
from ddid.seeds import seed_of

TRIES = 4  # images drawn to find one of another camera, of another person, or beside the source
MIDDLE = (0.1, 0.3)  # share of height and width that is left out on each side of the person
GAIN, OFFSET, NOISE = 0.1, 0.15, 0.15  # of the copy's colours; our choice, tuned on the street
HIDDEN, UNTOLD = 0.1, 0.05  # probability that one part, or all of person or camera, is not shown


class Picks(NamedTuple):
    """Rows of the real images shown for each image to draw, int64 (B,) each."""

    source: Tensor
    person: Tensor
    place: Tensor


class References:
    """Real images by identity and camera, and what each camera makes of them."""

    def __init__(self, real: ImageSet, config: GeneratorConfig, device: torch.device) -> None:
        size, found = (config.height, config.width), tuple(real.images.shape[2:])
        require(found == size, f"references are of {found} pixels: read images of {size}")
        self.images, self.device, self.config = real.images, device, config
        self.identity, self.camera = config.labels(real.pids, real.camids)
        self.persons = Groups(self.identity, config.nulls[0])
        self.places = Groups(self.camera, config.nulls[1])
        self.mean, self.spread, self.views = (part.to(device) for part in self._cameras())

    def _cameras(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each camera, and last of all images, the mean and standard deviation of the colours,
        (C + 1, 3, 1, 1), and what it sees on average (C + 1, 3, H, W)."""
        height, width = self.images.shape[-2:]
        top, left = int(MIDDLE[0] * height), int(MIDDLE[1] * width)
        sums = torch.zeros(self.config.nulls[1] + 1, 2, 3, dtype=torch.float64)
        views = torch.zeros(len(sums), 3, height, width, dtype=torch.float64)
        for images, camera in zip(self.images.split(256), self.camera.split(256), strict=True):
            shown = centre(to_unit(images))
            views.index_add_(0, camera, shown.double())
            middle = shown[..., top : height - top, left : width - left].contiguous()
            moments = torch.stack([middle.mean((2, 3)), middle.square().mean((2, 3))], 1)
            sums.index_add_(0, camera, moments.double())
        counts = torch.bincount(self.camera, minlength=len(sums))
        sums[-1], views[-1], counts[-1] = sums.sum(0), views.sum(0), len(self.images)
        counts = counts.clamp(min=1)[:, None, None]
        mean, square = (sums / counts).float()[..., None, None].unbind(1)
        spread = (square - mean**2).clamp(min=1e-4).sqrt()
        return mean, spread, (views / counts[..., None]).float()

    def show(self, rows: Tensor) -> Tensor:
        """Images (B, 3, H, W) at `rows`, centred, on the device."""
        return centre(to_unit(self.images[rows].to(self.device)))

    def stripped(self, rows: Tensor) -> Tensor:
        """Images at `rows` less their cameras' colours: about mean 0, standard deviation 1."""
        camera = self.camera[rows]
        return (self.show(rows) - self.mean[camera]) / self.spread[camera]

    def coloured(self, rows: Tensor) -> Tensor:
        """Images at `rows` as views of a camera: its colours stay."""
        return (self.show(rows) - self.mean[-1]) / self.spread[-1]

    def training(self, rows: Tensor, draw: torch.Generator) -> Condition:
        """What a training step tells of the images at `rows`, some of it hidden at random."""
        chance = torch.rand(3, len(rows), TRIES, generator=draw)
        identity, camera = self.identity[rows], self.camera[rows]
        person = self.persons.pick(identity, chance[0], lambda found: found != rows[:, None])
        place = self._pick_place(identity, camera, chance[1])
        anyone = (chance[2] * len(self.images)).long()
        other = first(anyone, self.camera[anyone] != camera[:, None])
        own, around = (distort(self.stripped(found), draw) for found in (rows, other))
        shape = blobs(len(rows), (self.config.height, self.config.width), draw).to(self.device)
        source = torch.lerp(around, own, shape)
        return self._hidden(self._told(source, person, place, identity, camera), draw)

    def _pick_place(self, identity: Tensor, camera: Tensor, chance: Tensor) -> Tensor:
        others = identity[:, None]
        return self.places.pick(camera, chance, lambda found: self.identity[found] != others)

    def _told(
        self, source: Tensor, person: Tensor, place: Tensor, identity: Tensor, camera: Tensor
    ) -> Condition:
        labels = identity.to(self.device), camera.to(self.device)
        return Condition(source, self.stripped(person), self.coloured(place), *labels)

    def _hidden(self, told: Condition, draw: torch.Generator) -> Condition:
        """Hide each part at random: on its own, and with all else of the person or the camera."""
        chance = torch.rand(len(told) + 2, len(told.identity), generator=draw)
        person, camera = chance[5:] < UNTOLD
        gone = chance[:5] < HIDDEN
        gone |= torch.stack(Condition(person, person, camera, person, camera))
        nothing = told.blank(self.config.nulls)
        return Condition(*map(where_rows, gone.to(self.device), nothing, told))

    def choose(self, rows: pd.DataFrame) -> Picks:
        """References for plan rows (pid, camid, seed), by each row's own seed; the source is from
        another camera than the wanted one, if any of the person's `TRIES` drawn images is."""
        identity, camera = self._labels(rows)
        for column, missing, use in (
            ("pid", self.persons.counts[identity] == 0, "identity {} has no real image to draw it"),
            ("camid", self.places.counts[camera] == 0, "camera {} has no real image to show it"),
        ):
            lacking = rows.loc[missing.numpy(), column].tolist()[:1]
            advice = " from: take it out of the plan or add its images"
            require(not lacking, use.format(lacking) + advice)
        seeds = [torch.Generator().manual_seed(seed_of(int(s), 1)) for s in rows["seed"]]
        chance = torch.stack([torch.rand(3, TRIES, generator=seed) for seed in seeds], 1)
        wanted = camera[:, None]
        source = self.persons.pick(identity, chance[0], lambda found: self.camera[found] != wanted)
        person = self.persons.pick(identity, chance[1], lambda found: found != source[:, None])
        return Picks(source, person, self._pick_place(identity, camera, chance[2]))

    def sampling(self, rows: pd.DataFrame, picks: Picks) -> Condition:
        """What the network is told to draw plan rows."""
        return self._told(self.stripped(picks.source), *picks[1:], *self._labels(rows))

    def _labels(self, rows: pd.DataFrame) -> tuple[Tensor, Tensor]:
        return self.config.labels(*(torch.tensor(rows[n].tolist()) for n in ("pid", "camid")))


class Groups:
    """Rows by label."""

    def __init__(self, labels: Tensor, most: int) -> None:
        """`labels` (N,) from 0 to `most`."""
        self.order = labels.argsort(stable=True)
        self.counts = torch.bincount(labels, minlength=most + 1)
        self.starts = self.counts.cumsum(0) - self.counts

    def pick(self, labels: Tensor, chance: Tensor, wanted: Callable[[Tensor], Tensor]) -> Tensor:
        """A row (B,) with each of `labels` (B,): the first of those that uniform `chance` (B, K)
        points at which `wanted` (rows (B, K) → bool) says yes to, or else the first."""
        places = self.starts[labels, None] + (chance * self.counts[labels, None]).long()
        found = self.order[places]
        return first(found, wanted(found))


def first(candidates: Tensor, wanted: Tensor) -> Tensor:
    """Of each row of candidates (B, K) the first wanted one, or the first, (B,)."""
    return candidates.gather(1, wanted.int().argmax(1, keepdim=True))[:, 0]


def distort(images: Tensor, draw: torch.Generator) -> Tensor:
    """Stripped images (B, 3, H, W) as another camera would see them: colours, blur and noise."""
    count = len(images)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=draw).to(images.device)

    blurred = avg_pool2d(images, 3, 1, 1, count_include_pad=False)
    softness = torch.rand(count, 1, 1, 1, generator=draw).to(images.device)
    images = torch.lerp(images, blurred, (2 * softness - 1).clamp(min=0))
    colours = torch.exp(GAIN * normal(3, 1, 1)) * images + OFFSET * normal(3, 1, 1)
    noisy = normal(*images.shape[1:]) * softness.flip(0)
    return colours + NOISE * noisy


def blobs(count: int, size: tuple[int, int], draw: torch.Generator) -> Tensor:
    """Soft shapes (count, 1, H, W) in [0, 1] around the middle, from a slim body to everything."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=draw)

    height, width = size
    y, x = torch.linspace(-1, 1, height)[:, None], torch.linspace(-1, 1, width)
    y = (y - 0.1 * torch.randn(count, 1, 1, generator=draw)).abs() / uniform(0.85, 1.4)
    x = (x - 0.12 * torch.randn(count, 1, 1, generator=draw)).abs() / uniform(0.4, 1.0)
    power = uniform(2, 6)
    waves = interpolate(torch.randn(count, 1, 8, 4, generator=draw), size, mode="bicubic")[:, 0]
    inside = 1 - (y**power + x**power) ** (1 / power) + uniform(0, 0.25) * waves
    return torch.sigmoid(uniform(3, 20) * inside)[:, None]
