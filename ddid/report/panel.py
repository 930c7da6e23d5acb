"""The explorer's page: widgets that set the choice, and the view as HTML that wraps on a phone."""

import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from html import escape
from io import BytesIO
from math import isnan
from random import Random
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image
from torch import Tensor

from ddid.errors import InputError
from ddid.report.explorer import Explorer
from ddid.report.figures.style import NEUTRAL, RIGHT, WRONG, pictures
from ddid.report.trace import View

THUMBNAILS = 12
MOST = {"eps": 32, "steps": 50}  # of the sliders; larger attacks are no longer subtle
HELP = {
    "model": "the model that is attacked",
    "other": "a second model, under the same attack",
    "attack": "how the image is changed; the line below says what it does",
    "side": "attack the query, or the gallery's images of its identity",
    "query": "row of the query set; see also the thumbnails",
    "eps": "largest change of a pixel, in 255ths of the range",
    "steps": "how often the attack follows its gradient",
    "shown": "go back through the attack: 0 is the clean image",
}
STYLE = """<style>
.ddid{font:13px/1.4 system-ui,sans-serif;display:flex;flex-wrap:wrap;gap:1.5em}
.ddid section{flex:1 1 20em;min-width:0} .ddid h3,.ddid p{margin:.4em 0}
.ddid-row{display:flex;flex-wrap:wrap;gap:6px} .ddid figure{margin:0;width:70px;font-size:10.5px}
.ddid figure.large{width:88px} .ddid img,.ddid-thumb img{width:100%;box-sizing:border-box;
image-rendering:pixelated;display:block} .ddid figcaption{line-height:1.25}
.ddid svg{width:100%;max-width:26em;height:60px}
</style>"""


def panel(explorer: Explorer) -> w.VBox:
    """Controls, thumbnails to pick a query from, and the view, which follows every choice.

    The view is plain HTML in one widget, which works alike in JupyterLab, in Voilà and on a phone.
    """
    return Panel(explorer).box


