"""`ddid audit` on anybody's model and data: exit status, report, one sentence for bad input."""

import json
import re
import textwrap

import pandas as pd
import pytest
from PIL import Image

import ddid
from ddid.__main__ import main
from ddid.data.manifest import write_manifest
from ddid.files import lock
from ddid.report.subject import load_factory

FACTORIES = """
    import torch
    from torch import nn

    def honest(weights=""):
        torch.manual_seed(0)
        convolution = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.GELU(), nn.Flatten())
        net = nn.Sequential(convolution, nn.Linear(16 * 7 * 3, 24)).eval()
        if weights:
            net.load_state_dict(torch.load(weights, weights_only=True))
        return net

    def hidden():
        net = honest()
        return lambda images: net(images.detach())

    def constant():
        net = honest()
        return lambda images: net(0 * images)

    def training():
        return honest().train()

    def crashing():
        net = honest()
        return lambda images: net(images) / (len(images) < 5)[0]

    def nothing():
        return None

    seven = 7
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, query, gallery):
    """A folder with a package of factories and two CSV manifests of the same pictures."""
    root = tmp_path_factory.mktemp("stranger")
    (root / "strangers.py").write_text(textwrap.dedent(FACTORIES))
    rows = []
    for split, images in (("query", query), ("gallery", gallery)):
        for index, pixels in enumerate(images.images):
            path = root / f"{split}{index}.png"
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
            labels = {"pid": int(images.pids[index]), "camid": int(images.camids[index])}
            rows.append({"path": str(path), "split": split, "origin": "real", **labels})
    write_manifest(pd.DataFrame(rows), root / "manifest.csv")
    write_manifest(pd.DataFrame(rows).drop(columns="camid"), root / "no_cameras.csv")
    write_manifest(pd.DataFrame(rows).assign(split="train"), root / "no_test.csv")
    return root


def run(folder, monkeypatch, factory, *options, data="manifest.csv"):
    monkeypatch.chdir(folder)
    size = ["--size", "16", "8", "--steps", "4"]
    where = ["--data", data, "--out", f"out_{factory}"]
    return main(["audit", "--model", f"strangers:{factory}", *where, *size, *options])


def audit_of(folder, factory):
    models = folder / f"out_{factory}" / "04_robustness_report" / "models"
    return models / f"strangers:{factory}" / "audit.json"


@pytest.mark.slow
def test_an_honest_model_ends_with_status_0_and_a_report(folder, monkeypatch, capsys):
    assert run(folder, monkeypatch, "honest") == 0
    printed = capsys.readouterr().out
    assert "no flag" in printed
    assert re.search(r"^worst +\d", printed, re.MULTILINE)
    report = json.loads(audit_of(folder, "honest").read_text())
    assert report["flags"] == []
    budget = report["plan"]["budget"]
    assert budget["step"] * budget["steps"] >= budget["eps"], "every level is in reach"
    assert report["results"]["worst"]["mAP"] < report["results"]["clean"]["mAP"]
    page = (folder / "out_honest" / "audit.html").read_text()
    assert "<title>Audit of strangers:honest</title>" in page
    assert page.count("data:image/png") >= 2
    assert "open_run" not in page, "no code"
    assert "<script" not in page, "readable without a network"


@pytest.mark.slow
def test_python_and_the_command_line_say_the_same(folder, monkeypatch, query, gallery):
    assert run(folder, monkeypatch, "honest") == 0
    told = json.loads(audit_of(folder, "honest").read_text())
    model = load_factory("strangers:honest")
    found = ddid.audit(model, query, gallery, out=folder / "python", steps=4)
    scores = found.robustness.summary()
    assert {"clean", "square", "worst_gallery"} <= scores.keys()
    for name in scores.keys() - {"unseen"}:  # which is over more attacks there
        assert told["results"][name] == pytest.approx(scores[name], abs=1e-9)
    assert found.flags == told["flags"]
    for mine, theirs in zip(found.verdicts[:-1], told["verdicts"][:-1], strict=True):
        assert mine.evidence == pytest.approx(theirs["evidence"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("factory", ["hidden", "constant"])
def test_a_dishonest_model_ends_with_status_1_and_its_flags(folder, monkeypatch, capsys, factory):
    assert run(folder, monkeypatch, factory) == 1
    flags = json.loads(audit_of(folder, factory).read_text())["flags"]
    assert "gradients" in flags
    assert "FLAG" in capsys.readouterr().out


@pytest.mark.slow
def test_data_without_cameras_and_a_share_of_the_queries_will_do(folder, monkeypatch):
    options = ("--queries", "8", "--surrogate", "strangers:honest")
    assert run(folder, monkeypatch, "honest", *options, data="no_cameras.csv") in (0, 1)
    plan = json.loads(audit_of(folder, "honest").read_text())["plan"]
    assert plan["budget"]["steps"] == 4


def test_a_folder_in_use_is_left_as_it_is(folder, monkeypatch, capsys):
    listed = folder / "out_honest" / "01_bias_analysis" / "manifest.csv"
    listed.parent.mkdir(parents=True, exist_ok=True)
    listed.write_text("another's")
    with lock(folder / "out_honest"):
        assert run(folder, monkeypatch, "honest") == 2
    assert "is in use by" in capsys.readouterr().err
    assert listed.read_text() == "another's"
    listed.unlink()


@pytest.mark.parametrize(
    ("factory", "options", "sentence"),
    [
        ("training", (), "training mode"),
        ("nothing", (), "want a callable"),
        ("seven", (), "cannot be used, called without weights"),
        ("unheard_of", (), "cannot be used"),
        (
            "honest",
            ("--model", "stranger:honest"),
            r"stranger:honest cannot be imported: write my_",
        ),
        ("honest", ("--data", "no_test.csv"), "no query images, only train"),
        ("honest", ("--weights", "gone.pt"), "gone.pt"),
        ("crashing", (), "fails on a batch|stopped"),
        ("honest", ("--data", "gone.csv"), "gone.csv"),
        ("honest", ("--eps", "300"), "eps"),
        ("honest", ("--eps", "0.5"), "eps is 0.5/255"),
        ("honest", ("--eps", "0"), "eps is 0"),
        ("honest", ("--size", "-1", "8"), "image_height"),
        ("honest", ("--size", "0", "8"), "image size is"),
        ("honest", ("--model", "nocolon"), "package.module:factory"),
    ],
)
def test_what_cannot_run_ends_with_status_2_and_one_sentence(
    folder, monkeypatch, capsys, factory, options, sentence
):
    assert run(folder, monkeypatch, factory, *options) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("ddid: ")
    assert re.search(sentence, complaint), complaint
