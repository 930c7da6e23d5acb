"""Phase 1's last step: synthesise the plan, judge, retry, and write the balanced manifest."""

from pathlib import Path

import pandas as pd
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ddid.balance.gate import KEPT, Gate
from ddid.balance.network import Generator
from ddid.balance.references import References
from ddid.balance.sampling import Sampling, draw_images
from ddid.data.images import ImageSet
from ddid.data.manifest import COLUMNS
from ddid.errors import require
from ddid.files import atomic_write
from ddid.progress import Progress
from ddid.seeds import seed_of

MARK = "ddid"  # the PNG text that says what an image was made from


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

    Images already in `folder` are not made again, so a killed run goes on where it was.

    Args:
        generator: knows the plan's identities and cameras.
        references: real images of the plan's identities and cameras.
        plan: from `resampling_plan`.
        folder: gets `NAME.png`, further attempts `NAME_rN.png`; rejected ones stay, to be seen.
        sampling: how images are drawn.
        gate: judge and limits.
        progress: told the images done.

    Returns:
        The drafts: the plan's columns, `attempt` from 0, `path`, `origin`, and `verdict`, `kept`
        or the reason against it; a row for each attempt.

    Raises:
        InputError: an empty plan, or labels the generator does not know.
    """
    require(len(plan) > 0, "the plan has no rows: there is nothing to synthesise")
    size = (generator.config.height, generator.config.width)
    drafts = []
    for attempt in range(gate.limits.attempts):
        rows = _attempt(plan, attempt)
        paths = synthesise(generator, references, rows, folder, sampling, progress)
        rows = rows.assign(path=paths, split="train", origin="synthetic")
        drafts.append(rows.assign(verdict=gate.verdicts(ImageSet.read(rows, size))))
        plan = plan[(drafts[-1]["verdict"] != KEPT).to_numpy()]
        if plan.empty:
            break
    return pd.concat(drafts).sort_values(["name", "attempt"], ignore_index=True)


def _attempt(plan: pd.DataFrame, attempt: int) -> pd.DataFrame:
    """The plan's rows as they are, or with a seed and name of their own for a later attempt."""
    if attempt == 0:
        return plan.assign(attempt=0)
    return plan.assign(
        attempt=attempt,
        seed=[seed_of(seed, attempt) for seed in plan["seed"]],
        name=plan["name"] + f"_r{attempt}",
    )


def balanced_manifest(manifest: pd.DataFrame, drafts: pd.DataFrame) -> pd.DataFrame:
    """The manifest with the drafts that were kept as further train rows."""
    kept = drafts.loc[drafts["verdict"] == KEPT, COLUMNS]
    return pd.concat([manifest, kept], ignore_index=True)


def rejections(drafts: pd.DataFrame) -> dict[str, int]:
    """Number of drafts against each reason."""
    rejected = drafts.loc[drafts["verdict"] != KEPT, "verdict"]
    return {str(reason): int(n) for reason, n in rejected.value_counts().sort_index().items()}


def synthesise(
    generator: Generator,
    references: References,
    plan: pd.DataFrame,
    folder: str | Path,
    sampling: Sampling,
    progress: Progress | None = None,
) -> list[str]:
    """Write an image for each plan row, `FOLDER/NAME.png`, unless that very image is there.

    A PNG carries a mark of generator, labels, seed and settings, so images of another generator
    are made anew, and several machines can share one plan by its rows.

    Returns:
        Paths in the plan's order.
    """
    model = generator.digest()
    paths = [Path(folder) / f"{name}.png" for name in plan["name"]]
    marks = [_mark(model, row, sampling) for row in plan.itertuples()]
    missing = [i for i, (p, m) in enumerate(zip(paths, marks, strict=True)) if _mark_of(p) != m]
    done = len(plan) - len(missing)
    for start in range(0, len(missing), sampling.batch):
        batch = missing[start : start + sampling.batch]
        images = draw_images(generator, references, plan.iloc[batch], sampling)
        for i, image in zip(batch, images, strict=True):
            _write_png(paths[i], image, marks[i])
        done += len(batch)
        if progress:
            progress("images synthesised", done, len(plan))
    return [str(path) for path in paths]


def _mark(model: str, row: tuple, sampling: Sampling) -> str:
    s = sampling
    guidance = f"{s.identity_weight:g}/{s.camera_weight:g}"
    how = f"{s.way} {s.solver} {s.steps} from {s.sigma_max:g} to {s.sigma_min:g} by {guidance}"
    return f"generator {model} pid {row.pid} camid {row.camid} seed {row.seed} {how}"  # type: ignore[attr-defined]


def _mark_of(path: Path) -> str:
    try:
        with Image.open(path) as image:
            return image.info.get(MARK, "")
    except (FileNotFoundError, UnidentifiedImageError):
        return ""


def _write_png(path: Path, image: Tensor, mark: str) -> None:
    note = PngInfo()
    note.add_text(MARK, mark)
    with atomic_write(path) as temporary:
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(temporary, pnginfo=note)
