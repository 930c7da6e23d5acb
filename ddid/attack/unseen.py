"""Attack families kept out of training: does a defense hold against what it has never met?

All raise the FNA objective. The bounds of the unbounded ones are ours: the person stays plain.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddid.attack.budget import uniform
from ddid.attack.objectives import fna
from ddid.attack.pgd import Value, gradient_ascent, value_and_grad, valued
from ddid.attack.registry import attack
from ddid.attack.scene import Scene
from ddid.data.images import where_rows
from ddid.errors import InputError
from ddid.seeds import drawn_from

BATCH = 64  # images a universal perturbation or a generator learns from at once
PASSES = 10  # over all images [ours: no dearer than 15 steps on each of them]
KNOTS = 8  # points of a color curve
COLOR_REACH = 16 / 255  # largest change of a level
WARP_REACH = 1 / 32  # largest displacement, as a share of height and width
PATCH = (0.25, 0.3)  # height and width of the patch as shares of the image: 7.5 % of it

GUIDES = "as FNA"
LEARNED = "one for all images, learned on the attacked images themselves"
PARAMETERS = "bounded by its reach, not by eps; sign steps that cross the range 2.5 times"
unseen = partial(attack, family="unseen")

Rule = Callable[[Scene], Tensor]
"""What was learned from a whole scene: a batch of it to the batch's attacked images."""


@unseen("Moosavi-Dezfooli et al. 2017", GUIDES, LEARNED, "random", whole=True)
def universal(scene: Scene) -> Rule:
    """Universal perturbation: one change that is added to every image."""
    budget = scene.budget
    first = next(scene.batches(1)).images
    shift = budget.eps * uniform(first.shape, scene.generator, first)
    for _ in range(PASSES):
        for part in scene.batches(BATCH):
            _, gradient = value_and_grad(rendered(part, partial(add, part.images)), shift)
            ahead = shift + budget.step * gradient.sign()
            shift = ahead.clamp(-budget.eps, budget.eps)
    return lambda part: add(part.images, shift)


