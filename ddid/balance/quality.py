"""How good the synthetic images are, judged by models that never saw one."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ddid.balance.bias import effective_images, nearest_difference, thumbnails
from ddid.balance.judge import Judge
from ddid.data.images import ImageSet
from ddid.errors import require
from ddid.model import embed

NEIGHBOURS = 3  # of precision and recall (Kynkäänniemi et al. 2019)
RARE = 0.05  # share of photographs that are nearer to another than what counts as a copy


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


def precision_recall(real: Tensor, made: Tensor) -> tuple[float, float]:
    """Shares of `made` (m, D) near real features (n, D), and of `real` near made ones.

    Near: within the distance of a feature of the other side to its third neighbour there
    (Kynkäänniemi et al. 2019).
    """
    return _covered(made, real), _covered(real, made)


def _covered(points: Tensor, by: Tensor) -> float:
    k = min(NEIGHBOURS + 1, len(by))  # itself is the first
    radius = torch.cat([torch.cdist(part, by).kthvalue(k).values for part in by.split(512)])
    near = [(torch.cdist(part, by) <= radius).any(1) for part in points.split(512)]
    return torch.cat(near).double().mean().item()


def copy_test(real: ImageSet, made: ImageSet) -> dict[str, float]:
    """Are drafts nearer to a training image than photographs are to another?

    Returns:
        `copies` and `copies_person`: share of `made` nearer to its nearest real image than all
        but 5 % of the real ones are to theirs, by thumbnails of the whole image and of its middle,
        where the person stands; 0.05 is what photographs have.
    """
    found = {}
    for name, crop in {"copies": 0, "copies_person": real.images.shape[-1] // 4}.items():
        width = real.images.shape[-1] - crop
        thumbs, others = (thumbnails(s.images[..., crop:width]) for s in (real, made))
        limit = nearest_difference(thumbs).quantile(RARE)
        found[name] = (nearest_difference(others, thumbs) < limit).double().mean().item()
    return found


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
          `precision_…`, `recall_…` of the same pairs;
        - `identity_agreement`, `camera_agreement`: shares of synthetic images whose label the judge
          gives, and the same with the suffix `_unseen` over pairs of identity and camera that no
          real image shows (None if there are none), `_real` over photographs held out;
        - `copies`, `copies_person`: of `copy_test`;
        - `diversity_synthetic`, `diversity_real`: mean over identities of the effective number of
          images as a share of their number.
    """
    features, made = (embed(judge.features, s.images) for s in (real, synthetic))
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    halves = features[order].chunk(2)
    identity, camera = (judge.leads(synthetic) > 0).T
    pairs = set(zip(real.pids.tolist(), real.camids.tolist(), strict=True))
    labels = zip(synthetic.pids.tolist(), synthetic.camids.tolist(), strict=True)
    unseen = torch.tensor([pair not in pairs for pair in labels])
    centre = features.mean(0)
    report: dict[str, Any] = {
        "identity_agreement": _share(identity),
        "camera_agreement": _share(camera),
        "identity_agreement_real": judge.right().get("identity"),
        "camera_agreement_real": judge.right().get("camera"),
        "identity_agreement_unseen": _share(identity[unseen]),
        "camera_agreement_unseen": _share(camera[unseen]),
        "diversity_synthetic": diversity(made - centre, synthetic.pids),
        "diversity_real": diversity(features - centre, real.pids),
    }
    for name, pair in {"synthetic": (features, made), "real": halves}.items():
        report[f"frechet_{name}"] = frechet_distance(*pair)
        report[f"precision_{name}"], report[f"recall_{name}"] = precision_recall(*pair)
    return report | copy_test(real, synthetic)


def diversity(features: Tensor, pids: Tensor) -> float | None:
    """Mean over identities of effective images / images, in (0, 1]; None if all are alone."""
    groups = [features[pids == pid] for pid in pids.unique()]
    shares = [effective_images(group) / len(group) for group in groups if len(group) > 1]
    return sum(shares) / len(shares) if shares else None


def quality_table(reports: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Reports by name as a table: a measure a row, a report a column, real images in the last."""
    rows = {
        "Fréchet distance to real": ("frechet_synthetic", "frechet_real"),
        "precision": ("precision_synthetic", "precision_real"),
        "recall": ("recall_synthetic", "recall_real"),
        "diversity in an identity": ("diversity_synthetic", "diversity_real"),
        "identity recognised": ("identity_agreement", "identity_agreement_real"),
        "camera recognised": ("camera_agreement", "camera_agreement_real"),
        "identity, unseen pairs": ("identity_agreement_unseen", ""),
        "camera, unseen pairs": ("camera_agreement_unseen", ""),
        "nearer to an image than photographs": ("copies", ""),
        "… its person alone": ("copies_person", ""),
    }
    columns = {
        name: [report[made] for made, _ in rows.values()] for name, report in reports.items()
    }
    for report in list(reports.values())[-1:]:
        columns["real"] = [report.get(real) for _, real in rows.values()]
    return pd.DataFrame(columns, index=list(rows), dtype=float).round(3)


def _share(hits: Tensor) -> float | None:
    return hits.float().mean().item() if len(hits) else None
