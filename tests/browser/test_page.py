"""The explorer as its users meet it: a page without code, and notebooks in JupyterLab."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from urllib.request import urlopen

import pandas as pd
import pytest
import torch
from PIL import Image

from ddid.data import read_data
from ddid.data.manifest import write_manifest
from ddid.files import write_json
from ddid.metric.ranking import rank
from ddid.model import ModelConfig, ReIDNet, save_model
from ddid.notebook import NOTEBOOKS, REPOSITORY, notebook_names
from ddid.report.panel import THUMBNAILS
from ddid.report.subject import Subject
from ddid.street.street import StreetConfig, write_street

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MODELS = ("none", "ddid")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.notebook,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium: install Debian's package chromium"),
]


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory):
    """What notebooks 01, 03 and 04 leave of a run, made in seconds: untrained models."""
    root = tmp_path_factory.mktemp("browser") / "run"
    street = StreetConfig(train_identities=4, test_identities=6, images=10)
    write_street(root / "street", street)
    data = read_data(root / "street")
    write_manifest(data.manifest, root / "01_bias_analysis" / "manifest.csv")
    query, gallery = data.images("query", "gallery", size=(64, 32))
    scored = []
    for number, name in enumerate(MODELS):
        torch.manual_seed(number)
        net = ReIDNet(ModelConfig(classes=4, height=64, width=32)).eval()
        save_model(net, root / "03_adversarial_meta_training" / "models" / name)
        subject = Subject.of(net, query, gallery)
        columns = {"query": subject.rows, "ap": 100 * rank(subject.query, subject.gallery).ap}
        scored.append(pd.DataFrame(columns).assign(attack="fna", domain="home", recipe=name))
    write_json(root / "04_robustness_report" / "parameters.json", {"on_validation": False})
    pd.concat(scored).to_csv(root / "04_robustness_report" / "queries.csv", index=False)
    settings = {"recipes": [*MODELS], "image_height": 64, "image_width": 32, "seed": 0}
    write_json(root / "03_adversarial_meta_training" / "parameters.json", settings)
    return root


@contextmanager
def serving(arguments, url, log):
    """A server of this machine, up before the block and down after it."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    with log.open("wb") as log:
        command = [sys.executable, *arguments]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(server, url)
            yield url
        finally:
            server.terminate()
            server.wait(120)


def _wait(server, url):
    for _ in range(800):
        assert server.poll() is None, "the server stopped"
        try:
            return urlopen(url, timeout=60).close()
        except OSError:
            time.sleep(0.25)
    raise AssertionError(f"{url} does not answer")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextmanager
def opened(chromium, url):
    """A page of 1280 px; what it complains of is collected in `complaints`, and must be nothing."""
    page, complaints = chromium.new_page(viewport={"width": 1280, "height": 900}), []
    page.set_default_timeout(120_000)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: line.type == "error" and complaints.append(line.text))
    page.route("https://cdn.jsdelivr.net/**", lambda route: route.fulfill(body=""))  # Voilà's icons
    page.goto(url)
    yield page
    page.close()
    assert complaints == []


def pick(page, label, option):
    page.get_by_label(label, exact=True).select_option(option)


def settled(page, seen):
    """The view once it is another one than `seen`."""
    page.wait_for_function("old => document.querySelector('.ddid')?.innerHTML !== old", arg=seen)
    page.get_by_text("done in").wait_for()
    return page.locator(".ddid").inner_html()


WATCH = """() => new MutationObserver(() => {
    window.busy ||= document.body.innerText.includes("computing …")
}).observe(document.body, {childList: true, subtree: true, characterData: true})"""
SHELF = """[...document.querySelectorAll("button")].filter(b => b.innerText.endsWith("%"))"""
MARK = f"{SHELF}.forEach(b => b.dataset.old = true)"
REFILLED = f"""count => {{
    const shelf = {SHELF}
    return shelf.length === count && shelf.every(b => !b.dataset.old)
}}"""


def refill(page, label, option, count):
    """Choose what is on the shelf, and wait until `count` other thumbnails stand there."""
    page.evaluate(MARK)
    pick(page, label, option)
    page.wait_for_function(REFILLED, arg=count)


def queries_by_camera(run_folder):
    return Counter(read_data(run_folder / "street").images("query", size=(8, 4)).camids.tolist())


