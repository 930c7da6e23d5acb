"""Phase 1: synthesise the plan, judge, retry, and balance the training set."""

import warnings
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ddid.balance.gate import KEPT, Gate
from ddid.balance.generator import GeneratorTraining, train_generator
from ddid.balance.judge import train_judge
from ddid.balance.network import Generator, GeneratorConfig
from ddid.balance.plan import Thresholds, resampling_plan
from ddid.balance.references import References
from ddid.balance.sampling import Sampling, draw_images
from ddid.data.images import ImageSet
from ddid.data.manifest import COLUMNS
from ddid.errors import checked, require
from ddid.files import atomic_write
from ddid.identity import identity
from ddid.progress import Progress
from ddid.seeds import seed_of

BATCH = 64  # images drawn at once
MARK = "ddid"  # the PNG text that says what an image was made from


@checked
def balanced(
    train: ImageSet,
    *,
    out: str | Path,
    progress: Progress | None = None,
    delta1: int = Thresholds.delta1,
    delta2: float = Thresholds.delta2,
    steps: int = GeneratorTraining.steps,
    seed: int = 0,
) -> ImageSet:
    """The training set with what phase 1 adds: generated images that pass the gate. If the plan is
    empty or none passes, of which a warning tells, it is the training set itself.

    Args:
        train: real images of at least two people, their cameras known.
        out: folder of generator, judge and images.
        progress: told what is done; `ddid.progress.progress_bars()` draws it.
        delta1, delta2: fewest images of an identity, largest share of them from one camera.
        steps: of the generator's training.
        seed: of the plan, both trainings and the images.
    """
    folder = Path(out)
    columns = {"path": train.paths, "pid": train.pids.tolist(), "camid": train.camids.tolist()}
    manifest = pd.DataFrame(columns).assign(split="train", origin="real")
    plan = resampling_plan(manifest, Thresholds(delta1, delta2), seed)
    if plan.empty:
        return train
    config = GeneratorConfig.of(train)
    training = GeneratorTraining(steps=steps, seed=seed)
    gate = Gate(train_judge(train, folder / "judge", progress, seed=seed))
    if unsure := gate.judge.message():
        warnings.warn(unsure, stacklevel=2)
    generator = train_generator(train, config, training, folder / "generator", progress)
    references = References(train, config, generator.denoiser.sigma_data.device)
    drafts = resample(
        generator, references, plan, folder / "synthetic", Sampling(), gate, progress=progress
    )
    made = drafts[drafts["verdict"] == KEPT]
    if made.empty:
        told = f"the gate rejected all {len(drafts)} drafts of {len(plan)} planned images"
        warnings.warn(f"{told}: nothing is added; train for more steps", stacklevel=2)
        return train
    added = ImageSet.read(made, (config.height, config.width))
    return ImageSet(
        torch.cat([train.images, added.images]),
        torch.cat([train.pids, added.pids]),
        torch.cat([train.camids, added.camids]),
        train.paths + added.paths,
    )


def resample(
    generator: Generator,
    references: References,
    plan: pd.DataFrame,
    folder: str | Path,
    sampling: Sampling,
    gate: Gate,
    *,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Synthesise every row of the plan; what the gate rejects gets a new seed, a few times.

    `folder` gets `NAME.png`, further attempts `NAME_rN.png`; rejected ones stay, to be seen. Images
    already there are not made again, so a killed run goes on where it was. Returns the drafts, a
    row for each attempt: the plan's columns, `attempt` from 0, `path`, `origin`, and `verdict`,
    `kept` or the reason against it.
    """
    require(len(plan) > 0, "the plan has no rows: there is nothing to synthesise")
    size = (generator.config.height, generator.config.width)
    drafts = []
    for attempt in range(gate.limits.attempts):
        rows = plan.assign(attempt=attempt)
        if attempt > 0:
            rows["seed"] = [seed_of(seed, attempt) for seed in plan["seed"]]
            rows["name"] += f"_r{attempt}"
        paths = synthesise(generator, references, rows, folder, sampling, progress)
        rows = rows.assign(path=paths, split="train", origin="synthetic")
        drafts.append(rows.assign(verdict=gate.verdicts(ImageSet.read(rows, size))))
        plan = plan[(drafts[-1]["verdict"] != KEPT).to_numpy()]
        if plan.empty:
            break
    return pd.concat(drafts).sort_values(["name", "attempt"], ignore_index=True)


def balanced_manifest(manifest: pd.DataFrame, drafts: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the drafts that were kept as further train rows."""
    kept = drafts.loc[drafts["verdict"] == KEPT, COLUMNS]
    return pd.concat([manifest, kept], ignore_index=True)


def synthesise(
    generator: Generator,
    references: References,
    plan: pd.DataFrame,
    folder: str | Path,
    sampling: Sampling,
    progress: Progress | None = None,
) -> list[str]:
    """Write an image for each plan row, `FOLDER/NAME.png`, unless that very image is there. A PNG
    carries a mark of all that it depends on, generator, references, code, settings, labels and
    seed, so that images of another generator are made anew, and several machines can share one plan
    by its rows. Returns paths in its order."""
    made_by = identity(
        code=(draw_images, type(generator.denoiser.network)),
        generator=(generator.denoiser.state_dict(), generator.config),
        references=(references.images, references.identity, references.camera),
        sampling=sampling,
    )
    labels = zip(plan["pid"], plan["camid"], plan["seed"], strict=True)
    marks = [f"{made_by} pid {pid} camid {camid} seed {seed}" for pid, camid, seed in labels]
    paths = [Path(folder) / f"{name}.png" for name in plan["name"]]
    missing = [i for i, (p, m) in enumerate(zip(paths, marks, strict=True)) if _mark_of(p) != m]
    done = len(plan) - len(missing)
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        images = draw_images(generator, references, plan.iloc[batch], sampling)
        for i, image in zip(batch, images.permute(0, 2, 3, 1).numpy(), strict=True):
            note = PngInfo()
            note.add_text(MARK, marks[i])
            with atomic_write(paths[i]) as temporary:
                Image.fromarray(image).save(temporary, pnginfo=note)
        done += len(batch)
        if progress:
            progress("images synthesised", done, len(plan))
    return [str(path) for path in paths]


def _mark_of(path: Path) -> str:
    try:
        with Image.open(path) as image:
            image.verify()
            return image.info.get(MARK, "")
    except (OSError, SyntaxError, ValueError):  # missing or damaged
        return ""
