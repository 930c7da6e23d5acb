"""The identity of a result: the same for the same work, another for other work."""

import enum
import functools
import importlib
import itertools
import re
import sys
import textwrap
import threading
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ddid.errors import InputError
from ddid.identity import identity

LOSSES = '''
"""Losses."""
from dataclasses import dataclass
from helper_module import margin
import helper_module

SCALE = 2.0
TABLE = {"a": 1}

@dataclass
class Settings:
    weight: float = 1.0

    def doubled(self) -> float:
        """Twice."""
        return self.weight * 2

def distance(x):
    """Distance."""
    return abs(x)  # L1

def loss(x, settings: Settings = None):
    """Loss."""
    return SCALE * distance(x) + margin(x)

def lazily(x):
    from helper_module import other
    return other(x)

def through(x):
    return helper_module.other(x)

def tabled(x):
    return TABLE["a"]

def typed(settings: "Settings"):
    return settings.doubled()

def nested(x):
    """Outer."""
    def inner(y):
        """Inner."""
        return distance(y)
    return inner(x)

def keyed(x):
    return dict(low=x, high=1)

def unrelated(x):
    return x
'''
HELPER = """
def margin(x):
    return helper(x)

def helper(x):
    return x + 1

def other(x):
    return x + 2
"""


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """Writes two modules with replaced texts, each time in a folder of their own; loads them."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    numbers = itertools.count()

    def load(*replaced: tuple[str, str]):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        for name, text in (("losses_module", LOSSES), ("helper_module", HELPER)):
            for old, new in replaced:
                text = text.replace(old, new)
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
            sys.modules.pop(name, None)
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        return importlib.import_module("losses_module")

    yield load
    for name in ("losses_module", "helper_module"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Loss."""', '"""Another sentence,\n    of two lines."""'),
        ('    """Loss."""\n', ""),
        ("# L1", "# the city-block norm"),
        ('"""Inner."""', '"""Something else."""'),
        ("\ndef distance", "\n\n\n\ndef distance"),
        ("return x\n", "return x + 5\n"),
    ],
)
def test_texts_and_unrelated_code_do_not_count(loaded, old, new):
    before, after = loaded(), None
    digests = [identity(f=before.loss), identity(f=before.nested)]
    assert any(old in text for text in (LOSSES, HELPER))
    after = loaded((old, new))
    assert digests == [identity(f=after.loss), identity(f=after.nested)]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("loss", "SCALE * distance(x)", "SCALE / distance(x)"),
        ("loss", "abs(x)", "abs(x) ** 2"),
        ("loss", "return helper(x)", "return helper(x) * 2"),
        ("loss", "x + 1", "x - 1"),
        ("loss", "SCALE = 2.0", "SCALE = 3.0"),
        ("loss", "weight: float = 1.0", "weight: float = 2.0"),
        ("loss", "settings: Settings = None", "settings: Settings = 1"),
        ("lazily", "x + 2", "x + 3"),
        ("through", "x + 2", "x + 3"),
        ("tabled", '{"a": 1}', '{"a": 2}'),
        ("typed", "self.weight * 2", "self.weight * 3"),
        ("nested", "abs(x)", "-abs(x)"),
        ("nested", "distance(y)", "distance(y + 1)"),
        ("keyed", "low=x, high=1", "high=x, low=1"),
        ("keyed", "low=x", "least=x"),
        ("Settings", "self.weight * 2", "self.weight * 3"),
    ],
)
def test_code_that_is_used_counts(loaded, name, old, new):
    before = identity(f=getattr(loaded(), name))
    assert before == identity(f=getattr(loaded(), name))
    assert before != identity(f=getattr(loaded((old, new)), name))


@pytest.mark.parametrize("name", ["lazily", "through", "tabled", "typed"])
def test_what_a_function_does_not_name_does_not_count(loaded, name):
    before = identity(f=getattr(loaded(), name))
    assert before == identity(f=getattr(loaded(("x + 1", "x - 1")), name))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)),
        (re.compile("a"), re.compile("b")),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
    ],
)
def test_what_code_names_of_other_packages_counts(loaded, first, second, monkeypatch):
    losses, found = loaded(), []
    for thing in (first, second, first):
        monkeypatch.setattr(losses, "SCALE", thing)
        found.append(identity(f=losses.loss))
    assert found[0] == found[2] != found[1]


def test_a_replaced_function_counts(loaded, monkeypatch):
    losses = loaded()
    before = identity(f=losses.loss)
    monkeypatch.setattr(losses, "distance", lambda x: x**4)
    assert identity(f=losses.loss) != before


def _closure(power, call):
    return lambda x: call(x) ** power


