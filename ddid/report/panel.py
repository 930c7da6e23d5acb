"""The explorer's page: widgets that set the choice, and the view as HTML that wraps on a phone."""

import time
from base64 import b64encode
from collections.abc import Callable
from html import escape
from io import BytesIO
from math import isnan
from random import sample
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
from matplotlib.colors import to_hex
from PIL import Image

from ddid.errors import InputError
from ddid.report.explorer import Explorer
from ddid.report.figures.style import NEUTRAL, RIGHT, WRONG, pictures
from ddid.report.subject import evenly
from ddid.report.trace import View

THUMBNAILS = 12
KINDS = EVERY, _, RANDOM = "hard to easy", "the hardest", "at random"  # of queries to pick from
MOST = {"eps": 32, "steps": 50}  # of the sliders; larger attacks are no longer subtle
LABELS = {  # what the controls set: label, help
    "model": ("model", "the model that is attacked"),
    "other": ("beside it", "a second model, under the same attack"),
    "attack": ("attack", "how the image is changed; the line below says what it does"),
    "side": ("side", "attack the query, or the gallery's images of its identity"),
    "query": ("query", "row of the query set; see also the thumbnails"),
    "eps": ("eps / 255", "largest change of a pixel, in 255ths of the range"),
    "steps": ("steps", "how often the attack follows its gradient"),
    "shown": ("step shown", "go back through the attack: 0 is the clean image"),
}
STYLE = """<style>
.ddid{font:13px/1.4 system-ui,sans-serif;display:flex;flex-wrap:wrap;gap:1.5em}
.ddid section{flex:1 1 20em;min-width:0} .ddid h3,.ddid p{margin:.4em 0}
.ddid-row{display:flex;flex-wrap:wrap;gap:6px} .ddid figure{margin:0;width:80px;font-size:10.5px}
.ddid img{width:100%;box-sizing:border-box;image-rendering:pixelated;display:block}
.ddid svg{width:100%;max-width:26em;height:60px}
</style>"""
WRAP = {"flex_flow": "row wrap", "width": "100%"}


