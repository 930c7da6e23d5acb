"""A training step beside its own passes measured bare, and what layout and precision change."""

import os
import shutil
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ddid.data.images import ImageSet
from ddid.defense.recipes import find_recipe
from ddid.defense.training import LAYOUT, Defence, TrainConfig
from ddid.model import ModelConfig, ReIDNet
from ddid.training.loop import Loop
from tests.benchmarks.timing import compare, device

RECIPES = ("none", "metric_at", "ddid")
CLASSES, IMAGES = 64, 12


def rows() -> list[dict[str, object]]:
    """Seconds of a step and of its bare passes per recipe; then of one pass, varied and plain."""
    return [*(row(name) for name in RECIPES), *variants()]


def variants() -> list[dict[str, object]]:
    """Forwards and backwards, and the gradient of an attack's step, as the trainer does them, in
    bfloat16, compiled; the same in torch's usual layout is the floor.

    A ratio below 1 pays. On processors without bfloat16 units that is many times slower. Compiling
    takes a C++ compiler and about a minute, which is not counted.
    """
    images = torch.rand(64, 3, 64, 32, device=device())
    plain, changed = (ReIDNet(ModelConfig(CLASSES)).to(device()) for _ in range(2))
    plain.to(memory_format=torch.contiguous_format)
    inputs = images.contiguous(memory_format=LAYOUT)

    def half() -> None:
        with torch.autocast(images.device.type, torch.bfloat16):
            output = changed(inputs, heads=True).logits
        output.float().sum().backward()

    def full(net: ReIDNet, pixels: Tensor) -> None:
        net(pixels, heads=True).logits.sum().backward()

    def attack(net: ReIDNet, pixels: Tensor) -> None:
        seen = pixels.detach().requires_grad_()
        torch.autograd.grad(net(seen).sum(), seen)

    fast = torch.compile(changed)

    def compiled() -> None:
        fast(inputs, heads=True).logits.sum().backward()

    plainly, relaid = partial(full, plain, images), partial(full, changed, inputs)
    step, plain_step = partial(attack, changed, inputs), partial(attack, plain, images)
    rows = [
        compare("an attack's gradient, channels-last", step, plain_step),
        compare("forward and backward, channels-last", relaid, plainly),
        compare("forward and backward, channels-last and bfloat16", half, plainly, repeats=2),
    ]
    if shutil.which(os.environ.get("CXX", "g++")):
        rows.append(compare("forward and backward, channels-last and compiled", compiled, plainly))
    return rows


def row(name: str) -> dict[str, object]:
    """The same step again and again: always the first batch, whatever the weights become."""
    config = TrainConfig()
    loop = Loop(Defence(find_recipe(name), random_images(), config), config)
    return compare(f"training step, {name}", lambda: loop.take(0), bare_passes(loop.task))


def bare_passes(task: Defence) -> Callable[[], None]:
    """The passes of one step on fixed images: guides, inner attack, and the loss' own."""
    net, config = task.learner.net, task.config
    size = config.identities * config.images_per_identity
    images = torch.rand(size, 3, 64, 32, device=task.device)
    images = images.contiguous(memory_format=LAYOUT)
    recipe = task.learner.recipe
    attacks = config.attack_steps if recipe.craft else 0
    parts = 2 if recipe.meta else 1
    batch = torch.cat([images, images]) if attacks else images

    def run() -> None:
        if attacks:
            net.eval()
            with torch.no_grad():
                net(images)
            for _ in range(attacks):
                inner_pass(net, images)
            net.train()
        for part in batch.chunk(parts):
            net(part, heads=True).logits.sum().backward()
        net.zero_grad()

    return run


def inner_pass(net: ReIDNet, images: Tensor) -> None:
    """Forwards, and back to the pixels alone."""
    point = images.clone().requires_grad_()
    torch.autograd.grad(net(point).sum(), point)


def random_images() -> ImageSet:
    """A data set of noise: as many identities and images as the street's."""
    generator = torch.Generator().manual_seed(0)
    pids = torch.arange(CLASSES).repeat_interleave(IMAGES)
    pixels = torch.randint(0, 256, (len(pids), 3, 64, 32), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, pids, torch.zeros_like(pids), tuple(map(str, pids.tolist())))
