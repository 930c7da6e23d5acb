"""What an attacker finds who knows the gallery as `gallery` does and spends far more.

`python -m tests.benchmarks.gallery MODEL DATA` compares mAP in the worst case with knowledge of the
gallery, as every report shows it, with rivals of our own making: 200 steps, four starts (two
random, the clean image, and where `gallery` ended), five objectives, the best of all per query.
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from ddid.attack import attack_names
from ddid.attack.auto import auto_ascent
from ddid.attack.budget import random_start
from ddid.attack.gallery import Known, smooth_miss
from ddid.attack.pgd import Objective, valued
from ddid.attack.rounding import to_8bit
from ddid.data import read_data
from ddid.metric.ranking import rank
from ddid.model import embed, load_model
from ddid.report.robustness import Plan, attack_images, evaluate
from ddid.report.subject import Subject

STEPS, QUERIES = 200, 64


def over_right(known: Known, temperature: float = 0.05) -> Objective:
    """Log-sum-exp of closeness to wrong images over that to right ones."""

    def lead(embeddings: Tensor) -> Tensor:
        scores = known.scores(embeddings) / temperature
        wrong = scores.masked_fill(~known.wrong, -1e9).logsumexp(1)
        return wrong - scores.masked_fill(~known.right, -1e9).logsumexp(1)

    return lead


def log_rank(known: Known, temperature: float = 0.05) -> Objective:
    """Mean logarithm of the right images' smooth ranks."""
    real = known.right.gather(1, known.rows)

    def ranks(embeddings: Tensor) -> Tensor:
        scores = known.scores(embeddings)
        own = scores.gather(1, known.rows)[:, :, None]
        ahead = torch.sigmoid((scores[:, None] - own) / temperature)
        wrong = (ahead * known.wrong[:, None]).sum(2)
        return (wrong.log1p() * real).sum(1) / real.sum(1).clamp_min(1)

    return ranks


AIMS: dict[str, Callable[[Known], Objective]] = {
    "smooth AP, 0.01": lambda known: smooth_miss(known, 0.01),
    "smooth AP, 0.02": lambda known: smooth_miss(known, 0.02),
    "smooth AP, 0.05": lambda known: smooth_miss(known, 0.05),
    "mean log rank": log_rank,
    "log-sum-exp": over_right,
}


def rivals(subject: Subject) -> dict[str, Tensor]:
    """AP of each query under each rival, after rounding to 8 bits."""
    plan, source = Plan(), torch.Generator().manual_seed(1)
    known_best = attack_images("gallery", subject, plan)[0] / 255
    scene = subject.scene("query", replace(plan.budget, steps=STEPS), source).ready()
    known, clean = Known.of(scene), scene.images
    starts = {"clean": clean, "gallery": known_best}
    starts |= {f"random {n}": random_start(clean, scene.budget, source) for n in (1, 2)}
    found = {}
    for name, aim in AIMS.items():
        for label, start in starts.items():
            value = valued(scene.embed, aim(known))
            point = auto_ascent(value, start, clean, scene.budget)
            features = embed(subject.embed, to_8bit(point, clean, scene.budget))
            ranking = rank(replace(subject.attacked, embeddings=features), subject.gallery)
            found[f"{name}, from {label}"] = ranking.ap
    return found


def main(model: str, data: str) -> None:
    """Print the table."""
    net = load_model(model)
    size = net.config.height, net.config.width
    sides = read_data(data).images("query", "gallery", size=size)
    subject = Subject.of(net, *sides).some(QUERIES)
    with TemporaryDirectory() as folder:
        plan = Plan(attack_names("standard", "gallery"))
        ranked = evaluate(subject, folder, plan).rankings
    lines = {name: ranked[name].ap for name in ("clean", "worst", "gallery", "worst_gallery")}
    against = rivals(subject)
    lines |= against | {"the best of all, per query": torch.stack([*against.values()]).amin(0)}
    for name, ap in lines.items():
        sys.stdout.write(f"{name:<40} {100 * float(ap.mean()):5.2f}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
