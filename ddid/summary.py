"""The last words of a run: where things are, and a short table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddid.files import read_json

ATTACKS = {"clean": "clean", "fna": "FNA", "sma": "SMA", "ifgsm": "IFGSM"}
RECIPES = {"none": "no defence", "metric_at": "metric adversarial training", "ddid": "DDID"}
BIAS = {
    "gini": "Gini of images per identity",
    "tail_share": "share of the rarer half",
    "camera_dominance": "camera dominance",
    "near_duplicates": "near-duplicates",
}


def summary(root: Path) -> str:
    """Where a run's notebooks, results and figures are, and its main numbers as two tables.

    Args:
        root: run folder with a `metrics.json`; what a notebook did not record is left out.
    """
    metrics = read_json(root / "metrics.json")
    lines = [
        "",
        f"executed notebooks  {root}/*/*.ipynb",
        f"results             {root / 'metrics.json'}",
        f"figures             {root}/*/figures/*.png",
    ]
    robustness = metrics.get("04_robustness_report", {}).get("results", {})
    resampling = metrics.get("02_diffusion_resampling", {})
    if robustness:
        lines += ["", *robustness_table(robustness)]
    if resampling:
        lines += ["", *bias_table(resampling["bias_before"], resampling["bias_after"])]
    return "\n".join(lines) + "\n"


def robustness_table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """Lines of mAP in percent, a recipe a line, an attack a column."""
    head = f"{'mAP %':<30}" + "".join(f"{title:>8}" for title in ATTACKS.values())
    lines = [head]
    known = [name for name in RECIPES if name in results]  # JSON files are sorted by name
    for recipe in [*known, *(name for name in results if name not in RECIPES)]:
        attacks = results[recipe]
        cells = (f"{attacks[a]['mAP']:8.1f}" if a in attacks else f"{'-':>8}" for a in ATTACKS)
        lines.append(f"{RECIPES.get(recipe, recipe):<30}" + "".join(cells))
    return lines


def bias_table(before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    """Lines of bias measures before and after balancing."""
    lines = [f"{'bias':<30}{'before':>8}{'after':>8}"]
    shared = [name for name in BIAS if name in before and name in after]
    return lines + [f"{BIAS[n]:<30}{before[n]:8.3f}{after[n]:8.3f}" for n in shared]
