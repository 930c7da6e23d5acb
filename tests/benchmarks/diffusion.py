"""The generator's training step and sampling beside the bare network's passes of the same size."""

from collections.abc import Callable

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor

from ddid.balance.generator import GeneratorTask, GeneratorTraining, started
from ddid.balance.network import Generator, GeneratorConfig, pays_bfloat16
from ddid.balance.references import References
from ddid.balance.sampling import Sampling, draw_images
from ddid.data.images import ImageSet
from tests.benchmarks.timing import Row, compare

IDENTITIES, CAMERAS, BATCH = 64, 6, 16
SAMPLINGS = {
    "one forward an evaluation, no guidance": Sampling(steps=4, camera_weight=1.0),
    "guidance, both labels in one batch": Sampling(steps=4, identity_weight=2.0),
}


def rows(repeats: int = 6) -> list[Row]:
    """One row for the training step and one for each way of sampling."""
    task, generator = build()
    table = [compare("generator training step", *training_step(task), repeats)]
    for what, sampling in SAMPLINGS.items():
        table.append(
            compare(f"sampling, {what}", *drawing(generator, task.references, sampling), repeats)
        )
    return table


def training_step(task: GeneratorTask) -> tuple[Callable[[], object], Callable[[], object]]:
    """A whole step's gradient and update, and its forward and backward passes alone."""
    (images, _, sigma, told), net = task.draw(0), task.net
    optimizer = torch.optim.AdamW(net.parameters(), 1e-6, fused=True)
    device, low = net.sigma_data.device, pays_bfloat16(net.sigma_data.device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            task.step(1, 1)
        optimizer.step()

    def floor() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=low):
            output = net.network(images, sigma, told)
        output.float().sum().backward()
        optimizer.zero_grad()

    return step, floor


def drawing(
    generator: Generator, references: References, sampling: Sampling
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Images of a batch of plan rows, and as many forward passes over as many images."""
    plan = pd.DataFrame({"pid": range(BATCH), "camid": 1, "seed": range(BATCH)})
    copies = 1 if sampling.identity_weight == sampling.camera_weight == 1 else 3
    told = references.sampling(plan, references.choose(plan))
    told = type(told)(*(torch.cat([part] * copies) for part in told))
    noise = torch.zeros(BATCH * copies, device=references.device)

    @torch.no_grad()
    def floor() -> Tensor:
        low = pays_bfloat16(references.device)
        with torch.autocast(references.device.type, torch.bfloat16, enabled=low):
            for _ in range(sampling.evaluations):
                output = generator.denoiser.network(told.source, noise, told)
        return output

    return lambda: draw_images(generator, references, plan, sampling), floor


def build() -> tuple[GeneratorTask, Generator]:
    """A task on images of noise, and its untrained generator."""
    draw = torch.Generator().manual_seed(0)
    pids = torch.arange(IDENTITIES).repeat_interleave(4)
    pixels = torch.randint(0, 256, (len(pids), 3, 64, 32), generator=draw, dtype=torch.uint8)
    real = ImageSet(pixels, pids, pids % CAMERAS, tuple(map(str, pids.tolist())))
    config = GeneratorConfig(tuple(range(IDENTITIES)), tuple(range(CAMERAS)))
    training = GeneratorTraining(batch=BATCH)
    generator = started(real, config, training)
    generator.denoiser.to(Accelerator().device)
    return GeneratorTask(real, generator, training, Accelerator().device), generator
