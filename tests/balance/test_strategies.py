"""The study's ways to fill one plan: whatever its notebook writes can be trained on."""

import pytest
import torch
from PIL import Image

from ddid.balance.gate import IDENTITY, KEPT
from ddid.data import reopen
from ddid.data.manifest import write_manifest
from tests.cells import code_cells

SIZE = (16, 8)


@pytest.fixture
def written(real, manifest, plan, tmp_path):
    """The folder of the notebook `strategies`, executed here on five drafts, one of them bad."""
    paths = [tmp_path / f"{name}.png" for name in plan["name"]]
    for path, image in zip(paths, real.images.flip(-1), strict=False):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    verdicts = [KEPT, IDENTITY, KEPT, KEPT, KEPT]
    drafts = plan.assign(path=paths, attempt=0, split="train", origin="synthetic", verdict=verdicts)
    write_manifest(manifest, tmp_path / "01_bias_analysis/manifest.csv")
    write_manifest(drafts, tmp_path / "02_diffusion_resampling/drafts.csv")
    names = {}
    for source, _ in code_cells("strategies"):
        exec(source, names)
        names["out"] = str(tmp_path)
    return tmp_path / "strategies"


def test_every_filling_is_read_as_the_training_reads_it(written, real):
    found = {
        csv.stem: reopen(csv).images("train", size=SIZE) for csv in sorted(written.glob("*.csv"))
    }
    added = {name: len(images) - len(real) for name, images in found.items()}
    assert added == {"none": 0, "repeat": 5, "classical": 5, "ungated": 5, "gated": 4}
    for images in found.values():
        assert torch.equal(images.images[: len(real)], real.images)
    repeated = found["repeat"].take(torch.arange(len(real), len(real) + 5))
    for image, pid, camid in zip(repeated.images, repeated.pids, repeated.camids, strict=True):
        own = real.images[(real.pids == pid) & (real.camids == camid)]
        assert (own == image).flatten(1).all(1).any()
