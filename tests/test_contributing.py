"""A new defence, attack, backbone or data layout is one file: written into a copy of ddid."""

import os
import shutil
import subprocess
import sys

import pytest

import ddid.backbones
from ddid.errors import InputError
from ddid.notebook import REPOSITORY

RECIPE = '''"""Half the loss."""

from ddid.defense.losses import identity_terms
from ddid.defense.recipe import Recipe


def half(batch, clean, attacked):
    return {name: value / 2 for name, value in identity_terms(batch, clean, None).items()}


RECIPES = [Recipe("half", "nobody 2026", "Nothing is attacked.", craft=None, loss=half)]
'''

ATTACK = '''"""Darkness."""

from ddid.attack.registry import attack


@attack("nobody 2026", "none", "eps, no step", "the clean image")
def dark(scene):
    """Every pixel as dark as it may be."""
    return (scene.images - scene.budget.eps).clamp(0, 1)
'''

BACKBONE = '''"""A network with two stages."""

from torch import nn


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        first, second = nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.stages = nn.ModuleList([nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU()), second])

    def forward(self, images):
        for stage in self.stages:
            images = stage(images)
        return images


BACKBONES = {"small": lambda weights, size: Small()}
'''

LAYOUT = '''"""Files named PERSON-CAMERA-SPLIT.png."""

import pandas as pd

NAME = "dashes"


def recognises(root):
    return root.is_dir() and any(root.glob("*-*-train.png"))


def read(root):
    names = sorted(path.name for path in root.glob("*.png"))
    rows = [name.removesuffix(".png").split("-") for name in names]
    frame = pd.DataFrame(rows, columns=["pid", "camid", "split"]).astype({"pid": int, "camid": int})
    return frame.assign(path=names), []
'''

USE = {
    "defense/recipes/half.py": """
from ddid.defense.recipes import recipes
assert "half" in recipes() and "half+ema" not in recipes()
net = ddid.train("half", train, out="net", steps=1, identities=2, images_per_identity=2)
assert net(train.images[:2] / 255).isfinite().all()
""",
    "attack/dark.py": """
import torch
found = ddid.evaluate(lambda x: x.flatten(1), query, gallery, out="found", steps=1)
assert found.table()["mAP"]["worst"] <= found.table()["mAP"]["dark"]
""",
    "backbones/small.py": """
import torch
from ddid.model import load_model
from ddid.report.gradcam import similarity_maps
few = {"identities": 4, "images_per_identity": 2, "steps": 1}
ddid.train("ddid", train, out="net", backbone="small", **few)
net, images = load_model("net"), train.images[:2] / 255
assert net(images).shape == (2, 16)
assert similarity_maps(net, images, torch.ones(2, 16)).shape == (2, 32, 16)
""",
    "data/layouts/dashes.py": """
import pathlib
from PIL import Image
pathlib.Path("dashed").mkdir()
for pid in (1, 2):
    for camera in (1, 2):
        image = Image.new("RGB", (16, 32), (90 * pid, 90 * camera, 0))
        image.save(f"dashed/{pid}-{camera}-train.png")
data = ddid.read_data("dashed")
assert data.images("train", size=(32, 16)).pids.tolist() == [1, 1, 2, 2]
""",
}
DATA = """
import ddid
from ddid.street.street import StreetConfig, write_street
street = StreetConfig(train_identities=4, test_identities=4, height=32, width=16)
train, query, gallery = ddid.read_data(write_street("street", street)).images(size=(32, 16))
"""


def test_a_file_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import not_installed_anywhere\n")
    monkeypatch.setattr(ddid.backbones, "__path__", [*ddid.backbones.__path__, str(tmp_path)])
    with pytest.raises(
        InputError, match=r"ddid/backbones/broken\.py cannot be imported .ModuleNotFoundError"
    ):
        ddid.backbones.find_backbone("resnet-tiny")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "text"), zip(USE, (RECIPE, ATTACK, BACKBONE, LAYOUT), strict=True)
)
def test_one_file_is_enough(where, text, tmp_path):
    shutil.copytree(REPOSITORY / "ddid", tmp_path / "ddid")
    (tmp_path / "ddid" / where).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", DATA + USE[where]],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
