"""How good the synthetic images are, judged by models that never saw one."""

import torch
from torch import Tensor

from ddid.balance.judge import Judge
from ddid.data.images import ImageSet
from ddid.data.likeness import nearest_difference, thumbnails
from ddid.errors import require
from ddid.model import embed

NEIGHBOURS = 3  # of precision and recall
RARE = 0.05  # share of photographs that are nearer to another than what counts as a copy
MOST = 5000  # images of a set that are compared with all others of it; drawn from larger ones


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Fréchet distance of two sets of features, (n, D) and (m, D), fitted as Gaussians.

        ‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½)

    The formula of the FID (Heusel et al. 2017), here for ReID features.
    """
    require(min(len(one), len(other)) > 1, "a Fréchet distance needs two images on each side")
    one, other = one.double(), other.double()
    sigma_1, sigma_2 = one.T.cov(), other.T.cov()
    values, vectors = torch.linalg.eigh(sigma_1)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T  # Σ₁^½, so the product is symmetric
    cross = torch.linalg.eigvalsh(root @ sigma_2 @ root).clamp_min(0).sqrt().sum()
    shift = (one.mean(0) - other.mean(0)).square().sum()
    return float(shift + sigma_1.trace() + sigma_2.trace() - 2 * cross)


def covered(points: Tensor, by: Tensor) -> float:
    """Share of `points` (m, D) near to one of `by` (n, D): nearer than its third neighbour there.
    Made by real features the precision, real by made ones the recall (Kynkäänniemi et al. 2019)."""
    points, by = some(points), some(by)
    k = min(NEIGHBOURS + 1, len(by))  # itself is the first
    radius = torch.cat([torch.cdist(part, by).kthvalue(k).values for part in by.split(512)])
    near = [(torch.cdist(part, by) <= radius).any(1) for part in points.split(512)]
    return torch.cat(near).double().mean().item()


def some(rows: Tensor) -> Tensor:
    """At most `MOST` of the rows, random but always the same, so that no work grows by squares."""
    draw = torch.Generator().manual_seed(0)
    return rows if len(rows) <= MOST else rows[torch.randperm(len(rows), generator=draw)[:MOST]]


def copy_test(real: ImageSet, made: ImageSet) -> dict[str, float]:
    """Are drafts nearer to a training image than photographs are to another?

    Returns `copies` and `copies_person`: share of `made` nearer to its nearest real image than all
    but 5 % of the real ones are to theirs, by thumbnails of the whole image and of its middle,
    where the person stands; 0.05 is what photographs have.
    """
    found = {}
    width = real.images.shape[-1]
    for name, crop in {"copies": 0, "copies_person": width // 4}.items():
        thumbs, others = (thumbnails(s.images[..., crop : width - crop]) for s in (real, made))
        limit = nearest_difference(some(thumbs), thumbs, 2).quantile(RARE)
        found[name] = (nearest_difference(others, thumbs) < limit).double().mean().item()
    return found


def quality_report(
    real: ImageSet, synthetic: ImageSet, judge: Judge, seed: int = 0
) -> dict[str, float | None]:
    """Measures of synthetic images beside the same measures of the generator's training images.

    For an honest agreement rate give a judge that was not the gate that chose `synthetic`: another
    seed will do. `seed` says which half of the real images stands against the other.

    - `frechet_synthetic`, `frechet_real`: real ↔ synthetic, and one half of real ↔ the other;
      `precision_…`, `recall_…` of the same pairs;
    - `identity_agreement`, `camera_agreement`: shares of synthetic images whose label the judge
      gives, and the same with the suffix `_unseen` over pairs of identity and camera that no real
      image shows, `_real` over photographs held out; None where there are none to ask it about;
    - `copies`, `copies_person`: of `copy_test`.
    """
    copies = copy_test(real, synthetic)  # before there are features, which need as much memory
    features, made = (embed(judge.identity.net, s.images) for s in (real, synthetic))
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(seed))
    pairs = set(zip(real.pids.tolist(), real.camids.tolist(), strict=True))
    labels = zip(synthetic.pids.tolist(), synthetic.camids.tolist(), strict=True)
    unseen = torch.tensor([pair not in pairs for pair in labels])
    report: dict[str, float | None] = {}
    for what, leads in zip(("identity", "camera"), judge.leads(synthetic).T, strict=True):
        report[f"{what}_agreement_real"] = judge.right().get(what)
        for kind, rows in {"": torch.ones_like(unseen), "_unseen": unseen}.items():
            asked = leads[rows & leads.isfinite()]
            found = (asked > 0).float().mean().item() if len(asked) else None
            report[f"{what}_agreement{kind}"] = found
    report |= compared("synthetic", features, made)
    return report | compared("real", *features[order].chunk(2)) | copies


def compared(name: str, one: Tensor, other: Tensor) -> dict[str, float]:
    """Fréchet distance, precision and recall of the features of `other` beside those of `one`."""
    return {
        f"frechet_{name}": frechet_distance(one, other),
        f"precision_{name}": covered(other, one),
        f"recall_{name}": covered(one, other),
    }
