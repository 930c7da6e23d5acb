"""The studies' own notebooks at their smallest: what made a published table can still make it."""

import pytest

from ddid.files import read_json
from ddid.pipeline import run_notebooks
from ddid.profiles import plan

SMALLEST = {
    "effect_steps": 0,
    "generator_steps": 2,
    "drafts": 4,
    "oracle_images": 1,
    "gain_sets": ["translation", "photographs"],
    "sigma_starts": [1.5],
    "sigma_ends": [0.3],
    "solver_steps": [2],
    "camera_weights": [2.0],
    "identity_weights": [],
    "recipes": ["metric_at"],
    "train_steps": 2,
    "probe_images": 0,
    "rival_steps": 2,
    "rival_queries": 4,
}
CHAIN = [
    "01_bias_analysis",
    "generator",
    "choices",
    "gains",
    "03_adversarial_meta_training",
    "surrogate",
    "gallery_attack",
]


@pytest.mark.slow
@pytest.mark.notebook
def test_the_notebooks_of_the_studies_run(tmp_path):
    run_notebooks(plan(CHAIN, "smoke", {**SMALLEST, "out": str(tmp_path)}), tmp_path)
    found = {name: read_json(tmp_path / name / "metrics.json") for name in CHAIN}
    drawn = found["generator"]["results"]
    assert {"translation", "untrained", "paste", "photographs", "real"} <= drawn.keys()
    ways = {"as chosen", "sigma_max 1.5", "sigma_min 0.3", "steps 2", "camera_weight 2"}
    assert found["choices"]["results"].keys() == ways
    assert found["gains"]["results"].keys() == {"nothing", "translation", "photographs"}
    assert (tmp_path / "surrogate/model").is_dir()
    assert found["gallery_attack"]
