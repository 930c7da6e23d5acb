"""The generator's training step and sampling beside the bare network's passes of the same size."""

from collections.abc import Callable

import pandas as pd
import torch
from accelerate import Accelerator

from ddid.balance.network import Generator, GeneratorConfig
from ddid.balance.synthesis import Sampling, draw_images
from ddid.balance.training import GeneratorTrainer, GeneratorTraining
from ddid.data.images import ImageSet
from tests.benchmarks.timing import Row, compare

IDENTITIES, CAMERAS, BATCH = 64, 6, 16
SAMPLINGS = {
    "one forward an evaluation, no guidance": Sampling("heun", 4, 1.0, 1.0),
    "guidance, both labels in one batch": Sampling("heun", 4, 2.0, 1.5),
}


def rows(repeats: int = 6) -> list[Row]:
    """One row for the training step and one for each way of sampling."""
    trainer, generator = build()
    table = [compare("generator training step", *training_step(trainer), repeats)]
    for what, sampling in SAMPLINGS.items():
        table.append(compare(f"sampling, {what}", *drawing(generator, sampling), repeats))
    return table


def training_step(trainer: GeneratorTrainer) -> tuple[Callable[[], object], Callable[[], object]]:
    """A whole step, and its forward and backward passes alone."""
    batch = trainer.draw(0)

    def floor() -> None:
        network = trainer.net.network
        with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.bfloat16):
            output = network(batch.images, batch.sigma, *batch.condition)
        output.float().sum().backward()
        trainer.optimizer.zero_grad()

    return lambda: trainer.step(1), floor


def drawing(
    generator: Generator, sampling: Sampling
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Images of a batch of plan rows, and as many forward passes over as many images."""
    plan = pd.DataFrame({"pid": range(BATCH), "camid": 1, "seed": range(BATCH)})
    copies = 1 if sampling.identity_weight == sampling.camera_weight == 1 else 3
    device = generator.denoiser.sigma_data.device
    images = torch.rand(BATCH * copies, 3, 64, 32, device=device)
    label = torch.zeros(len(images), dtype=torch.int64, device=device)
    noise = torch.zeros(len(images), device=device)

    @torch.no_grad()
    def floor() -> None:
        for _ in range(sampling.evaluations):
            generator.denoiser.network(images, noise, label, label)

    return lambda: draw_images(generator, plan, sampling), floor


def build() -> tuple[GeneratorTrainer, Generator]:
    """A trainer on images of noise, and its untrained generator."""
    draw = torch.Generator().manual_seed(0)
    pids = torch.arange(IDENTITIES).repeat_interleave(4)
    pixels = torch.randint(0, 256, (len(pids), 3, 64, 32), generator=draw, dtype=torch.uint8)
    real = ImageSet(pixels, pids, pids % CAMERAS, tuple(map(str, pids.tolist())))
    config = GeneratorConfig(tuple(range(IDENTITIES)), tuple(range(CAMERAS)))
    trainer = GeneratorTrainer(real, config, GeneratorTraining(batch=BATCH), Accelerator())
    return trainer, Generator(trainer.average, config)
