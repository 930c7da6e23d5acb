"""Hostile settings, studies and saved networks: accepted, or refused by one InputError.

`HOSTILE_EXAMPLES=20000 pytest tests/test_hostile.py` tries more than the few of every run.
"""

import json
import math
import os
import shutil

import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddid.attack import Budget
from ddid.balance.edm import Denoiser
from ddid.balance.gate import Limits
from ddid.balance.generator import GeneratorTraining
from ddid.balance.network import (
    Generator,
    GeneratorConfig,
    ReferenceUNet,
    load_generator,
    save_generator,
)
from ddid.balance.plan import Thresholds
from ddid.balance.sampling import Sampling
from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.training import TrainConfig
from ddid.model import ModelConfig, ReIDNet, load_model, save_model
from ddid.report.robustness import Plan
from ddid.study import STUDIES, cells_of, read_study
from ddid.training.checkpoint import load_checkpoint, save_checkpoint
from tests.refusal import told

MANY = int(os.environ.get("HOSTILE_EXAMPLES", "60"))


def many(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize="HOSTILE_EXAMPLES" not in os.environ,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


NUMBER = st.integers(-3, 300) | st.integers() | st.floats() | st.sampled_from([0.5, 1.5, 8 / 255])
ODD = st.none() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(-1, 2), max_size=2)
SMALL = st.sampled_from([-1, 0, 1, 2, 1.5, math.nan, 2**63, None, "x", "", True, [], [1], {}])
CONFIGS = [Budget, TrainConfig, GeneratorTraining, Limits, Sampling, Thresholds]
CONFIGS += [FNES, Meta, Plan, GeneratorConfig]


@pytest.mark.parametrize("kind", CONFIGS, ids=lambda kind: kind.__name__)
@many(MANY)
@given(data=st.data())
def test_any_numbers_as_settings(kind, data):
    base = kind((1, 2), (1,)) if kind is GeneratorConfig else kind()
    numbers = {n: v for n, v in vars(base).items() if type(v) in (int, float)}
    names = st.sampled_from(sorted(numbers))
    change = data.draw(st.dictionaries(names, NUMBER, max_size=3))
    made = told(lambda: kind(**vars(base) | change))
    assert made is None or type(made) is kind


@many(MANY)
@given(st.dictionaries(st.sampled_from(sorted(vars(Budget()))), NUMBER | ODD, max_size=3))
def test_anything_as_a_budget(change):
    budget = told(lambda: Budget(**change))
    assert budget is None or (0 <= budget.eps < math.inf and budget.steps >= 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network, a generator and a checkpoint, to be damaged."""
    folder = tmp_path_factory.mktemp("saved")
    save_model(ReIDNet(ModelConfig(2, height=32, width=16)), folder / "model")
    config = GeneratorConfig((1, 2), (1,), 8, 8, (32,))
    save_generator(
        Generator(Denoiser(ReferenceUNet(config), 0.5), config), folder / "generator", {}
    )
    modules = torch.nn.ModuleDict({"net": torch.nn.Linear(2, 2)})
    optimizer = torch.optim.AdamW(modules.parameters())
    (folder / "checkpoint").mkdir()
    save_checkpoint(folder / "checkpoint/checkpoint.safetensors", modules, optimizer, 3, "key")

    def checkpoint(where):
        return load_checkpoint(where / "checkpoint.safetensors", modules, optimizer)

    return folder, {"model": load_model, "generator": load_generator, "checkpoint": checkpoint}


KINDS = {"model": ReIDNet, "generator": Generator, "checkpoint": int}


def damaged(folder, what):
    target = folder / "damaged"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder / what, target)
    return target


@pytest.mark.parametrize("what", ["model", "generator", "checkpoint"])
@many(max(10, MANY // 10))
@given(data=st.data())
def test_any_damage_to_saved_networks(what, data, saved):
    folder, load = saved
    target = damaged(folder, what)
    for path in target.iterdir():
        content = bytearray(path.read_bytes())
        cut = data.draw(st.none() | st.integers(0, 400))
        for place in data.draw(st.lists(st.integers(0, 3000), max_size=4)):
            content[place % len(content)] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content[:cut])
    found = told(lambda: load[what](target))
    assert found is None or isinstance(found, KINDS[what])


@pytest.mark.parametrize("what", ["model", "generator"])
@many(max(10, MANY // 10))
@given(data=st.data())
def test_any_description_of_a_saved_network(what, data, saved):
    folder, load = saved
    target = damaged(folder, what)
    note = target / f"{what}.json"
    content = json.loads(note.read_text())
    for _ in range(data.draw(st.integers(1, 2))):
        where = data.draw(st.sampled_from([content, content.get("config")]))
        if isinstance(where, dict):
            where[data.draw(st.sampled_from([*where, "more"]))] = data.draw(SMALL)
    note.write_text(json.dumps(content))
    found = told(lambda: load[what](target))
    assert found is None or isinstance(found, KINDS[what])


@many(MANY)
@given(data=st.data())
def test_any_study(data, tmp_path_factory):
    content = yaml.safe_load((STUDIES / "tuning.yaml").read_text())
    content.pop("variants")
    names = st.sampled_from([*content, "more"])
    change = data.draw(st.dictionaries(names, SMALL | st.text(max_size=5), max_size=2))
    path = tmp_path_factory.getbasetemp() / "study.yaml"
    path.write_text(yaml.safe_dump(content | change))
    study = told(lambda: read_study(str(path)))
    if study is not None:
        name = data.draw(st.sampled_from(["seed", "recipes", "04.seed", "x"]) | st.text(max_size=3))
        wanted = data.draw(SMALL)
        cells = told(lambda: cells_of(study, {name: wanted}))
        for cell in cells or []:  # no run is labelled with what it is not made with
            seeds = {plan["seed"] for plan in cell.plans.values() if "seed" in plan}
            assert name == "04.seed" or "seed" not in cell.chosen or seeds == {cell.chosen["seed"]}
