"""`import ddid`: light, documented, and its examples run."""

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ddid
from ddid import front
from ddid.balance import resampling
from ddid.balance.gate import Gate
from ddid.data.images import ImageSet
from ddid.defense.fnes import FNES
from ddid.defense.meta import Meta
from ddid.defense.recipes import find_recipe, tuned
from ddid.defense.training import TrainConfig
from ddid.errors import InputError
from tests.refusal import told

README = Path(__file__).parents[1].joinpath("README.md").read_text(encoding="utf-8")
MODULES = ["ddid", *(m.name for m in pkgutil.walk_packages(ddid.__path__, "ddid."))]
OFFERED = ["read_data", "balanced", "train", "evaluate", "audit", "explore"]


@pytest.fixture
def people():
    pids = torch.arange(1, 5).repeat_interleave(4)
    pixels = torch.randint(0, 256, (16, 3, 16, 16), dtype=torch.uint8)
    return ImageSet(pixels, pids, torch.arange(16) % 2, tuple(map(str, range(16))))


@pytest.mark.parametrize("name", [name for name in MODULES if "__main__" not in name])
def test_examples_in_docstrings_run(name, people, tmp_path):
    module = importlib.import_module(name)
    known = {"people": people, "query": people, "gallery": people, "folder": str(tmp_path)}
    known["model"] = lambda images: images.flatten(1)
    assert doctest.testmod(module, extraglobs=known).failed == 0


def test_importing_the_package_loads_nothing_heavy():
    heavy = ["torch", "diffusers", "matplotlib", "pandas", "transformers", "numpy"]
    text = f"import sys, ddid; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"\bddid\.\w+\.[\w.]+(?=[(`])", README))))
def test_a_name_on_the_page_is_there_at_once(name):
    text = f"import ddid; print({name})"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


@pytest.mark.parametrize("name", OFFERED)
def test_what_is_offered_is_documented(name):
    function = getattr(ddid, name)
    assert inspect.isfunction(function)
    assert len(inspect.getdoc(function).splitlines()) > 0
    assert name in ddid.__doc__ or name == "evaluate"


def test_no_module_takes_a_name_that_the_package_offers():
    folder = Path(ddid.__file__).parent
    assert not [n for n in OFFERED if (folder / n).exists() or (folder / f"{n}.py").exists()]


def test_arguments_in_the_wrong_place_are_named_and_not_printed(people, tmp_path):
    with pytest.raises(InputError, match=r"^train.recipe.str is ImageSet: Input should be"):
        ddid.train(people, "ddid", out=tmp_path)


def test_an_attack_by_transfer_is_given_its_surrogate(people, tmp_path):
    given = {"out": tmp_path, "attacks": ["transfer"], "steps": 1}
    with pytest.raises(InputError, match="surrogate"):
        ddid.evaluate(lambda x: x.flatten(1), people, people, **given)
    with torch.random.fork_rng():
        other = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(8)).eval()
    found = ddid.evaluate(lambda x: x.flatten(1), people, people, surrogate=other, **given)
    assert "transfer" in found.table().index


def test_a_model_whose_gradient_is_no_number_gets_no_score(people, tmp_path):
    def broken(images):
        return images.flatten(1) + (images.flatten(1) * 0).sqrt()  # of 0: an infinite slope

    with pytest.raises(InputError, match="gradient is no number"):
        ddid.evaluate(broken, people, people, out=tmp_path, attacks=["fna"], steps=1)


@pytest.fixture
def edge(monkeypatch):
    """The edge alone: what is behind it is tested elsewhere."""
    for work in ("train_recipe", "attack_and_rank", "audit_subject"):
        monkeypatch.setattr(front, work, mock.MagicMock())
    monkeypatch.setattr("ddid.report.panel.Panel", mock.MagicMock())
    for work in ("train_generator", "References", "train_judge", "Gate", "resample"):
        monkeypatch.setattr(resampling, work, mock.MagicMock(side_effect=InputError("enough")))


NOISE = st.integers(-2, 2**66) | st.floats() | st.none() | st.text(max_size=3) | st.just((1, 2))
NOISE |= st.lists(st.integers(), max_size=2) | st.builds(dict) | st.just(torch.ones(2))


@pytest.mark.parametrize("name", OFFERED)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_arguments_of_any_kind_are_taken_or_refused_in_words(name, data, edge):
    entry = getattr(ddid, name)
    pixels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    some = ImageSet(pixels, torch.tensor([1, 1, 2, 2]), torch.tensor([1, 2, 1, 2]), tuple("abcd"))
    fitting = {"recipe": "none", "train": some, "query": some, "gallery": some, "out": "out"}
    fitting |= {"model": lambda x: x.flatten(1), "root": "nothing", "models": {"mine": len}}
    known = inspect.signature(entry).parameters
    wanted = {n: v for n, v in fitting.items() if n in known}
    names = [n for n, p in known.items() if p.kind != p.VAR_KEYWORD]
    names += [*vars(TrainConfig())] * (name == "train")
    drawn = data.draw(st.dictionaries(st.sampled_from(names), NOISE))
    found = told(lambda: entry(**wanted | drawn))
    assert found is None or isinstance(found, mock.MagicMock | ImageSet), "the work answers"


def test_wrong_settings_are_one_sentence(people, tmp_path):
    with pytest.raises(InputError, match="no setting 'step'"):
        ddid.train("none", people, out=tmp_path, step=3)
    with pytest.raises(InputError, match="recipe"):
        ddid.train("nothing", people, out=tmp_path, steps=1)
    with pytest.raises(InputError, match=r"train 'ddid' on what `ddid\.balanced` returns"):
        ddid.train("ddid@gated", people, out=tmp_path)
    with pytest.raises(InputError, match=r"train\.out is not given"):
        ddid.train("ddid", people)
    with pytest.raises(InputError, match="eps"):
        ddid.evaluate(lambda x: x.flatten(1), people, people, out=tmp_path, eps=8)


def test_a_recipe_may_have_other_hyper_parameters(people, tmp_path):
    few = {"steps": 1, "identities": 4, "images_per_identity": 2}
    weights = []
    for gamma in (1.5, 3.0):
        recipe = tuned(find_recipe("ddid"), FNES(gamma=gamma), Meta(rate=0.1), 0.2)
        net = ddid.train(recipe, people, out=tmp_path / str(gamma), **few)
        weights.append(net.state_dict())
    assert any(not torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))


def test_balancing_that_adds_nothing_says_so(people, tmp_path, monkeypatch):
    monkeypatch.setattr(Gate, "verdicts", lambda self, images: ["no"] * len(images))
    with pytest.warns(UserWarning, match=r"rejected all \d+ drafts of \d+ planned images"):
        found = ddid.balanced(people, out=tmp_path, delta1=5, steps=1)
    assert found is people