def test_closures_and_partials_count_with_what_they_hold(loaded):
    losses = loaded()
    forms = [
        _closure(2, losses.loss),
        _closure(3, losses.loss),
        _closure(2, losses.distance),
        functools.partial(losses.loss, 1),
        functools.partial(losses.loss, 2),
        functools.partial(losses.distance, 1),
        lambda x: x + 1,
        lambda x: x + 2,
    ]
    assert len({identity(f=form) for form in forms}) == len(forms)
    assert identity(f=forms[0]) == identity(f=_closure(2, losses.loss))
    edited = loaded(("abs(x)", "abs(x) + 1"))
    assert identity(f=forms[0]) != identity(f=_closure(2, edited.loss))
    first, second = forms[6:]
    assert identity(a=first, b=second) != identity(a=second, b=first)


def test_decorated_functions_count_with_what_they_wrap():
    def plain(x):
        return x

    forms = [torch.no_grad()(plain), torch.no_grad()(lambda x: x + 1), functools.cache(plain)]
    assert len({identity(f=form) for form in forms}) == 3
    assert identity(f=functools.cache(plain)) == identity(f=functools.cache(plain))


@dataclass
class Inner:
    eps: float = 8 / 255
    names: list[str] = field(default_factory=list)


@dataclass
class Outer:
    inner: Inner
    steps: int = 3


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Callable:
    def __init__(self, rate):
        self.rate = rate

    def __call__(self, x):
        return self.rate * x


def _different() -> list:
    net = torch.nn.Linear(2, 2)
    other = torch.nn.Linear(2, 2)
    return [
        None, False, 0, 0.0, "", b"", (), [], {}, set(), 1, True, 1.0, "1",
        ("a", "b"), ("ab",), (("a",), "b"), ["a", "b"], {"a": "b"}, {"a", "b"},
        Inner(), Inner(eps=0.1), Inner(names=["a"]), Outer(Inner()), Outer(Inner(eps=0.1)),
        Outer(Inner(), steps=4), Colour.RED, Colour.BLUE, Callable(1), Callable(2), Colour, Inner,
        np.zeros(4), np.zeros((2, 2)), np.zeros(4, dtype="float32"), np.ones(4),
        torch.zeros(4), torch.zeros(2, 2), torch.zeros(4).bfloat16(), torch.ones(4),
        net, other, torch.nn.Sequential(net, torch.nn.Dropout(0.1)),
        torch.nn.Sequential(net, torch.nn.Dropout(0.2)), torch.float32, torch.float16,
        len, torch.relu, torch.nn.Linear, np.array(["a", None], dtype=object),
    ]  # fmt: skip


def test_different_values_have_different_identities():
    values = _different()
    digests = [identity(value=value) for value in values]
    repeated = [v for v, d in zip(values, digests, strict=True) if digests.count(d) > 1]
    assert not repeated
    assert digests == [identity(value=value) for value in values]


def test_order_of_arguments_and_of_entries_is_irrelevant():
    assert identity(a=1, b={"x": 1, "y": 2}) == identity(b={"y": 2, "x": 1}, a=1)
    assert identity(a=1, b=2) != identity(a=2, b=1)
    assert identity(a={"b", "c", "d"}) == identity(a={"d", "c", "b"})


def test_names_and_values_do_not_run_together():
    assert identity(a="bc") != identity(ab="c")


def test_tensors_count_by_value_not_by_layout():
    square = torch.arange(6).reshape(2, 3)
    assert identity(x=square.T.contiguous().T) == identity(x=square)
    assert identity(x=square[:1][:, 0]) == identity(x=torch.tensor([0]))  # one element, stride 3
    assert identity(x=np.int64(3)) == identity(x=np.int64(3))


def test_a_path_counts_by_content(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a").write_text("1")
    before = identity(x=tmp_path / "f")
    (tmp_path / "f" / "a").write_text("2")
    assert before != identity(x=tmp_path / "f")
    with pytest.raises(InputError, match="no file"):
        identity(x=tmp_path / "none")


def test_what_has_no_identity_is_one_sentence():
    for value in (threading.Lock(), [object()], {"a": iter([])}, _closure(2, object())):
        with pytest.raises(InputError, match="cannot depend on `value`"):
            identity(value=value)


def test_an_attack_of_the_library_has_an_identity_of_its_own(monkeypatch):
    from ddid.metric import losses

    names = [n for n, v in vars(losses).items() if getattr(v, "__module__", "") == losses.__name__]
    digests = {name: identity(f=getattr(losses, name)) for name in names}
    assert len(set(digests.values())) == len(names) > 1


@pytest.mark.slow
def test_a_function_of_a_module_made_on_the_spot_counts(monkeypatch):
    lab = types.ModuleType("lab")
    exec("def craft(scene):\n    return scene.images", vars(lab))
    monkeypatch.setitem(sys.modules, "lab", lab)
    first = identity(code=lab.craft)
    exec("def craft(scene):\n    return 1 - scene.images", vars(lab))
    assert identity(code=lab.craft) != first


def test_another_process_finds_the_same(tmp_path):
    import subprocess

    text = "from ddid.identity import identity\nimport ddid.metric.ranking as r\n"
    text += "print(identity(f=r.rank, s={'a', 'b', 'c'}))"
    seen = {
        subprocess.run(
            [sys.executable, "-c", text],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