class Panel:
    """Controls, thumbnails to pick a query from, and the view, which follows every choice. `box`
    holds all widgets, `controls` those that set the choice. The view is plain HTML, which works
    alike in JupyterLab, in Voilà and on a phone."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.controls = explorer, _controls(explorer)
        self.status, self.view, self.help = (w.HTML(layout={"width": "98%"}) for _ in range(3))
        for name, control in self.controls.items():
            follow = self._look if name == "shown" else self._attack
            control.observe(self._attempted(follow), names="value")
        seen = sorted(set(explorer.query.camids.tolist()) - {-1})
        cameras = [("all cameras", None), *((f"camera {camera}", camera) for camera in seen)]
        self.camera = w.Dropdown(options=cameras, description="taken by")
        self.kind, self.shelf = w.Dropdown(options=KINDS, description="shown"), w.Box(layout=WRAP)
        shelf = w.VBox([w.Box([self.camera, self.kind], layout=WRAP), self.shelf])
        self.picker = w.Accordion([shelf], titles=["Pick a query"], selected_index=None)
        for part in (self.controls["model"], self.camera, self.kind, self.picker):
            part.observe(self._attempted(self._fill), names=["value", "selected_index"])
        settings = w.Box([*self.controls.values()], layout=WRAP)
        above = [settings, self.help, self._tools(), self.picker]
        self.box = w.VBox([*above, self.status, self.view])
        self._attempted(self._attack)()

    def _attempted(self, work: Callable[[], None]) -> Callable[..., None]:
        """Do something slow: say so before, how long it took after, or in words what failed."""

        def attempt(_change: Any = None) -> None:
            start, self.status.value = time.perf_counter(), "<b role='status'>computing …</b>"
            try:
                work()
            except Exception as error:  # a visitor sees no traceback, so the page must tell
                kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
                message = f"<b role='alert' style='color:#b00020'>{escape(kind + str(error))}</b>"
            else:
                message = f"<span role='status'>done in {time.perf_counter() - start:.1f} s</span>"
            self.status.value = message

        return attempt

    def _attack(self) -> None:
        """Follow the controls and show the attack's last step."""
        values = {name: control.value for name, control in self.controls.items()}
        self.explorer.choose(**values | {"shown": -1})
        last = max(len(view.trace.path) for view in self.explorer.views.values()) - 1
        self.explorer.choose(shown=last)
        self.controls["shown"].max = self.controls["shown"].value = last
        self._draw()

    def _look(self) -> None:
        """Show another step, if a visitor chose it."""
        if self.controls["shown"].value != self.explorer.choice.shown:
            self.explorer.choose(shown=self.controls["shown"].value)
            self._draw()

    def _draw(self) -> None:
        self.help.value = escape(self.explorer.offered[self.explorer.choice.attack])
        parts = [_section(*named, self.explorer) for named in self.explorer.views.items()]
        self.view.value = f"{STYLE}<div class='ddid'>{''.join(parts)}</div>"

    def _fill(self) -> None:
        """Put queries of the wanted camera and kind on the open shelf, the hardest first."""
        if self.picker.selected_index is None:
            return
        found = self.explorer.find(self.camera.value)
        if self.kind.value == RANDOM:
            found = sample(found, len(found))
        elif self.kind.value == EVERY:
            found = [found[k] for k in evenly(len(found), THUMBNAILS)]
        self.shelf.children = [self._thumbnail(*one) for one in found[:THUMBNAILS]]

    def _thumbnail(self, row: int, ap: float) -> w.VBox:
        pick = w.Button(description=f"{row}: {ap:.0f} %", layout={"width": "84px"})
        pick.tooltip = f"query {row}, clean average precision {ap:.0f} %"
        pick.on_click(lambda _button: self.controls["query"].set_trait("value", row))
        image = _image(pictures(self.explorer.query.images[[row]])[0], f"query {row}", "width:84px")
        return w.VBox([w.HTML(image), pick])

    def _tools(self) -> w.Box:
        upload = w.FileUpload(accept=".png,.jpg,.jpeg", description="your picture")
        save, links = w.Button(description="save view", icon="download"), w.HTML()

        def take() -> None:
            for file in upload.value:
                self.controls["side"].value = "query"  # an attack of its own, so before
                self.explorer.upload(file["name"], bytes(file["content"]))
                query = self.controls["query"]
                query.max = query.value = self.explorer.choice.query
                self._attack()

        upload.observe(self._attempted(take), names="value")
        save.on_click(self._attempted(lambda: links.set_trait("value", _links(self.explorer))))
        return w.Box([upload, save, links], layout=WRAP)


def _controls(explorer: Explorer) -> dict[str, Any]:
    now, models = explorer.choice, list(explorer.models)
    attacks = [(line.partition(".")[0], name) for name, line in explorer.offered.items()]
    options = {"model": models, "other": [("(nothing)", ""), *zip(models, models, strict=True)]}
    options |= {"attack": attacks, "side": ["query", "gallery"]}
    ranges = {"query": (0, len(explorer.query) - 1), "shown": (0, now.steps)}
    ranges |= {"eps": (0, MOST["eps"]), "steps": (1, MOST["steps"])}
    controls: dict[str, Any] = {}
    for name, (label, tooltip) in LABELS.items():
        value = getattr(now, name)
        if name in options:
            control = w.Dropdown(options=options[name], value=value)
        else:
            low, high = ranges[name]
            value, high = max(low, value), max(high, value)
            control = w.IntSlider(value, low, high, continuous_update=False)
        control.description, control.tooltip = label, tooltip
        control.layout = {"width": "min(100%, 320px)"}
        controls[name] = control
    return controls


