"""The attack explorer: one query, one attack, and what becomes of its ranked list.

`Explorer` is a plain object that any program can drive; `panel` puts widgets on it for a notebook,
and `Explorer.figure` is the same view where nobody can click.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from math import nan
from typing import TYPE_CHECKING, Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ddid.attack import Budget, attacks
from ddid.data.images import ImageSet
from ddid.errors import InputError, require
from ddid.metric.distance import Embed
from ddid.metric.ranking import Embedded, rank
from ddid.model import embed
from ddid.report.figures.ranking import Answers, attack_card
from ddid.report.figures.style import pictures
from ddid.report.ranked import RankedList, ranked_list
from ddid.report.robustness import Plan, attack_images
from ddid.report.subject import Subject

if TYPE_CHECKING:
    from ipywidgets import VBox

REMEMBERED = 256  # views kept: going back to an earlier choice costs nothing
LARGEST = {"eps": 32, "steps": 50}  # of the sliders; larger attacks are no longer subtle


@dataclass(frozen=True)
class Choice:
    """What a visitor chooses."""

    model: str
    attack: str = "fna"
    query: int = 0  # row of the query set
    eps: int = 8  # largest change of a pixel, in 255ths
    steps: int = 15

    @property
    def step(self) -> float:
        """Size of a step in 255ths: 1 at eps 8 as in the protocol, otherwise in proportion."""
        return max(1, self.eps) / 8


@dataclass(frozen=True)
class View:
    """What the visitor then sees; lists have one row, average precisions are in percent (nan for a
    query without a right answer in the gallery)."""

    image: Tensor  # uint8 (1, 3, H, W)
    attacked: Tensor  # uint8 (1, 3, H, W)
    before: RankedList
    after: RankedList
    ap_before: float
    ap_after: float

    @property
    def perturbation(self) -> Tensor:
        """What the attack added, in 255ths, int16 (1, 3, H, W)."""
        return self.attacked.short() - self.image.short()


def offered() -> list[str]:
    """Attacks that work on one image with nothing but the model and the gallery."""
    return [name for name, entry in attacks().items() if not (entry.whole or entry.surrogate)]


class Explorer:
    """The current choice among models, attacks and queries, and its view.

    Views are computed when they are first looked at, and remembered.

    Args:
        models: name → any callable images → embeddings; the first one is the initial choice.
        query: images to attack.
        gallery: images to rank.
        answers: length of the ranked lists.
        seed: of the attacks' random numbers, the same for every view.

    Raises:
        InputError: no model, or no query.
    """

    def __init__(
        self,
        models: Mapping[str, Embed],
        query: ImageSet,
        gallery: ImageSet,
        *,
        answers: int = 10,
        seed: int = 0,
    ) -> None:
        require(bool(models), "the explorer needs at least one model: train one first")
        require(len(query) > 0, "the explorer needs at least one query image")
        self.models, self.query, self.gallery = models, query, gallery
        self.answers, self.seed = answers, seed
        self.choice = Choice(next(iter(models)))
        self._subject = lru_cache(maxsize=None)(
            lambda name: Subject.of(models[name], query, gallery)
        )
        self._look = lru_cache(maxsize=REMEMBERED)(self._compute)

    def choose(self, **changes: Any) -> None:
        """Change the choice; nothing is computed yet.

        Raises:
            InputError: no such field, model, attack or query, or a number out of range. The
                choice then stays as it was.
        """
        known = vars(self.choice)
        for name in changes:
            require(name in known, f"the explorer has no {name!r}: choose {', '.join(known)}")
        choice, last = replace(self.choice, **changes), len(self.query) - 1
        for name, options in (("model", self.models), ("attack", offered())):
            value = getattr(choice, name)
            require(value in options, f"unknown {name} {value!r}: choose {', '.join(options)}")
        for name, low, high in (("query", 0, last), ("eps", 0, 255), ("steps", 1, 1000)):
            value = getattr(choice, name)
            require(low <= value <= high, f"{name} is {value}: give {low} to {high}")
        self.choice = choice

    @property
    def view(self) -> View:
        """What the current choice looks like."""
        return self._look(self.choice)

    def figure(self) -> Figure:
        """The view as a figure: image, perturbation, attacked image, both ranked lists."""
        view, choice = self.view, self.choice
        gain = max(1, 127 // max(1, int(view.perturbation.abs().max())))
        amplified = (128 + gain * view.perturbation).clamp(0, 255)
        titles = {
            "image": view.image,
            "change": amplified.to(torch.uint8),
            "attacked": view.attacked,
        }
        return attack_card(
            f"{choice.attack} on {choice.model}\neps {choice.eps}/255, {choice.steps} steps\n"
            f"change shown ×{gain}\n"
            f"average precision {view.ap_before:.0f} % → {view.ap_after:.0f} %",
            {title: pictures(image)[0] for title, image in titles.items()},
            [
                self._answers("before", view.image, view.before),
                self._answers("after", view.attacked, view.after),
            ],
        )

    def png(self) -> bytes:
        """The figure as a PNG file."""
        stream = BytesIO()
        self.figure().savefig(stream, format="png", dpi=110, metadata={"Software": None})
        return stream.getvalue()

    def _answers(self, label: str, image: Tensor, found: RankedList) -> Answers:
        gallery = pictures(self.gallery.images[found.index[0]])
        return Answers(label, pictures(image)[0], gallery, found.right[0].numpy())

    def _compute(self, choice: Choice) -> View:
        subject, row = self._subject(choice.model), choice.query
        budget = Budget(eps=choice.eps / 255, step=choice.step / 255, steps=choice.steps)
        plan = Plan(budget=budget, seed=self.seed)
        subject = subject.at(torch.tensor([row]))
        attacked, _ = attack_images(choice.attack, subject, plan)
        before, gallery = subject.attacked, subject.gallery
        after = replace(before, embeddings=embed(subject.embed, attacked))
        return View(
            self.query.images[row : row + 1],
            attacked,
            ranked_list(before, gallery, self.answers),
            ranked_list(after, gallery, self.answers),
            _average_precision(before, gallery),
            _average_precision(after, gallery),
        )


def _average_precision(query: Embedded, gallery: Embedded) -> float:
    try:
        return rank(query, gallery).summary()["mAP"]
    except InputError:  # no right answer: worth seeing in the list, and no reason to stop
        return nan


def panel(explorer: Explorer) -> "VBox":
    """Widgets that set the explorer's choice, above a picture that follows it.

    The picture is a PNG in an `Image` widget, which works alike in JupyterLab, in Voilà and in an
    exported notebook [ours: no canvas extension and no captured output to lose].
    """
    from ipywidgets import Dropdown, HBox, Image, IntSlider, VBox

    now, late = explorer.choice, {"continuous_update": False}
    controls = {
        "model": Dropdown(options=list(explorer.models), value=now.model),
        "attack": Dropdown(options=offered(), value=now.attack),
        "query": IntSlider(now.query, 0, len(explorer.query) - 1, **late),
        "eps": IntSlider(now.eps, 0, max(now.eps, LARGEST["eps"]), **late),
        "steps": IntSlider(now.steps, 1, max(now.steps, LARGEST["steps"]), **late),
    }
    picture = Image(value=explorer.png(), format="png")

    def follow(_change: Any = None) -> None:
        explorer.choose(**{name: control.value for name, control in controls.items()})
        picture.value = explorer.png()

    for name, control in controls.items():
        control.description = "eps / 255" if name == "eps" else name
        control.observe(follow, names="value")
    return VBox([HBox(list(controls.values())[:2]), HBox(list(controls.values())[2:]), picture])
