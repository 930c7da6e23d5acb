"""What a terminal says at the end of a run or an audit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from ddid.attack import attack_names, find_attack
from ddid.attack.registry import Family
from ddid.backbones import backbones
from ddid.defense.recipes import recipes
from ddid.files import read_json


def run_text(root: Path) -> str:
    """Where a run's results are, and its main numbers."""
    return (
        f"\nexecuted notebooks  {root}/*/*.ipynb\n"
        f"results             {root / 'metrics.json'}\n"
        f"figures             {root}/*/figures/*.png\n"
        f"explorer            ddid explore {root}\n\n"
        f"{metrics_text(read_json(root / 'metrics.json'))}"
    )


def metrics_text(metrics: Mapping[str, Any]) -> str:
    """mAP of a run's models, and its bias before and after balancing, where it recorded them."""
    parts = []
    if results := metrics.get("04_robustness_report", {}).get("results"):
        maps = {m: {a: v["mAP"] for a, v in attacks.items()} for m, attacks in results.items()}
        wide = pd.DataFrame(maps).T.sort_index()
        wide = wide[shown(wide)]
        wide = wide.sort_values(wide.columns[-1]).rename_axis("mAP (%)", axis=1)
        parts.append(wide.to_string(float_format="{:.1f}".format))
    balancing = metrics.get("02_diffusion_resampling", {})
    if "bias_before" in balancing:
        bias = pd.DataFrame({"before": balancing["bias_before"], "after": balancing["bias_after"]})
        bias = bias.rename(lambda name: name.replace("_", " ")).rename_axis("bias", axis=1)
        parts.append(bias.to_string(float_format="{:.3f}".format))
    return "\n\n".join(parts) + "\n"


def shown(known: Sequence[str] | pd.DataFrame, attacks: Sequence[str] = ()) -> list[str]:
    """Attacks that a table shows of those `known`: not every family that training never saw."""
    usual = ["clean", *attack_names("standard"), "gallery", "worst", "worst_gallery", "unseen"]
    return [name for name in attacks or usual if name in set(known)]


def names_text() -> str:
    """Every backbone by name; every recipe and every attack, a line each."""
    lines = [f"backbones: {', '.join(backbones())}", ""]
    lines += ["recipes (a name may change one: `ddid-meta`, `metric_at+fnes`, `metric_at-eps10`)"]
    lines += [f"  {name:<18} {recipe.idea}" for name, recipe in recipes().items()]
    for family in get_args(Family):
        lines += ["", f"attacks, {family}"]
        cards = {name: find_attack(name).craft.__doc__ or "" for name in attack_names(family)}
        lines += [f"  {name:<18} {card.splitlines()[0]}" for name, card in cards.items()]
    return "\n".join(lines) + "\n"


def audit_text(audit: Mapping[str, Any]) -> str:
    """Scores, verdicts and flags of an audit."""
    scores = pd.DataFrame(audit["results"]).T[["mAP", "rank1", "mINP"]].round(1)
    verdicts = {v["check"]: "passed" if v["passed"] else "FLAG" for v in audit["verdicts"]}
    flags = f"flags: {', '.join(audit['flags'])}" if audit["flags"] else "no flag"
    return f"{scores.to_string()}\n\n{pd.Series(verdicts).to_string()}\n\n{flags}\n"
