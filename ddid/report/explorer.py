"""The attack explorer: one query, one attack, and what becomes of its ranked list.

`Explorer` is a plain object that any program can drive; `ddid.report.panel` puts widgets on it, and
`Explorer.figure` is the same view where nobody can click.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zlib import crc32

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from ddid.attack import Budget, attacks
from ddid.data.decoding import load_images
from ddid.data.images import ImageSet
from ddid.errors import InputError, require
from ddid.metric.distance import Embed
from ddid.metric.ranking import Embedded, rank
from ddid.model import embed as embed_all
from ddid.report.figures.ranking import Answers, attack_card
from ddid.report.figures.style import pictures
from ddid.report.subject import Subject
from ddid.report.trace import Trace, View

REMEMBERED = 64  # attacks kept: going back to an earlier choice costs nothing
STRANGER = torch.tensor([-1])  # identity and camera of a picture of one's own


@dataclass(frozen=True)
class Choice:
    """What a visitor chooses."""

    model: str
    other: str = ""  # a second model, to see beside the first; "": none
    attack: str = "fna"
    side: str = "query"  # what is attacked: the query, or the gallery's images of its identity
    query: int = 0  # row of the query set; the one after the last is a picture of one's own
    eps: int = 8  # largest change of a pixel, in 255ths
    steps: int = 15
    shown: int = -1  # step of the attack that is shown; -1: the last


class Explorer:
    """The current choice among models, attacks and queries, and its view. Attacks are computed when
    they are first looked at, and remembered. `models` maps names to any callables images →
    embeddings, `answers` is the length of the ranked lists."""

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
        self.own: Tensor | None = None  # a visitor's picture, uint8 (1, 3, H, W)
        self.choice = Choice(next(iter(models)))
        self._known = lru_cache(None)(lambda name: Subject.of(models[name], query, gallery, name))
        self._trace = lru_cache(REMEMBERED)(self._attack)

    @property
    def offered(self) -> dict[str, str]:
        """Attacks that work on one query, as of now: name → what it is in a line."""
        lines = {}
        for name, entry in attacks().items():
            if not entry.whole and len(self.models) > entry.surrogate:
                title, card = (entry.craft.__doc__ or "").splitlines()[0], entry.card
                lines[name] = f"{name}: {title} {card.source}; guides: {card.guides}"
        return lines

    def choose(self, **changes: Any) -> None:
        """Change the choice, or stop with one sentence and leave it; nothing is computed yet."""
        known, last = vars(self.choice), len(self.query) - (self.own is None)
        for name in changes:
            require(name in known, f"the explorer has no {name!r}: choose {', '.join(known)}")
        choice = replace(self.choice, **changes)
        names = {"model": list(self.models), "other": ["", *self.models]}
        names |= {"attack": list(self.offered), "side": ["query", "gallery"]}
        for name, options in names.items():
            value = getattr(choice, name)
            require(value in options, f"unknown {name} {value!r}: choose {', '.join(options)}")
        ranges = {"query": (0, last), "eps": (0, 255), "steps": (1, 1000), "shown": (-1, 9999)}
        for name, (low, high) in ranges.items():
            value = getattr(choice, name)
            fits = type(value) is int and low <= value <= high
            require(fits, f"{name} is {value!r}: give a whole number, {low} to {high}")
        self.choice = choice

    def upload(self, name: str, content: bytes) -> None:
        """Take a picture (JPEG or PNG) of one's own as the query, of a person nobody knows."""
        height, width = self.query.images.shape[2:]
        with TemporaryDirectory() as folder:
            path = Path(folder, "picture")
            path.write_bytes(content)
            try:
                self.own = load_images([str(path)], (height, width))
            except InputError as error:
                raise InputError(f"{name} is no JPEG or PNG of at most 16 megapixels") from error
        self._trace.cache_clear()
        self.choose(query=len(self.query), side="query")

    @property
    def views(self) -> dict[str, View]:
        """What the current choice looks like, for each chosen model."""
        names = dict.fromkeys([self.choice.model, self.choice.other or self.choice.model])
        return {name: self._view(name) for name in names}

    @property
    def view(self) -> View:
        """The first of them."""
        return self._view(self.choice.model)

    def find(self, camera: int | None = None) -> list[tuple[int, float]]:
        """Queries (of one camera) and their clean average precision under the chosen model, in
        percent, the hardest first; those without a right answer are left out."""
        subject = self._known(self.choice.model)
        found = rank(subject.query, subject.gallery)
        wanted = found.valid if camera is None else found.valid & (self.query.camids == camera)
        order = [row for row in found.ap.argsort(stable=True).tolist() if wanted[row]]
        return [(row, 100 * float(found.ap[row])) for row in order]

    def lists(self) -> pd.DataFrame:
        """The ranked lists as a table: a row for each model, list and rank."""
        parts = {
            (name, when): answers
            for name, view in self.views.items()
            for when, (_, answers) in view.lists(self.answers).items()
        }
        return pd.concat(parts, names=["model", "list"]).reset_index(["model", "list"])

    def steps(self) -> pd.DataFrame:
        """Scores at every step of the attack, for each chosen model."""
        parts = [view.trace.scores.assign(model=name) for name, view in self.views.items()]
        return pd.concat(parts).reset_index()

    def figure(self) -> Figure:
        """The view as a figure: image, change, attacked image, and the ranked lists."""
        choice, lists = self.choice, []
        known = choice.query < len(self.query)
        shown: dict[str, np.ndarray] = {}
        bounded = attacks()[choice.attack].bounded
        spent = f"eps {choice.eps}/255, {choice.steps} steps" if bounded else "a budget of its own"
        text = f"{choice.attack} on the {choice.side}\n{spent}\n"
        for name, view in self.views.items():
            course = " → ".join(f"{score.ap:.0f} %" for score in view.scores)
            alone = isnan(view.scores[0].ap)
            text += f"{name}: {'no right answer is known' if alone else f'AP {course}'}\n"
            (_, clean), *others = list(view.pictures.items())[:3]
            model = name.replace("@", "\n@")  # a picture is narrow
            shown |= {"clean": clean} | {f"{title}\n{model}": image for title, image in others}
            for when, (asked, found) in view.lists(self.answers).items():
                notes = [f"{a.similarity:.2f} c{a.camera}" for a in found.itertuples()]
                images = pictures(self.gallery.images[found["row"].tolist()])
                right = found["right"].to_numpy()
                lists.append(Answers(f"{name}\n{when}", asked, images, right, notes, known))
        return attack_card(text, shown, lists)

    def _view(self, name: str) -> View:
        trace = self._trace(replace(self.choice, model=name, other="", shown=-1))
        last, shown = len(trace.path) - 1, self.choice.shown
        return View(trace, last if shown < 0 else min(shown, last))

    def _attack(self, choice: Choice) -> Trace:
        subject = self._subject(choice.model, choice.query)
        entry, budget = attacks()[choice.attack], Budget(eps=choice.eps / 255, steps=choice.steps)
        others = [name for name in self.models if name != choice.model] if entry.surrogate else []
        rival = self._subject(others[0], choice.query) if others else None
        seed = crc32(f"{choice.attack} {self.seed}".encode())
        return Trace.of(entry, subject, rival, choice.side, budget, seed)

    def _subject(self, name: str, row: int) -> Subject:
        """A model with one query under attack; a picture of one's own joins the references only
        when it is the one that is attacked."""
        subject = self._known(name)
        if row == len(self.query) and self.own is not None:
            own = torch.cat([subject.query.embeddings, embed_all(subject.embed, self.own)])
            pids, camids = (torch.cat([x, STRANGER]) for x in (self.query.pids, self.query.camids))
            images = torch.cat([subject.query_images, self.own])
            subject = replace(subject, query=Embedded(own, pids, camids), query_images=images)
        return replace(subject, rows=torch.tensor([row]))