class Panel:
    """The widgets of one explorer; `box` holds them all, `controls` those that set the choice."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer, self.quiet = explorer, False
        self.controls = _controls(explorer)
        self.status, self.view, self.help = (w.HTML(layout={"width": "98%"}) for _ in range(3))
        for name, control in self.controls.items():
            control.observe(self._shown if name == "shown" else self._changed, names="value")
        self.picker, self.tools = self._picker(), self._tools()
        top = [_wrapped(self.controls.values()), self.help, self.tools]
        self.box = w.VBox([*top, self.picker, self.status, self.view])
        self._attempt(self._draw)

    def choose(self, **changes: Any) -> None:
        """Set controls as a visitor would, all at once."""
        self._set(changes)
        self._changed()

    def _set(self, changes: dict[str, Any]) -> None:
        self.quiet = True
        for name, value in changes.items():
            control = self.controls[name]
            if hasattr(control, "max"):
                control.max = max(control.max, value)
            control.value = value
        self.quiet = False

    def _changed(self, _change: Any = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        self._follow(values | {"shown": -1})

    def _shown(self, change: Any) -> None:
        self._follow({"shown": change["new"]})

    def _follow(self, changes: dict[str, Any]) -> None:
        def work() -> None:
            self.explorer.choose(**changes)
            self._draw()

        if not self.quiet:
            self._attempt(work)

    def _attempt(self, work: Callable[[], Any]) -> None:
        """Do something slow: say so before, how long it took after, or in words what failed."""
        start, self.status.value = time.perf_counter(), "<b role='status'>computing …</b>"
        try:
            work()
        except Exception as error:  # a visitor sees no traceback, so the page must tell
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            message = f"<b role='alert' style='color:#b00020'>{escape(kind + str(error))}</b>"
        else:
            message = f"<span role='status'>done in {time.perf_counter() - start:.1f} s</span>"
        self.status.value = message

    def _draw(self) -> None:
        views, choice = self.explorer.views, self.explorer.choice
        self.help.value = escape(self.explorer.offered[choice.attack])
        last = max(len(view.trace.path) for view in views.values()) - 1
        self.controls["shown"].max = last
        self._set({"shown": last if choice.shown < 0 else min(choice.shown, last)})
        parts = [_section(name, view, self.explorer) for name, view in views.items()]
        self.view.value = f"{STYLE}<div class='ddid'>{''.join(parts)}</div>"

    def _tools(self) -> w.Box:
        upload = w.FileUpload(accept=".png,.jpg,.jpeg", description="your own picture")
        save, links = w.Button(description="save view", icon="download"), w.HTML()

        def take() -> None:
            for file in upload.value:
                self.explorer.upload(file["name"], bytes(file["content"]))
                self._set({"query": self.explorer.choice.query, "side": "query"})
                self._draw()

        def write() -> None:
            links.value = _links(self.explorer)

        upload.observe(lambda _change: self._attempt(take), names="value")
        save.on_click(lambda _button: self._attempt(write))
        return _wrapped([upload, save, links])

    def _picker(self) -> w.Accordion:
        cameras = sorted(set(self.explorer.query.camids.tolist()))
        camera = w.Dropdown(options=[("any", -1), *((str(c), c) for c in cameras)])
        camera.description = "camera"
        span = w.IntRangeSlider(value=(0, 100), min=0, max=100, description="clean AP")
        order = w.ToggleButtons(options=["hardest", "random"], description="show")
        shelf, draw = w.Box(layout={"flex_flow": "row wrap"}), Random(self.explorer.seed)

        def fill() -> None:
            found = self.explorer.find(camera.value, *span.value)
            if order.value == "random":
                found = draw.sample(found, min(THUMBNAILS, len(found)))
            shelf.children = [self._thumbnail(*one) for one in found[:THUMBNAILS]]

        for control in (camera, span, order):
            control.observe(lambda _change: self._attempt(fill), names="value")
        box = w.Accordion([w.VBox([_wrapped([camera, span, order]), shelf])], selected_index=None)
        box.set_title(0, "Pick a query")
        box.observe(lambda _change: self._attempt(fill), names="selected_index")
        return box

    def _thumbnail(self, row: int, ap: float) -> w.VBox:
        pick = w.Button(description=f"{row}: {ap:.0f} %", layout={"width": "84px"})
        pick.tooltip = f"query {row}, clean average precision {ap:.0f} %"
        pick.on_click(lambda _button: self.choose(query=row))
        source = _data("image/png", _png(self.explorer.query.images[row]))
        picture = w.HTML(f"<img src='{source}' alt='query {row}' style='width:84px'>")
        return w.VBox([picture, pick], layout={"margin": "4px"})


def _controls(explorer: Explorer) -> dict[str, Any]:
    now, late = explorer.choice, {"continuous_update": False}
    attacks = [(line.partition(".")[0], name) for name, line in explorer.offered.items()]
    last = len(explorer.query) - 1
    controls = {
        "model": w.Dropdown(options=list(explorer.models), value=now.model),
        "other": w.Dropdown(options=[("none", ""), *((m, m) for m in explorer.models)]),
        "attack": w.Dropdown(options=attacks, value=now.attack),
        "side": w.Dropdown(options=["query", "gallery"], value=now.side),
        "query": w.IntSlider(now.query, 0, max(now.query, last), **late),
        "eps": w.IntSlider(now.eps, 0, max(now.eps, MOST["eps"]), **late),
        "steps": w.IntSlider(now.steps, 1, max(now.steps, MOST["steps"]), **late),
        "shown": w.IntSlider(now.steps, 0, now.steps, **late),
    }
    controls["other"].value = now.other
    for name, control in controls.items():
        words = {"other": "beside it", "eps": "eps / 255", "shown": "step shown"}
        control.description, control.tooltip = words.get(name, name), HELP[name]
        control.layout = {"width": "min(100%, 320px)"}
    return controls


def _wrapped(widgets: Any) -> w.Box:
    return w.Box(list(widgets), layout={"flex_flow": "row wrap", "width": "100%"})


def _section(name: str, view: View, explorer: Explorer) -> str:
    """One model: scores, pictures, course of the attack, both lists, and where answers went."""
    clean, now = view.scores
    change, gain = view.amplified
    cards = {"clean": view.image, f"change ×{gain}": change, "attacked": view.attacked}
    images = {title: _figure(image[0], title, "large") for title, image in cards.items()}
    if view.heat is not None:
        colors = np.asarray(colormaps["inferno"](view.heat.numpy()))[..., :3]
        heat = 0.5 * pictures(view.attacked)[0] + 127 * colors
        images["heat"] = _figure(heat.astype(np.uint8), "what speaks for the identity", "large")
    aimed = explorer.query.pids == view.trace.aim
    if aimed.any():
        text = f"identity {view.trace.aim}, the farthest: FNA pulls there"
        images["aim"] = _figure(explorer.query.images[aimed][0], text, "large")
    moved = ", ".join(f"{before} → {after}" for before, after in view.moved[:12]) or "none"
    known = explorer.choice.query < len(explorer.query)
    lists = [
        f"<p><b>{when}</b></p><div class='ddid-row'>{''.join(_tiles(part, explorer, known))}</div>"
        for when, part in view.table(explorer.gallery).groupby("list", sort=False)
    ]
    ranks = (
        f"average precision <b>{clean.ap:.1f} % → {now.ap:.1f} %</b>; first right answer at rank "
        f"{clean.first_rank:.0f} → {now.first_rank:.0f}"
    )
    return (
        f"<section><h3>{escape(name)}</h3><p>"
        f"{'no right answer is known' if isnan(clean.ap) else ranks}; similarity to its identity "
        f"{clean.similarity:.2f} → {now.similarity:.2f}</p>"
        f"<div class='ddid-row'>{''.join(images.values())}</div>{_course(view)}{''.join(lists)}"
        f"<p>ranks of the right answers: {moved}</p></section>"
    )


def _tiles(answers: pd.DataFrame, explorer: Explorer, known: bool) -> list[str]:
    """Gallery images with what is known of them; none is wrong to a picture of a stranger."""
    tiles = []
    for one in answers.itertuples():
        image = explorer.gallery.images[int(one.row)]  # type: ignore[arg-type]
        sign, color, word = ("✓", RIGHT, "right") if one.right else ("✗", WRONG, "wrong")
        sign, color, word = (sign, color, word) if known else ("", NEUTRAL, "unknown")
        text = f"<b>{one.rank} {sign}</b><br>{one.similarity:.2f}, cam {one.camera}"
        says = f"rank {one.rank}, {word}, similarity {one.similarity:.2f}"
        frame = f"border:3px solid {to_hex(color)}"
        tiles.append(_figure(image, text, style=frame, alt=says))
    return tiles


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


def _figure(image: Any, text: str, kind: str = "", style: str = "", alt: str = "") -> str:
    source = _data("image/png", _png(image))
    return (
        f"<figure class='{kind}'><img src='{source}' alt='{escape(alt or text)}' "
        f"style='{style}'><figcaption>{text}</figcaption></figure>"
    )


def _links(explorer: Explorer) -> str:
    """Files to download: the view, the attacked image, both tables; and the settings to copy."""
    stream = BytesIO()
    explorer.figure().savefig(stream, format="png", dpi=150, bbox_inches="tight")
    files: Mapping[str, tuple[str, bytes]] = {
        "view.png": ("image/png", stream.getvalue()),
        "attacked.png": ("image/png", _png(explorer.view.attacked[0])),
        "lists.csv": ("text/csv", explorer.lists().to_csv(index=False).encode()),
        "steps.csv": ("text/csv", explorer.steps().to_csv(index=False).encode()),
    }
    links = [
        f"<a download='{name}' href='{_data(kind, content)}'>{name}</a>"
        for name, (kind, content) in files.items()
    ]
    settings = ", ".join(f"{name}={value!r}" for name, value in vars(explorer.choice).items())
    return f"{' · '.join(links)}<br><code>explorer.choose({escape(settings)})</code>"


def _png(image: Any) -> bytes:
    """PNG of an image, uint8: a tensor (3, H, W) or an array (H, W, 3)."""
    pixels = pictures(image[None])[0] if isinstance(image, Tensor) else image
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return stream.getvalue()


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{b64encode(content).decode()}"
