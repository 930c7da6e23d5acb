"""Phase 1 as a whole, for programs; notebook 02 does the same step by step."""

from pathlib import Path

import pandas as pd
import torch

from ddid.balance.gate import KEPT, Gate
from ddid.balance.generator import GeneratorTraining, train_generator
from ddid.balance.judge import JudgeTraining, train_judge
from ddid.balance.network import GeneratorConfig
from ddid.balance.plan import Thresholds, resampling_plan
from ddid.balance.references import References
from ddid.balance.resampling import resample
from ddid.balance.sampling import Sampling
from ddid.data.images import ImageSet
from ddid.progress import Progress


def balanced(
    train: ImageSet,
    *,
    out: str | Path,
    progress: Progress | None = None,
    delta1: int = 20,
    delta2: float = 0.5,
    steps: int = 1600,
    seed: int = 0,
) -> ImageSet:
    """The training set with what phase 1 adds: generated images that pass the gate, if any.

    Args:
        train: real images of at least two cameras.
        out: folder of generator, judge and images.
        progress: told what is done; `ddid.progress.progress_bars()` draws it.
        delta1: fewest images an identity should have.
        delta2: largest share of one camera.
        steps: of the generator's training.
        seed: of the plan, both trainings and the images.
    """
    folder = Path(out)
    columns = {"path": train.paths, "pid": train.pids.tolist(), "camid": train.camids.tolist()}
    manifest = pd.DataFrame(columns).assign(split="train", origin="real")
    plan = resampling_plan(manifest, Thresholds(delta1, delta2), seed)
    if plan.empty:
        return train
    height, width = train.images.shape[2:]
    cameras = sorted(set(train.camids.tolist()) - {-1})
    config = GeneratorConfig(tuple(train.classes), tuple(cameras), height, width)
    training = GeneratorTraining(steps=steps, seed=seed)
    generator = train_generator(train, config, training, folder / "generator", progress)
    references = References(train, config, generator.denoiser.sigma_data.device)
    gate = Gate(train_judge(train, JudgeTraining(seed=seed), folder / "judge", progress))
    drafts = resample(
        generator, references, plan, folder / "synthetic", Sampling(), gate, progress=progress
    )
    made = drafts[drafts["verdict"] == KEPT]
    if made.empty:
        return train
    added = ImageSet.read(made, (height, width))
    return ImageSet(
        torch.cat([train.images, added.images]),
        torch.cat([train.pids, added.pids]),
        torch.cat([train.camids, added.camids]),
        train.paths + added.paths,
    )