def _section(name: str, view: View, explorer: Explorer) -> str:
    """One model: scores, pictures, course of the attack and both lists."""
    clean, now = view.scores
    ranks = (
        f"average precision <b>{clean.ap:.1f} % → {now.ap:.1f} %</b>; first right answer at rank "
        f"{clean.first_rank:.0f} → {now.first_rank:.0f}"
    )
    ranks = "no right answer is known" if isnan(clean.ap) else ranks
    near = f"similarity to its identity {clean.similarity:.2f} → {now.similarity:.2f}"
    shown = "".join(_figure(image, title) for title, image in view.pictures.items())
    lists = "".join(
        f"<p><b>{when}</b></p><div class='ddid-row'>{_tiles(answers, explorer)}</div>"
        for when, (_, answers) in view.lists(explorer.answers).items()
    )
    return (
        f"<section><h3>{escape(name)}</h3><p>{ranks}; {near}</p>"
        f"<div class='ddid-row'>{shown}</div>{_course(view)}{lists}</section>"
    )


def _tiles(answers: pd.DataFrame, explorer: Explorer) -> str:
    """Gallery images with what is known of them; none is wrong to a picture of a stranger."""
    stranger = explorer.choice.query == len(explorer.query)
    images = pictures(explorer.gallery.images[answers["row"].tolist()])
    tiles = []
    for image, one in zip(images, answers.itertuples(), strict=True):
        sign, color, word = ("✓", RIGHT, "right") if one.right else ("✗", WRONG, "wrong")
        sign, color, word = ("", NEUTRAL, "unknown") if stranger else (sign, color, word)
        text = f"<b>{one.rank} {sign}</b><br>{one.similarity:.2f}, cam {one.camera}"
        says = f"rank {one.rank}, {word}, similarity {one.similarity:.2f}"
        tiles.append(_figure(image, text, says, f"border:3px solid {to_hex(color)}"))
    return "".join(tiles)


def _figure(image: np.ndarray, text: str, says: str = "", style: str = "") -> str:
    shown = _image(image, says or text, style)
    return f"<figure>{shown}<figcaption>{text}</figcaption></figure>"


def _image(image: np.ndarray, says: str, style: str = "") -> str:
    return f"<img src='{_data('image/png', _png(image))}' alt='{escape(says)}' style='{style}'>"


def _course(view: View) -> str:
    """Average precision over the steps as a line, the shown step as a dot."""
    ap = view.trace.scores["ap"].fillna(0)
    points = [(100 * i / max(1, len(ap) - 1), 50 - value / 2) for i, value in enumerate(ap)]
    line, (x, y) = " ".join(f"{x:.1f},{y:.1f}" for x, y in points), points[view.step]
    return (
        "<svg viewBox='-3 -3 106 56' role='img' aria-label='average precision by step'>"
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='2'/><g fill='none'><path d='M0 0V50H100' "
        f"stroke='#bbb'/><polyline points='{line}' stroke='#0173b2'/></g></svg>"
        f"<p>average precision by step (0 to 100 %), step {view.step} of {len(ap) - 1}</p>"
    )


def _links(explorer: Explorer) -> str:
    """Files to download: the view, the attacked image, both tables; and the settings to copy."""
    stream = BytesIO()
    explorer.figure().savefig(stream, format="png", dpi=150, bbox_inches="tight")
    files = {
        "view.png": ("image/png", stream.getvalue()),
        "attacked.png": ("image/png", _png(explorer.view.pictures["attacked"])),
        "lists.csv": ("text/csv", explorer.lists().to_csv(index=False).encode()),
        "steps.csv": ("text/csv", explorer.steps().to_csv(index=False).encode()),
    }
    links = [f"<a download='{n}' href='{_data(*file)}'>{n}</a>" for n, file in files.items()]
    settings = ", ".join(f"{name}={value!r}" for name, value in vars(explorer.choice).items())
    return f"{' · '.join(links)}<br><code>explorer.choose({escape(settings)})</code>"


def _png(image: np.ndarray) -> bytes:
    """PNG of an image, uint8 (H, W, 3)."""
    stream = BytesIO()
    Image.fromarray(image).save(stream, format="PNG")
    return stream.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
