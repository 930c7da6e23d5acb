"""Attack families kept out of training: does a defense hold against what it has never met?

All of them raise the FNA objective; they differ in what they may change and in what they see.
The bounds of the unbounded ones are ours: visible on a close look, the person stays recognisable.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from ddid.attack.loop import Budget, Value, ascend, climb, heading, pick, rising, slope, uniform
from ddid.attack.objectives import fna
from ddid.attack.suite import Card, Scene, attack
from ddid.errors import InputError, require

BATCH = 64  # images a universal perturbation or a generator learns from at once
PASSES = 10  # over all images [ours: no dearer than 15 steps on each of them]
KNOTS = 8  # points of a color curve
COLOR_REACH = 16 / 255  # largest change of a level
WARP_REACH = 1 / 32  # largest displacement, as a share of height and width
PATCH = (0.25, 0.3)  # height and width of the patch as shares of the image: 7.5 % of it

GUIDES = "as FNA"
LEARNED = "one for all images, learned on the attacked images themselves"
PARAMETERS = "bounded by its reach, not by eps; sign steps that cross the range 2.5 times"


@attack(Card(GUIDES, budget=f"eps 8/255 L-inf, {LEARNED}", start="random"), "unseen", whole=True)
def universal(scene: Scene, budget: Budget) -> Tensor:
    """Universal perturbation: one change that is added to every image (Moosavi-Dezfooli 2017)."""
    require_linf(budget, "universal")
    first = next(iter(scene.batches(1))).images
    shift = budget.eps * uniform(first.shape, scene.generator, first)
    for _ in range(PASSES):
        for part in scene.batches(BATCH):
            value = rendered(part, partial(add, part.images))
            ahead = shift + budget.step * heading(slope(value, shift), budget)
            shift = ahead.clamp(-budget.eps, budget.eps)
    return torch.cat([add(part.images, shift) for part in scene.batches(BATCH)])


@attack(Card(GUIDES, budget=f"eps 8/255 L-inf, {LEARNED}", start="random"), "unseen", whole=True)
def generator(scene: Scene, budget: Budget) -> Tensor:
    """Generator network in the manner of Mis-Ranking (Wang et al. 2020), without its critic."""
    require_linf(budget, "generator")
    size = tuple(scene.images.shape[2:])
    net = seeded(lambda: perturber(size), scene.generator).to(scene.guides.own.device)
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(PASSES):
        for part in scene.batches(BATCH):
            with torch.enable_grad():
                attacked = add(part.images, budget.eps * net(part.images))
                loss = -fna(part.guides)(part.embed(attacked)).mean()
            optimizer.zero_grad()
            loss.backward(inputs=list(net.parameters()))
            optimizer.step()
    with torch.no_grad():
        return torch.cat(
            [add(part.images, budget.eps * net(part.images)) for part in scene.batches(BATCH)]
        )


@attack(Card(f"{GUIDES}, both found and followed through the surrogate alone"), "unseen")
def transfer(scene: Scene, budget: Budget) -> Tensor:
    """Black box by transfer: FNA on another model, scored on this one."""
    other = scene.surrogate
    if other is None:
        raise InputError("transfer works on another model: give a surrogate or leave it out")
    return ascend(other.embed, other.images, fna(other.guides), budget, other.generator)


@attack(
    Card(
        GUIDES,
        budget="eps 8/255 L-inf; 1 + Budget.queries embeddings asked per image, no gradient",
        start="vertical stripes of +-eps",
    ),
    "unseen",
)
def square(scene: Scene, budget: Budget) -> Tensor:
    """Square attack (Andriushchenko et al. 2020): random squares, kept when they help."""
    require_linf(budget, "square")
    value, images = rising(scene.embed, fna(scene.guides)), scene.images
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
            best = pick(trial_value > best_value, trial, best)
            best_value = torch.maximum(best_value, trial_value)
    return best


@attack(Card(GUIDES, budget=PARAMETERS), "unseen", bounded=False)
def color(scene: Scene, budget: Budget) -> Tensor:
    """Functional color change (Laidlaw & Feizi 2019): a smooth curve per channel and image."""
    start = scene.images.new_zeros(len(scene.images), 3, KNOTS)
    return climb_box(scene, lambda curve: recolor(scene.images, curve), start, COLOR_REACH, budget)


@attack(Card(GUIDES, budget=PARAMETERS), "unseen", bounded=False)
def warp(scene: Scene, budget: Budget) -> Tensor:
    """Small smooth displacement of the pixels (Xiao et al. 2018), from a 4 x 2 grid of shifts."""
    start = scene.images.new_zeros(len(scene.images), 2, 4, 2)
    return climb_box(scene, lambda flow: displace(scene.images, flow), start, WARP_REACH, budget)


@attack(
    Card(GUIDES, budget=f"any color on 7.5 % of the image, at the torso; {PARAMETERS}"),
    "unseen",
    bounded=False,
)
def patch(scene: Scene, budget: Budget) -> Tensor:
    """Adversarial patch (Brown et al. 2017), one for each image."""
    height, width = scene.images.shape[2:]
    rows, columns = round(PATCH[0] * height), round(PATCH[1] * width)
    top, left = (height - rows) * 2 // 5, (width - columns) // 2
    border = (left, width - left - columns, top, height - top - rows)
    mask = functional.pad(scene.images.new_ones(1, 1, rows, columns), border)

    def paste(shift: Tensor) -> Tensor:
        return torch.lerp(scene.images, functional.pad(shift + 0.5, border), mask)

    start = uniform((len(scene.images), 3, rows, columns), scene.generator, scene.images) / 2
    return climb_box(scene, paste, start, 0.5, budget)


def climb_box(
    scene: Scene, render: Callable[[Tensor], Tensor], start: Tensor, reach: float, budget: Budget
) -> Tensor:
    """Sign ascent of parameters in [-reach, reach], whose `render` are the attacked images."""
    value = rendered(scene, render)
    step = 5 * reach / budget.steps

    def move(point: Tensor, gradient: Tensor) -> Tensor:
        return (point + step * gradient.sign()).clamp(-reach, reach)

    with torch.no_grad():
        return render(climb(value, start, move, budget, scene.generator))


def rendered(scene: Scene, render: Callable[[Tensor], Tensor]) -> Value:
    """Value of parameters: the FNA objective of the images rendered from them."""
    objective = fna(scene.guides)
    return lambda point: objective(scene.embed(render(point)))


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


def seeded(build: Callable[[], nn.Module], source: torch.Generator) -> nn.Module:
    """Build a module with weights that depend on `source` alone; torch's own state is kept."""
    seed = int(torch.randint(2**31, (1,), generator=source, device=source.device))
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return build()


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


def require_linf(budget: Budget, name: str) -> None:
    """Raise InputError for another norm than "linf"."""
    require(budget.norm == "linf", f"{name} is an L-inf attack: give a budget with norm='linf'")
