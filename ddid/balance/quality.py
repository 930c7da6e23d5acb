"""How good the synthetic images are, judged by models that never saw one."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ddid.balance.bias import effective_images, nearest_difference, thumbnails
from ddid.balance.gate import Judge
from ddid.balance.network import Generator
from ddid.balance.sampler import SOLVERS
from ddid.balance.synthesis import Sampling, draw_images
from ddid.data.images import ImageSet, to_unit
from ddid.errors import require
from ddid.model import embed


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Fréchet distance of two sets of features, (n, D) and (m, D), fitted as Gaussians.

        ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)

    The formula of the FID (Heusel et al. 2017), here for ReID features.

    Raises:
        InputError: fewer than two features on a side.
    """
    require(min(len(one), len(other)) > 1, "a Fréchet distance needs two images on each side")
    one, other = one.double(), other.double()
    sigma_1, sigma_2 = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(sigma_1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T  # Σ₁^½, so the product is symmetric
    cross = torch.linalg.eigvalsh(root @ sigma_2 @ root).clamp_min(0).sqrt().sum()
    shift = (one.mean(0) - other.mean(0)).square().sum()
    return float(shift + sigma_1.trace() + sigma_2.trace() - 2 * cross)


def quality_report(
    real: ImageSet, synthetic: ImageSet, judge: Judge, seed: int = 0
) -> dict[str, Any]:
    """Measures of synthetic images beside the same measures of real ones.

    Args:
        real: the generator's training images.
        synthetic: what it made, before or after the gate.
        judge: models trained on `real`. For an honest agreement rate give one that was not the
            gate that chose `synthetic`: another seed will do.
        seed: which half of the real images stands against the other.

    Returns:
        - `frechet_synthetic`, `frechet_real`: real ↔ synthetic, and one half of real ↔ the other;
        - `identity_agreement`, `camera_agreement`: shares of synthetic images whose label the judge
          gives, and the same with the suffix `_unseen` over pairs of identity and camera that no
          real image shows (None if there are none);
        - `nearest_synthetic`, `nearest_real`: median thumbnail difference to the nearest real image
          (of another frame); well below the real one means copies;
        - `diversity_synthetic`, `diversity_real`: mean over identities of the effective number of
          images as a share of their number.
    """
    features, made = (embed(judge.features, s.images) for s in (real, synthetic))
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    halves = features[order].chunk(2)
    identity, camera = (rank == 1 for rank in judge.agreement(synthetic))
    pairs = set(zip(real.pids.tolist(), real.camids.tolist(), strict=True))
    labels = zip(synthetic.pids.tolist(), synthetic.camids.tolist(), strict=True)
    unseen = torch.tensor([pair not in pairs for pair in labels])
    thumbs, made_thumbs = thumbnails(real.images), thumbnails(synthetic.images)
    centre = features.mean(0)
    return {
        "frechet_synthetic": frechet_distance(features, made),
        "frechet_real": frechet_distance(*halves),
        "identity_agreement": _share(identity),
        "camera_agreement": _share(camera),
        "identity_agreement_unseen": _share(identity[unseen]),
        "camera_agreement_unseen": _share(camera[unseen]),
        "nearest_synthetic": nearest_difference(made_thumbs, thumbs).median().item(),
        "nearest_real": nearest_difference(thumbs).median().item(),
        "diversity_synthetic": diversity(made - centre, synthetic.pids),
        "diversity_real": diversity(features - centre, real.pids),
    }


def diversity(features: Tensor, pids: Tensor) -> float | None:
    """Mean over identities of effective images / images, in (0, 1]; None if all are alone."""
    groups = [features[pids == pid] for pid in pids.unique()]
    shares = [effective_images(group) / len(group) for group in groups if len(group) > 1]
    return sum(shares) / len(shares) if shares else None


def solver_errors(
    generator: Generator, rows: pd.DataFrame, sampling: Sampling, steps: Sequence[int]
) -> pd.DataFrame:
    """How far each solver's images are from the equation's exact solution, and what they cost.

    Args:
        generator: to draw from.
        rows: of a plan, drawn in one batch.
        sampling: guidance and first noise level.
        steps: numbers of steps to compare; four times the largest, by Heun, counts as exact.

    Returns:
        `solver`, `steps`, `evaluations` of the denoiser, and `error`, the root mean square
        difference of pixels in [0, 1].
    """
    require(bool(steps), "no numbers of steps to compare the solvers at: give some, say 6, 12, 24")
    exact = draw_images(generator, rows, replace(sampling, solver="heun", steps=4 * max(steps)))
    table = []
    for way in (replace(sampling, solver=s, steps=n) for s in SOLVERS for n in steps):
        difference = to_unit(draw_images(generator, rows, way)) - to_unit(exact)
        error = difference.square().mean().sqrt().item()
        table.append((way.solver, way.steps, way.evaluations, error))
    return pd.DataFrame(table, columns=["solver", "steps", "evaluations", "error"])


def quality_table(reports: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Reports by name as a table: a measure a row, a report a column, real images in the last."""
    rows = {
        "Fréchet distance to real": ("frechet_synthetic", "frechet_real"),
        "nearest real image (RMS)": ("nearest_synthetic", "nearest_real"),
        "diversity in an identity": ("diversity_synthetic", "diversity_real"),
        "identity recognised": ("identity_agreement", ""),
        "camera recognised": ("camera_agreement", ""),
        "identity, unseen pairs": ("identity_agreement_unseen", ""),
        "camera, unseen pairs": ("camera_agreement_unseen", ""),
    }
    columns = {
        name: [report[made] for made, _ in rows.values()] for name, report in reports.items()
    }
    for report in list(reports.values())[-1:]:
        columns["real"] = [report.get(real) for _, real in rows.values()]
    return pd.DataFrame(columns, index=list(rows), dtype=float).round(3)


def _share(hits: Tensor) -> float | None:
    return hits.float().mean().item() if len(hits) else None