def choices_change_the_picture(page, taken):
    """`taken`: how many queries each camera took."""
    views = [settled(page, None)]
    page.evaluate(WATCH)
    for label, option in (("beside it", MODELS[1]), ("side", "gallery"), ("side", "query")):
        pick(page, label, option)
        views.append(settled(page, views[-1]))
    assert views[1].count("<section>") == 2
    page.get_by_role("slider").last.focus()
    page.keyboard.press("Home")  # step 0: the clean image
    views.append(settled(page, views[-1]))
    assert "step 0 of" in views[-1]
    assert page.evaluate("window.busy"), "no busy sign"
    page.get_by_text("Pick a query").click()
    page.wait_for_function(REFILLED, arg=min(THUMBNAILS, taken.total()))
    camera, queries = min(taken.items())
    refill(page, "taken by", f"camera {camera}", queries)
    refill(page, "shown", "the hardest", queries)
    page.get_by_role("button", name="%").last.click()
    views.append(settled(page, views[-1]))
    assert len(set(views)) == len(views) - 1  # back at the query side the view is the same


def the_page_fits_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = page.evaluate("[...document.querySelectorAll('.ddid section')].map(s => s.offsetTop)")
    assert (tops[0] == tops[1]) == (width == 1280), "side by side where there is room, else below"


def the_view_can_be_saved(page):
    page.get_by_role("button", name="save view").click()
    for name in ("view.png", "attacked.png", "lists.csv", "steps.csv"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert download.value.path().stat().st_size > 100


def upload(page, file):
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="your picture").click()
    chooser.value.set_files(file)


def a_bad_upload_is_one_sentence_and_a_good_one_a_query(page, folder):
    (folder / "notes.png").write_text("no picture")
    upload(page, folder / "notes.png")
    alert = page.get_by_role("alert")
    alert.wait_for()
    assert alert.inner_text() == "notes.png is no JPEG or PNG of at most 16 megapixels"
    seen = page.locator(".ddid").inner_html()
    Image.new("RGB", (40, 80), "red").save(folder / "me.png")
    upload(page, folder / "me.png")
    assert "no right answer is known" in settled(page, seen)


def test_the_explorer_as_a_page(chromium, run_folder, tmp_path):
    """In one go, because opening the page is what takes long."""
    port = free_port()
    command = ["-m", "ddid", "explore", str(run_folder), f"--port={port}", "--no-browser"]
    log = tmp_path / "server.log"
    with serving(command, f"http://localhost:{port}/voila/static/voila.js", log):
        told = f"{run_folder}: http://localhost:{port}/, on this machine only"
        assert told in log.read_text()
        with opened(chromium, f"http://localhost:{port}") as page:
            choices_change_the_picture(page, queries_by_camera(run_folder))
            for width in (1280, 390):
                the_page_fits_the_screen(page, width)
                page.screenshot(path=tmp_path / f"{width}.png")
            the_view_can_be_saved(page)
            a_bad_upload_is_one_sentence_and_a_good_one_a_query(page, tmp_path)


@pytest.fixture(scope="session")
def lab(run_folder, tmp_path_factory):
    """JupyterLab on copies of the notebooks; the sixth reads the small run."""
    folder, port = tmp_path_factory.mktemp("lab"), free_port()
    changes = {'"runs/demo': f'"{run_folder}', '["none", "metric_at", "ddid"]': json.dumps(MODELS)}
    for name in notebook_names():
        notebook = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text(encoding="utf-8"))
        for cell in notebook["cells"] if name.startswith("06") else []:
            text = "".join(cell["source"])
            for old, new in changes.items():
                text = text.replace(old, new)
            cell["source"] = text
        (folder / f"{name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    settings = folder / ".settings" / "@jupyterlab" / "notebook-extension"
    settings.mkdir(parents=True)
    (settings / "tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}')
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token="]
    command = ["-m", "jupyterlab", *options, f"--ServerApp.root_dir={folder}"]
    command += [f"--LabApp.user_settings_dir={folder / '.settings'}"]
    with serving(command, f"http://localhost:{port}/api", run_folder / "lab.log") as url:
        yield url.removesuffix("/api")


def test_every_notebook_opens_in_jupyterlab_and_the_sixth_runs(chromium, lab):
    with opened(chromium, f"{lab}/lab") as page:
        for name in notebook_names():
            page.get_by_role("listitem", name=name).dblclick()
            page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first.wait_for()
            assert page.locator(".jp-Dialog").count() == 0
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        page.wait_for_selector(".ddid section")
        page.get_by_text("done in").wait_for()
        assert page.locator("[data-mime-type*=error]").count() == 0
