"""Synthetic images on disk: one seed an image, the same image for any batch size, resumable."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from ddid.balance.diffusion import Guidance, guide, to_pixels
from ddid.balance.network import Generator
from ddid.balance.sampler import SOLVERS, Watch, karras_sigmas
from ddid.data.images import to_uint8
from ddid.errors import require
from ddid.files import atomic_write
from ddid.progress import Progress

MARK = "ddid"  # the PNG text that says what an image was made from


@dataclass(frozen=True)
class Sampling:
    """How images are drawn. Our choices: the cheapest that the quality gate does not punish."""

    solver: str = "multistep"
    """heun (2·steps − 1 evaluations) or multistep (steps evaluations)."""
    steps: int = 12
    identity_weight: float = 1.0
    """How strongly a sample follows its identity; 1 is plain conditional sampling."""
    camera_weight: float = 1.0
    """How strongly it follows its camera."""
    sigma_max: float = 20.0
    """First noise level; 65 times the street's σ_data, where EDM's 80 only adds steps."""
    batch: int = 64

    def __post_init__(self) -> None:
        require(
            self.solver in SOLVERS,
            f"unknown solver {self.solver!r}: choose one of {', '.join(SOLVERS)}",
        )
        require(self.steps >= 2, f"sampling in {self.steps} step(s): take at least 2")
        require(self.batch >= 1, f"sampling batches of {self.batch}: give at least 1")

    @property
    def evaluations(self) -> int:
        """Times the denoiser is called for a batch."""
        return 2 * self.steps - 1 if self.solver == "heun" else self.steps


def noise_of(seeds: Sequence[int], shape: tuple[int, int]) -> Tensor:
    """Standard normal noise (B, 3, *shape), each image from its own seed, on the CPU."""
    draws = [torch.Generator().manual_seed(seed) for seed in seeds]
    return torch.stack([torch.randn(3, *shape, generator=draw) for draw in draws])


@torch.no_grad()
def draw_images(
    generator: Generator, rows: pd.DataFrame, sampling: Sampling, watch: Watch | None = None
) -> Tensor:
    """Images of plan rows (pid, camid, seed), uint8 (B, 3, H, W), in one batch.

    Raises:
        InputError: an identity or camera that the generator does not know.
    """
    denoiser, config = generator
    device = denoiser.sigma_data.device
    pids, camids = (torch.tensor(rows[name].tolist()) for name in ("pid", "camid"))
    labels = [label.to(device) for label in config.labels(pids, camids)]
    weights = Guidance(sampling.identity_weight, sampling.camera_weight)
    denoise = guide(denoiser, labels[0], labels[1], config.nulls, weights)
    noise = noise_of(rows["seed"].tolist(), (config.height, config.width)).to(device)
    sigmas = karras_sigmas(sampling.steps, sigma_max=sampling.sigma_max)
    return to_uint8(to_pixels(SOLVERS[sampling.solver](denoise, noise, sigmas, watch))).cpu()


def synthesise(
    generator: Generator,
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
    model = _digest(generator)
    paths = [Path(folder) / f"{name}.png" for name in plan["name"]]
    marks = [_mark(model, row, sampling) for row in plan.itertuples()]
    missing = [i for i, (p, m) in enumerate(zip(paths, marks, strict=True)) if _mark_of(p) != m]
    done = len(plan) - len(missing)
    for start in range(0, len(missing), sampling.batch):
        batch = missing[start : start + sampling.batch]
        images = draw_images(generator, plan.iloc[batch], sampling)
        for i, image in zip(batch, images, strict=True):
            _write_png(paths[i], image, marks[i])
        done += len(batch)
        if progress:
            progress("images synthesised", done, len(plan))
    return [str(path) for path in paths]


def _digest(generator: Generator) -> str:
    state = generator.denoiser.state_dict()
    total = hashlib.blake2b(digest_size=8)
    for name in sorted(state):
        total.update(state[name].cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _mark(model: str, row: tuple, sampling: Sampling) -> str:
    weights = f"{sampling.identity_weight:g}/{sampling.camera_weight:g}"
    how = f"{sampling.solver} {sampling.steps} from {sampling.sigma_max:g} guidance {weights}"
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
