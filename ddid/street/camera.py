"""Procedural cameras: what they look at (`Camera.view`) and how they record it (`Camera.expose`).

Our choice: each keeps one place, direction, colour response and lens for the whole data set, the
bias between cameras that a re-identification model has to see through.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import pi

import numpy as np
from PIL import Image, ImageColor, ImageDraw, ImageFilter

from ddid.street.pedestrian import Person, Pose, Shades, draw_person, pick

PANORAMA = 8  # width of a camera's scene, in image widths


@dataclass(frozen=True)
class Domain:
    """A town: what its people wear, what its cameras see, and in which light."""

    tops: Shades  # of clothes there are few, so that strangers share them
    bottoms: Shades
    extras: Shades  # bags, hats, patterns
    grounds: Shades
    walls: Shades
    details: Shades  # windows, doors, trees, cars
    light: tuple[float, float, float]  # colour of the daylight, 1 = neutral


def _shades(codes: str) -> Shades:
    return tuple(ImageColor.getrgb(f"#{code}") for code in codes.split())


DOMAINS = {
    "downtown": Domain(
        tops=_shades("2a2d3a c4c4c8 8c3032 405884 54684c 68686e"),
        bottoms=_shades("22242e 3e4c6a 6c665c 483a30"),
        extras=_shades("b04038 2c2c32 d8d4cc 3c6896 c49a4c"),
        grounds=_shades("7a7874 606064 948c80"),
        walls=_shades("968474 767a82 aaa498 806458"),
        details=_shades("3e4854 bec4c8 5c463a 465c4a 963c34"),
        light=(1.0, 1.0, 1.0),
    ),
    "campus": Domain(
        tops=_shades("dec45a eeece6 6ea8ba ce6e80 464648 785e96"),
        bottoms=_shades("c4b89e 5c6c8c 343438 828678"),
        extras=_shades("f0963c 3c826e 503c64 ebebeb 962850"),
        grounds=_shades("6e8254 a89c82 888a78"),
        walls=_shades("607650 b29678 96a0a4 506048"),
        details=_shades("3a5432 d2be96 788c5a 604c3c c8ced2"),
        light=(1.08, 1.0, 0.86),
    ),
}


@dataclass(frozen=True)
class Camera:
    """One camera of a town."""

    domain: str
    seed: tuple[int, ...]  # of everything in its scene
    yaw: float  # direction in which most people pass, radians
    pitch: float  # height of the camera, see `Pose`
    horizon: float  # fraction of the image height
    gains: tuple[float, ...]  # of red, green, blue
    gamma: float  # above 1 darkens the middle tones
    haze: float  # share of grey veil, 0 … 1
    blur: float  # of the lens, fraction of the image width
    noise: float  # of the sensor, standard deviation in [0, 1] pixel values
    occlusion: float  # probability that something stands in front

    @classmethod
    def sample(cls, domain: str, seed: tuple[int, ...]) -> "Camera":
        """Place a camera in a town; the same seed gives the same camera."""
        rng = np.random.default_rng(seed)
        return cls(
            domain=domain,
            seed=seed,
            yaw=float(rng.uniform(0, 2 * pi)),
            pitch=float(rng.uniform(0.02, 0.35)),
            horizon=float(rng.uniform(0.3, 0.55)),
            gains=tuple((rng.uniform(0.92, 1.08, 3) * rng.uniform(0.9, 1.1)).tolist()),
            gamma=float(rng.uniform(0.9, 1.15)),
            haze=float(rng.uniform(0.0, 0.15)),
            blur=float(rng.uniform(0.004, 0.02)),
            noise=float(rng.uniform(0.006, 0.025)),
            occlusion=float(rng.uniform(0.03, 0.2)),
        )

    def view(self, across: float, size: tuple[int, int]) -> Image.Image:
        """The scene at `across` (0 … 1) of its width: RGBA, `size` = (height, width)."""
        panorama = _panorama(self, size)
        left = int(across * (panorama.width - size[1]))
        return panorama.crop((left, 0, left + size[1], size[0]))

    def expose(
        self, image: Image.Image, brightness: float, rng: np.random.Generator
    ) -> Image.Image:
        """The photograph, as RGB, that this camera takes of an ideal image."""
        image = image.convert("RGB").filter(ImageFilter.GaussianBlur(self.blur * image.width))
        daylight = np.array(DOMAINS[self.domain].light, np.float32)
        light = np.asarray(image, np.float32) / 255 * daylight
        light = np.clip(light * np.array(self.gains, np.float32) * brightness, 0, 1) ** self.gamma
        light = (1 - self.haze) * light + 0.55 * self.haze
        light = light + self.noise * rng.standard_normal(light.shape, np.float32)
        return Image.fromarray((np.clip(light, 0, 1) * 255 + 0.5).astype(np.uint8))


def cast_shadow(scene: Image.Image, pose: Pose) -> None:
    """Darken the ground below a person, in place."""
    shade = Image.new("L", scene.size)
    x, y, half = pose.x * scene.width, pose.ground * scene.height, 0.28 * scene.width * pose.zoom
    ImageDraw.Draw(shade).ellipse((x - half, y - 0.2 * half, x + half, y + 0.25 * half), fill=110)
    scene.paste((20, 20, 24), (0, 0), shade.filter(ImageFilter.GaussianBlur(0.03 * scene.width)))


def occlude(scene: Image.Image, domain: Domain, stranger: Person, rng: np.random.Generator) -> None:
    """Put a post, a low obstacle or the passing stranger in front of the person, in place."""
    (width, height), color = scene.size, pick(rng, domain.details, 12)
    kind, x = rng.integers(3), rng.uniform(0.1, 0.9)
    if kind == 0:
        post = (x * width, 0, (x + rng.uniform(0.06, 0.16)) * width, height)
        ImageDraw.Draw(scene).rectangle(post, fill=color)
    elif kind == 1:
        top = height * rng.uniform(0.68, 0.82)
        box = (width * (x - 0.6), top, width * (x + 0.3), 1.2 * height)
        ImageDraw.Draw(scene).rounded_rectangle(box, radius=0.15 * width, fill=color)
    else:
        yaw, phase = rng.uniform(0, 2 * pi), rng.uniform(0, 2 * pi)
        pose = Pose(yaw, phase, x=round(x) + 0.1 * rng.normal(), ground=1.0)
        scene.alpha_composite(draw_person(stranger, pose, (height, width)))


@lru_cache(maxsize=64)
def _panorama(camera: Camera, size: tuple[int, int]) -> Image.Image:
    """The whole scene of a camera: a row of walls with details above a ground with marks."""
    domain, rng = DOMAINS[camera.domain], np.random.default_rng((*camera.seed, 1))
    height, width = size[0], size[1] * PANORAMA
    canvas = Image.new("RGBA", (width, height), pick(rng, domain.grounds, 12))
    pen, horizon = ImageDraw.Draw(canvas), camera.horizon * height
    left = 0.0
    while left < width:
        right = left + rng.uniform(0.5, 2.0) * size[1]
        pen.rectangle((left, 0, right, horizon), fill=pick(rng, domain.walls, 12))
        for x in np.arange(left, right, rng.uniform(0.25, 0.6) * size[1]):
            top, drop = rng.uniform(0, 0.5) * horizon, rng.uniform(0.2, 0.5) * height
            box = (x, top, x + rng.uniform(0.1, 0.3) * size[1], min(top + drop, horizon * 1.08))
            shape = pen.ellipse if rng.random() < 0.3 else pen.rectangle
            shape(box, fill=pick(rng, domain.details, 12))
        left = right
    mark = pick(rng, domain.grounds, 12)
    for y in np.geomspace(horizon + 0.05 * height, height, 4):
        pen.line((0, y, width, y), fill=mark, width=max(1, round(0.02 * height)))
    for x in np.arange(0, width, rng.uniform(0.5, 1.2) * size[1]):
        line = (x, horizon, x + rng.uniform(-1, 1) * size[1], height)
        pen.line(line, fill=mark, width=max(1, round(0.012 * height)))
    return canvas.filter(ImageFilter.GaussianBlur(0.012 * height))
