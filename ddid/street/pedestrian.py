"""Procedural pedestrians: who they are (`Person`) and how they look in one moment (`draw_person`).

Our choice: an articulated figure projected from three dimensions, so that one body is consistent
from all sides, which makes re-identification across cameras a real task.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import cos, hypot, sin

import numpy as np
from PIL import Image, ImageDraw

Color = tuple[int, ...]  # red, green, blue; 0 … 255
Shades = tuple[Color, ...]
Point = tuple[float, float, float]  # right, forward, up; fractions of the stature, ground at up = 0
Part = tuple[float, Callable[[], None]]  # depth (larger is nearer to the camera), painter

OVERSAMPLING = 4  # on each side, for smooth edges
FILL = 0.86  # stature of an average person, fraction of the image height
LOOKS = {
    "hair_style": ("short", "long", "bun", "bald", "cap", "beanie"),
    "top": ("short sleeves", "long sleeves", "coat", "open jacket"),
    "pattern": ("plain", "plain", "stripes", "bars", "checks", "block", "logo"),
    "bottom": ("trousers", "trousers", "shorts", "skirt"),
    "bag": ("none", "none", "backpack", "shoulder bag", "handbag"),
}
SKINS = ((240, 205, 178), (222, 176, 136), (190, 138, 98), (146, 100, 66), (96, 66, 48))
HAIRS = ((28, 24, 24), (60, 42, 32), (106, 74, 46), (184, 148, 92), (150, 150, 150))
SHOES = ((35, 32, 34), (70, 50, 38), (205, 205, 200))


@dataclass(frozen=True)
class Person:
    """What stays the same in every image of an identity."""

    stature: float  # 1 = average
    build: float  # width factor, 1 = average
    legs: float  # hip height, fraction of the stature
    stride: float  # largest swing of a thigh, radians
    colors: dict[str, Color]  # skin, hair, upper, accent, lower, shoes, extra
    looks: dict[str, str]  # one of `LOOKS` each


@dataclass(frozen=True)
class Pose:
    """One moment: where a person stands, which way they face, how far the step has gone."""

    yaw: float  # radians; 0 faces the camera, pi/2 walks to the right, pi shows the back
    phase: float  # of the gait, radians
    pitch: float = 0.1  # 0 camera at eye level … 0.4 high above, which shortens the legs
    x: float = 0.5  # centre, fraction of the image width
    ground: float = 0.95  # of the feet, fraction of the image height
    zoom: float = 1.0


def pick(rng: np.random.Generator, shades: Shades, spread: float) -> Color:
    """One of the shades, off by `spread` (standard deviation) in every channel."""
    shade = np.add(shades[rng.integers(len(shades))], rng.normal(0, spread, 3))
    return tuple(np.clip(shade, 0, 255).astype(int).tolist())


def sample_person(
    rng: np.random.Generator, tops: Shades, bottoms: Shades, extras: Shades
) -> Person:
    """Draw an identity from the population that wears these; extras are bags, hats, patterns."""
    wardrobe = {"skin": SKINS, "hair": HAIRS, "shoes": SHOES, "upper": tops}
    wardrobe |= {"lower": bottoms, "accent": extras, "extra": extras}
    return Person(
        stature=float(np.clip(rng.normal(1, 0.05), 0.88, 1.1)),
        build=float(np.clip(rng.normal(1, 0.13), 0.78, 1.4)),
        legs=float(rng.uniform(0.47, 0.52)),
        stride=float(rng.uniform(0.22, 0.42)),
        colors={name: pick(rng, shades, 14) for name, shades in wardrobe.items()},
        looks={name: options[int(rng.integers(len(options)))] for name, options in LOOKS.items()},
    )


def draw_person(person: Person, pose: Pose, size: tuple[int, int]) -> Image.Image:
    """Draw a person on a transparent canvas: RGBA, `size` = (height, width) in pixels."""
    sketch = _Sketch(person, pose, (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING))
    for _, paint in sorted(sketch.parts(), key=lambda part: part[0]):
        paint()
    return sketch.canvas.reduce(OVERSAMPLING)


class _Sketch:
    """One drawing: projects body points onto a canvas and paints the parts from far to near."""

    def __init__(self, person: Person, pose: Pose, size: tuple[int, int]) -> None:
        self.person, self.pose, self.looks = person, pose, person.looks
        self.canvas = Image.new("RGBA", (size[1], size[0]))
        self.pen = ImageDraw.Draw(self.canvas)
        self.scale = FILL * size[0] * person.stature * pose.zoom
        self.origin = (pose.x * size[1], pose.ground * size[0])
        self.cos, self.sin = cos(pose.yaw), sin(pose.yaw)
        self.sole = min(self._leg(side)[2][2] for side in (-1, 1)) - 0.035

    def parts(self) -> list[Part]:
        """Every visible part with its depth."""
        looks, parts = self.looks, [(0.0, self._torso), (0.2, self._head)]
        for side in (-1, 1):
            depth = -0.1 * side * self.sin
            parts.append((depth - 0.5, partial(self._paint_leg, side, dim=depth < -0.04)))
            parts.append((depth + 0.01, partial(self._paint_arm, side, dim=depth < -0.04)))
        if looks["bottom"] == "skirt":
            parts.append((-0.2, self._skirt))
        if looks["hair_style"] == "long":
            parts.append((-0.15 if self.cos > 0 else 0.3, self._mane))
        if looks["bag"] == "backpack":
            parts.append((-0.12 * self.cos, self._backpack))
        if looks["bag"] == "shoulder bag":
            pouch = partial(self._pouch, (-0.14, 0.0, 0.47), 0.07)
            parts += [(0.005, self._strap), (0.13 * self.sin, pouch)]
        return parts

    def color(self, name: str, factor: float = 1.0) -> Color:
        """One of the person's colours, darkened by a factor."""
        return tuple(int(channel * factor) for channel in self.person.colors[name])

    def at(self, point: Point) -> tuple[float, float]:
        """Pixel position of a body point."""
        right, forward, up = point[0], point[1], point[2] - self.sole
        up -= self.pose.pitch * up * (1 - up)
        across = right * self.cos + forward * self.sin
        return self.origin[0] + across * self.scale, self.origin[1] - up * self.scale

    def girth(self, lateral: float, depth: float) -> float:
        """Half width in pixels of a horizontal ellipse with these half axes, in statures."""
        return hypot(lateral * self.cos, depth * self.sin) * self.scale

    def oval(self, x: float, y: float, half: tuple[float, float], color: Color) -> None:
        """An ellipse; position and half axes in pixels."""
        self.pen.ellipse((x - half[0], y - half[1], x + half[0], y + half[1]), fill=color)

    def limb(self, points: Sequence[Point], radii: Sequence[float], color: Color) -> None:
        """A chain of tapered segments with round joints; radii in statures."""
        joints = [(*self.at(point), r * self.scale) for point, r in zip(points, radii, strict=True)]
        for (x0, y0, r0), (x1, y1, r1) in pairwise(joints):
            length = hypot(x1 - x0, y1 - y0) or 1.0
            nx, ny = (y0 - y1) / length, (x1 - x0) / length
            near = [(x0 + nx * r0, y0 + ny * r0), (x1 + nx * r1, y1 + ny * r1)]
            far = [(x1 - nx * r1, y1 - ny * r1), (x0 - nx * r0, y0 - ny * r0)]
            self.pen.polygon(near + far, fill=color)
        for x, y, radius in joints:
            self.oval(x, y, (radius, radius), color)

    def silhouette(self, rings: Sequence[Point]) -> list[tuple[float, float]]:
        """The outline of stacked ellipses (lateral, depth, up) as a polygon."""
        edges = [(self.girth(a, b) * self.person.build, self.at((0, 0, up))) for a, b, up in rings]
        return [(x - w, y) for w, (x, y) in edges] + [(x + w, y) for w, (x, y) in edges[::-1]]

    def _leg(self, side: int) -> tuple[Point, Point, Point]:
        """Hip, knee and ankle of one side (-1 left, 1 right)."""
        hip, length, stride = self.person.legs, self.person.legs - 0.035, self.person.stride
        swing = side * stride * sin(self.pose.phase)
        shin = swing - stride * (0.2 + 1.2 * max(0.0, side * cos(self.pose.phase)))
        x = side * 0.055 * self.person.build
        knee = (x, 0.52 * length * sin(swing), hip - 0.52 * length * cos(swing))
        ankle = (x, knee[1] + 0.48 * length * sin(shin), knee[2] - 0.48 * length * cos(shin))
        return (x, 0.0, hip), knee, ankle

    def _paint_leg(self, side: int, dim: bool) -> None:
        light, thick = 0.78 if dim else 1.0, 0.055 * self.person.build
        hip, knee, ankle = self._leg(side)
        toe = (ankle[0], ankle[1] + 0.07, ankle[2] - 0.012)
        self.limb((ankle, toe), (0.028, 0.02), self.color("shoes", light))
        if self.looks["bottom"] == "trousers":
            radii = (thick * 1.15, thick * 0.85, thick * 0.62)
            self.limb((hip, knee, ankle), radii, self.color("lower", light))
            return
        self.limb((knee, ankle), (thick * 0.72, thick * 0.45), self.color("skin", light))
        if self.looks["bottom"] == "shorts":
            self.limb((hip, knee), (thick * 1.1, thick * 0.9), self.color("lower", light))

    def _paint_arm(self, side: int, dim: bool) -> None:
        light, x = 0.8 if dim else 1.0, side * 0.108 * self.person.build
        swing = -side * 0.9 * self.person.stride * sin(self.pose.phase)
        fore, out = swing + 0.35, x + side * 0.022
        elbow = (out, 0.16 * sin(swing), 0.775 - 0.16 * cos(swing))
        hand = (out, elbow[1] + 0.15 * sin(fore), elbow[2] - 0.15 * cos(fore))
        sleeve = "accent" if self.looks["pattern"] == "block" else "upper"
        forearm = "skin" if self.looks["top"] == "short sleeves" else sleeve
        self.limb((elbow, hand), (0.03, 0.022), self.color(forearm, light))
        self.limb(((x, 0.0, 0.775), elbow), (0.04, 0.033), self.color(sleeve, 0.93 * light))
        self.limb((hand,), (0.024,), self.color("skin", light))
        if self.looks["bag"] == "handbag" and side == 1:
            self._pouch((hand[0], hand[1], hand[2] - 0.09), 0.065)

    def _torso(self) -> None:
        hip = self.person.legs
        rings = [(0.045, 0.04, 0.845), (0.1, 0.06, 0.825), (0.122, 0.07, 0.785)]
        rings += [(0.112, 0.078, 0.7), (0.095, 0.07, 0.6), (0.102, 0.078, hip - 0.02)]
        if self.looks["top"] == "coat":
            rings.append((0.118, 0.1, hip - 0.2))
        self.limb(((0, 0, 0.82), (0, 0.01, 0.88)), (0.035, 0.032), self.color("skin", 0.85))
        mask = Image.new("L", self.canvas.size)
        ImageDraw.Draw(mask).polygon(self.silhouette(rings), fill=255)
        self.canvas.paste(self._cloth(), (0, 0), mask)

    def _cloth(self) -> Image.Image:
        """The canvas filled with the fabric of the upper garment."""
        (width, height), step = self.canvas.size, 0.07 * self.scale
        pattern, accent = self.looks["pattern"], self.color("accent")
        cloth = Image.new("RGBA", (width, height), self.color("upper"))
        pen, (x, top) = ImageDraw.Draw(cloth), self.at((0, 0, 0.83))
        if pattern in ("stripes", "checks"):
            for y in np.arange(top + step / 2, height, step):
                pen.rectangle((0, y, width, y + 0.45 * step), fill=accent)
        if pattern in ("bars", "checks"):
            for middle in x + np.arange(-4, 5) * step * max(0.5, abs(self.cos)):
                pen.rectangle((middle - 0.16 * step, 0, middle + 0.16 * step, height), fill=accent)
        if pattern == "block":
            pen.rectangle((0, 0, width, self.at((0, 0, 0.69))[1]), fill=accent)
        if self.looks["top"] == "open jacket" and self.cos > 0.1:
            corners = ((-0.03, 0.86), (0.03, 0.86), (0.05, 0.3), (-0.05, 0.3))
            panel = [self.at((right, 0.07, up)) for right, up in corners]
            pen.polygon(panel, fill=self.color("accent", 0.8))
        if pattern == "logo" and self.cos > 0.1:
            x, y = self.at((0, 0.08, 0.72))
            half = 0.05 * self.scale
            pen.ellipse((x - half * self.cos, y - half, x + half * self.cos, y + half), fill=accent)
        return cloth

    def _skirt(self) -> None:
        hip = self.person.legs
        rings = ((0.09, 0.07, hip + 0.04), (0.115, 0.09, hip - 0.08), (0.135, 0.12, hip - 0.22))
        self.pen.polygon(self.silhouette(rings), fill=self.color("lower"))

    def _head(self) -> None:
        style, unit = self.looks["hair_style"], 0.066 * self.scale * (1 + 0.3 * self.pose.pitch)
        x, y = self.at((0, 0.015, 0.925))
        scalp = self.color("skin" if style == "bald" else "hair")
        self.oval(x, y, (unit * (0.88 + 0.1 * abs(self.sin)), unit * 1.12), scalp)
        if self.cos > -0.45:
            half = unit * (0.78 - 0.2 * abs(self.sin)) * min(1.0, 1.0 + self.cos)
            middle = x + 0.34 * unit * self.sin
            self.oval(middle, y + 0.2 * unit, (half, unit * 0.86), self.color("skin"))
        for side in (-0.3, 0.3) if self.cos > 0.1 else ():
            eye = x + unit * (side * self.cos + 0.55 * self.sin)
            self.oval(eye, y + 0.08 * unit, (0.1 * unit, 0.1 * unit), (40, 30, 30))
        if style == "bun":
            bun = (0.42 * unit, 0.42 * unit)
            self.oval(x - 0.8 * unit * self.sin, y - 0.85 * unit, bun, self.color("hair", 0.9))
        if style in ("cap", "beanie"):
            box = (x - unit * 1.02, y - unit * 1.3, x + unit * 1.02, y + unit * 0.75)
            self.pen.chord(box, 180, 360, fill=self.color("extra"))
        if style == "cap" and self.cos > -0.5:
            brim = (unit * (0.55 + 0.3 * abs(self.cos)), unit * 0.2)
            self.oval(x + 0.75 * unit * self.sin, y - 0.25 * unit, brim, self.color("extra", 0.75))

    def _mane(self) -> None:
        back = -0.03 if self.cos > 0 else -0.045
        self.limb(((0, back, 0.92), (0, back, 0.8)), (0.07, 0.062), self.color("hair", 0.92))

    def _backpack(self) -> None:
        (x, top), bottom = self.at((0, -0.1, 0.8)), self.at((0, -0.1, 0.56))[1]
        half, middle = self.girth(0.088, 0.055), (top + bottom) / 2
        self._box((x - half, top, x + half, bottom), self.color("extra"))
        pocket = (x - 0.7 * half, middle, x + 0.7 * half, bottom - 0.25 * half)
        self._box(pocket, self.color("extra", 0.8))

    def _strap(self) -> None:
        ends = [self.at((0.08, 0.05 if self.cos > 0 else -0.05, 0.82)), self.at((-0.12, 0, 0.5))]
        self.pen.line(ends, fill=self.color("extra", 0.8), width=max(1, int(0.022 * self.scale)))

    def _pouch(self, center: Point, half: float) -> None:
        (x, y), wide, tall = self.at(center), self.girth(half * 0.7, half), 0.8 * half * self.scale
        self._box((x - wide, y - tall, x + wide, y + tall), self.color("extra"))

    def _box(self, corners: tuple[float, float, float, float], color: Color) -> None:
        self.pen.rounded_rectangle(corners, radius=0.02 * self.scale, fill=color)
