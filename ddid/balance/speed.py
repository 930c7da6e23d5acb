"""How fast this machine trains and samples the generator: the preview of a plan's cost."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import pandas as pd
import torch
from accelerate import Accelerator

from ddid.balance.network import Generator, GeneratorConfig
from ddid.balance.synthesis import Sampling, draw_images
from ddid.balance.training import GeneratorTrainer, GeneratorTraining
from ddid.data.images import ImageSet


class Speed(NamedTuple):
    """Seconds a training step, and seconds an image synthesised in a batch."""

    step: float
    image: float


def measure_speed(
    real: ImageSet, config: GeneratorConfig, training: GeneratorTraining, sampling: Sampling
) -> Speed:
    """Time two training steps and a batch drawn in two sampling steps, each after a warm-up."""
    trainer = GeneratorTrainer(real, config, training, Accelerator())
    generator = Generator(trainer.average, config)
    short = replace(sampling, steps=2, batch=16)
    known = {"pid": config.identities[0], "camid": config.cameras[0]}
    rows = pd.DataFrame({"seed": range(short.batch)}).assign(**known)
    step = seconds(lambda: trainer.step(0), repeats=2)
    image = seconds(lambda: draw_images(generator, rows, short)) / short.batch
    return Speed(step, image * sampling.evaluations / short.evaluations)


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    """Seconds of one call of `work`, the best of `repeats` after a warm-up."""
    work()
    best = float("inf")
    for _ in range(repeats):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best