@unseen("Wang et al. 2020 (Mis-Ranking), without its critic", GUIDES, LEARNED, "random", whole=True)
def generator(scene: Scene) -> Rule:
    """Generator network: a small network that draws each image's perturbation."""
    eps = scene.budget.eps
    first = next(scene.batches(1)).images
    with drawn_from(scene.generator.initial_seed()):
        net = perturber(tuple(first.shape[2:])).to(first.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(PASSES):
        for part in scene.batches(BATCH):
            with torch.enable_grad():
                attacked = add(part.images, eps * net(part.images))
                loss = -fna(part.guides)(part.embed(attacked)).mean()
            optimizer.zero_grad()
            loss.backward(inputs=list(net.parameters()))
            optimizer.step()

    net.requires_grad_(False)
    return lambda part: add(part.images, eps * net(part.images))


@unseen(
    "our choice", f"{GUIDES}, both found and followed through the surrogate alone", surrogate=True
)
def transfer(scene: Scene) -> Tensor:
    """Black box by transfer: FNA on another model, scored on this one."""
    other = scene.surrogate
    if other is None:
        raise InputError("transfer works on another model: give a surrogate or leave it out")
    return other.pgd(fna(other.guides))


@unseen(
    "Andriushchenko et al. 2020",
    GUIDES,
    "1 + Budget.queries embeddings asked per image, no gradient",
    "vertical stripes of +-eps",
    dear=True,
)
def square(scene: Scene) -> Tensor:
    """Square attack: random squares, kept when they help."""
    budget = scene.budget
    value, images = valued(scene.embed, fna(scene.guides)), scene.images
    count, _, height, width = images.shape
    stripes = uniform((count, 3, 1, width), scene.generator, images).sign()
    best = (images + budget.eps * stripes).clamp(0, 1)
    with torch.no_grad():
        best_value = value(best)
        for query in range(budget.queries):
            side = square_side(query / budget.queries, height, width)
            mask = random_squares(images, side, scene.generator)
            color = uniform((count, 3, 1, 1), scene.generator, images).sign()
            trial = torch.where(mask, images + budget.eps * color, best).clamp(0, 1)
            trial_value = value(trial)
            best = where_rows(trial_value > best_value, trial, best)
            best_value = torch.maximum(best_value, trial_value)
    return best


@unseen("Laidlaw & Feizi 2019", GUIDES, PARAMETERS, bounded=False)
def color(scene: Scene) -> Tensor:
    """Functional color change: a smooth curve per channel and image."""
    start = scene.images.new_zeros(len(scene.images), 3, KNOTS)
    return climb_box(scene, lambda curve: recolor(scene.images, curve), start, COLOR_REACH)


@unseen("Xiao et al. 2018", GUIDES, PARAMETERS, bounded=False)
def warp(scene: Scene) -> Tensor:
    """Small smooth displacement of the pixels, from a 4 x 2 grid of shifts."""
    start = scene.images.new_zeros(len(scene.images), 2, 4, 2)
    return climb_box(scene, lambda flow: displace(scene.images, flow), start, WARP_REACH)


@unseen(
    "Brown et al. 2017",
    GUIDES,
    f"any color on 7.5 % of the image, at the torso; {PARAMETERS}",
    "random",
    bounded=False,
)
def patch(scene: Scene) -> Tensor:
    """Adversarial patch, one for each image."""
    (count, _, height, width), reach = scene.images.shape, 0.5
    rows, columns = round(PATCH[0] * height), round(PATCH[1] * width)
    top, left = (height - rows) * 2 // 5, (width - columns) // 2
    border = (left, width - left - columns, top, height - top - rows)
    mask = functional.pad(scene.images.new_ones(1, 1, rows, columns), border)

    def paste(shift: Tensor) -> Tensor:
        return torch.lerp(scene.images, functional.pad(shift + reach, border), mask)

    start = reach * uniform((count, 3, rows, columns), scene.generator, scene.images)
    return climb_box(scene, paste, start, reach)


def climb_box(
    scene: Scene, render: Callable[[Tensor], Tensor], start: Tensor, reach: float
) -> Tensor:
    """Sign ascent of parameters in [-reach, reach], whose `render` are the attacked images."""
    step = 5 * reach / scene.budget.steps

    def move(point: Tensor, gradient: Tensor) -> Tensor:
        return (point + step * gradient.sign()).clamp(-reach, reach)

    with torch.no_grad():
        value = rendered(scene, render)
        return render(gradient_ascent(value, start, move, scene.budget, scene.generator))


def rendered(scene: Scene, render: Callable[[Tensor], Tensor]) -> Value:
    """Value of parameters: the FNA objective of the images rendered from them."""
    return valued(lambda point: scene.embed(render(point)), fna(scene.guides))


def recolor(images: Tensor, curve: Tensor) -> Tensor:
    """Add to each level of each channel what its curve (B, 3, knots) says, linear in between."""
    place = images.flatten(2) * (curve.shape[2] - 1)
    low = place.detach().floor().clamp_max(curve.shape[2] - 2).long()
    share = place - low
    change = torch.lerp(curve.gather(2, low), curve.gather(2, low + 1), share)
    return (images + change.view_as(images)).clamp(0, 1)


def displace(images: Tensor, flow: Tensor) -> Tensor:
    """Sample the images at places shifted by a coarse flow (B, 2, h, w), in shares of each side."""
    size = tuple(images.shape[2:])
    smooth = functional.interpolate(flow, size, mode="bilinear", align_corners=True)
    identity = torch.eye(2, 3, device=images.device, dtype=images.dtype).expand(len(images), 2, 3)
    grid = functional.affine_grid(identity, list(images.shape), align_corners=False)
    moved = grid + 2 * smooth.permute(0, 2, 3, 1)
    sampled = functional.grid_sample(images, moved, padding_mode="border", align_corners=False)
    return sampled.clamp(0, 1)


def perturber(size: tuple[int, ...]) -> nn.Module:
    """A small convolutional generator: images of (height, width) `size` to changes in (-1, 1)."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, padding_mode="reflect"),
        nn.GELU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.GELU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.GELU(),
        nn.Upsample(size),
        nn.Conv2d(32, 3, 3, padding=1),
        nn.Tanh(),
    )


def square_side(progress: float, height: int, width: int) -> int:
    """Side of the squares: 80 % of the area at first, halved at the published shares of the way."""
    halvings = sum(progress > mark for mark in (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8))
    return max(1, min(round((0.8 / 2**halvings * height * width) ** 0.5), height, width))


def random_squares(images: Tensor, side: int, source: torch.Generator) -> Tensor:
    """One square per image as a mask (B, 1, H, W), anywhere inside."""
    spans = []
    for length in images.shape[2:]:
        start = (uniform((len(images), 1), source, images) + 1) / 2 * (length - side + 1)
        offset = torch.arange(length, device=images.device) - start.floor()
        spans.append((offset >= 0) & (offset < side))
    return (spans[0][:, :, None] & spans[1][:, None, :])[:, None]


def add(images: Tensor, shift: Tensor) -> Tensor:
    """Images plus a change, inside [0, 1]."""
    return (images + shift).clamp(0, 1)
