"""A training step beside its own forward and backward passes measured bare."""

import time
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor

from ddid.data.loading import ImageSet
from ddid.defense.recipes import find_recipe
from ddid.defense.training import LAYOUT, TrainConfig, Trainer
from ddid.model import ReIDNet

RECIPES = ("none", "metric_at", "ddid")
CLASSES, IMAGES = 64, 12


def rows(repeats: int = 8) -> list[dict[str, object]]:
    """One row per recipe: seconds of a step, of its bare passes, and their ratio."""
    return [compare(name, repeats) for name in RECIPES]


def compare(name: str, repeats: int) -> dict[str, object]:
    """Alternate both, so that a busy machine slows both alike, and take each one's best."""
    trainer = Trainer(find_recipe(name), random_images(), TrainConfig(), Accelerator())
    trainer.modules.train()
    passes = bare_passes(trainer)
    times = [(timed(lambda t=t: trainer.step(t)), timed(passes)) for t in range(repeats)]
    measured, floor = (min(column) for column in zip(*times, strict=True))
    what = f"training step, {name}"
    return {"what": what, "measured": measured, "floor": floor, "ratio": measured / floor}


def bare_passes(trainer: Trainer) -> Callable[[], None]:
    """The passes of one step on fixed images: guides, inner attack, and the loss' own."""
    net, config = trainer.net, trainer.config
    size = config.identities * config.images_per_identity
    images = torch.rand(size, 3, 64, 32, device=trainer.images.device)
    images = images.contiguous(memory_format=LAYOUT)
    attacks = config.attack_steps if trainer.recipe.craft else 0
    halves = 2 if trainer.recipe.meta else 1
    batch = torch.cat([images, images]) if attacks else images

    def run() -> None:
        if attacks:
            net.eval()
            with torch.no_grad():
                net(images)
            for _ in range(attacks):
                inner_pass(net, images)
            net.train()
        for part in batch.chunk(halves):
            net(part, heads=True).logits.sum().backward()
        net.zero_grad()

    return run


def inner_pass(net: ReIDNet, images: Tensor) -> None:
    """Forwards, and back to the pixels alone."""
    point = images.clone().requires_grad_()
    torch.autograd.grad(net(point).sum(), point)


def timed(run: Callable[[], object]) -> float:
    """Seconds one call takes, the device's queue included."""
    begin = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def random_images() -> ImageSet:
    """A data set of noise: as many identities and images as the street's."""
    generator = torch.Generator().manual_seed(0)
    pids = torch.arange(CLASSES).repeat_interleave(IMAGES)
    pixels = torch.randint(0, 256, (len(pids), 3, 64, 32), generator=generator, dtype=torch.uint8)
    return ImageSet(pixels, pids, torch.zeros_like(pids), tuple(map(str, pids.tolist())))
