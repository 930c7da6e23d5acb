"""What `import ddid` offers: adapters from plain arguments to the library's own words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddid.attack import Budget, attack_names
from ddid.balance.resampling import balanced
from ddid.data import read_data
from ddid.data.images import ImageSet
from ddid.defense.recipe import Recipe
from ddid.defense.training import TrainConfig
from ddid.defense.training import train as train_recipe
from ddid.errors import checked, require
from ddid.metric.distance import Embed
from ddid.model import ReIDNet
from ddid.progress import Progress
from ddid.report.audit import Audit
from ddid.report.audit import audit as audit_subject
from ddid.report.robustness import Plan, Robustness
from ddid.report.robustness import evaluate as attack_and_rank
from ddid.report.subject import Subject

__all__ = ["audit", "balanced", "evaluate", "explore", "read_data", "train"]


@checked
def train(
    recipe: str | Recipe,
    train: ImageSet,
    *,
    out: str | Path,
    progress: Progress | None = None,
    **settings: Any,
) -> ReIDNet:
    """Train a defence: a network from images (B, 3, H, W) in [0, 1] to embeddings (B, D).

    Args:
        recipe: a name that `ddid list` shows, such as "ddid", "metric_at" or "none", with changes
            at its end or without ("ddid-fnes", "metric_at-eps12"); or a `Recipe`, say
            `ddid.defense.recipes.tuned(...)` with other γ, α and weight of D.
        train: images of any size; their identities are the classes.
        out: folder of checkpoints, log and model; `ddid.model.load_model` reads it. Another
            training's, if there is one, moves to its folder `before`.
        progress: told the steps done; `ddid.progress.progress_bars()` draws them.
        settings: fields of `ddid.defense.training.TrainConfig`, such as `steps`, `backbone`, `lr`,
            `eps` (in fractions of the pixel range), `seed`.

    >>> net = train("none", people, out=folder, steps=1, identities=2, images_per_identity=2)
    >>> len(net(people.images[:3] / 255))
    3
    """
    known = vars(TrainConfig())
    for name, value in settings.items():
        require(name in known, f"training has no setting {name!r}: choose of {', '.join(known)}")
        fits = isinstance(value, type(known[name])) or not isinstance(known[name], str | tuple)
        require(fits, f"training: {name} is {value!r}, give one such as {known[name]!r}")
    return train_recipe(recipe, train, TrainConfig(**settings), out, progress)


@checked
def evaluate(
    model: Embed,
    query: ImageSet,
    gallery: ImageSet,
    *,
    out: str | Path,
    attacks: Sequence[str] = (),
    eps: float = Budget.eps,
    steps: int = Budget.steps,
    surrogate: Embed | None = None,
    progress: Progress | None = None,
) -> Robustness:
    """Score any model clean and under attack; `.table()` is in percent, one line an attack. Whether
    a high score can be believed is what `audit` asks.

    Args:
        model: any callable from images (B, 3, H, W) in [0, 1] to embeddings (B, D).
        query: attacked; a query finds nothing of its own camera.
        gallery: searched.
        out: folder of the attacks' results.
        attacks: names of `ddid.attack.attacks()`; the standard ones if empty.
        eps: largest change of a pixel, in fractions of its range; a whole number of 255ths.
        steps: of an attack, an eighth of `eps` each, or more if they are fewer than 8.
        surrogate: the other model that the transfer attack works on.
        progress: told the images done.

    >>> found = evaluate(model, query, gallery, out=folder, attacks=["fna"], steps=2)
    >>> found.table()["mAP"].index.tolist()
    ['clean', 'fna', 'worst']
    """
    plan = Plan(attacks or attack_names("standard"), Budget(eps=eps, steps=steps))
    subject = Subject.of(model, query, gallery)
    told = "the model's gradient is no number, so no attack can follow it: ask `ddid.audit` instead"
    require("nan" not in subject.slopes(), told)
    other = Subject.of(surrogate, query, gallery) if surrogate else None
    return attack_and_rank(subject, out, plan, other, progress)


@checked
def audit(
    model: Embed,
    query: ImageSet,
    gallery: ImageSet,
    *,
    out: str | Path,
    eps: float = Budget.eps,
    steps: int = Budget.steps,
    surrogate: Embed | None = None,
    progress: Progress | None = None,
) -> Audit:
    """Can a model's robustness be believed? Arguments as of `evaluate`; the attacks are fixed.

    `.flags` names the checks that failed, none for an honest model; `.verdicts` has the evidence,
    `.table()` the scores in percent. `ddid audit` asks the same from a terminal and writes a page.

    >>> "gradients" in audit(model, query, gallery, out=folder, steps=2).flags
    False
    """
    plan = Plan((), Budget(eps=eps, steps=steps))
    other = Subject.of(surrogate, query, gallery) if surrogate else None
    return audit_subject(Subject.of(model, query, gallery), out, plan, other, progress)


@checked
def explore(models: Mapping[str, Embed], query: ImageSet, gallery: ImageSet) -> Any:
    """The attack explorer as a widget for a notebook; `models` maps names to models.

    >>> len(explore({"mine": model}, query, gallery).children)
    6
    """
    from ddid.report.explorer import Explorer  # what draws and clicks, no training has to load
    from ddid.report.panel import Panel

    return Panel(Explorer(models, query, gallery)).box
