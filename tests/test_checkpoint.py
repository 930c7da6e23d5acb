"""Checkpoints: what goes in comes out, and what does not fit is told in a sentence."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from ddid.checkpoint import load_checkpoint, save_checkpoint
from ddid.errors import InputError


def build(seed):
    torch.manual_seed(seed)
    modules = nn.ModuleDict({"net": nn.Linear(3, 2)})
    return modules, torch.optim.AdamW(modules.parameters(), lr=0.1)


def take_step(modules, optimizer):
    optimizer.zero_grad()
    modules["net"](torch.ones(1, 3)).sum().backward()
    optimizer.step()


@pytest.fixture
def saved(tmp_path):
    modules, optimizer = build(0)
    take_step(modules, optimizer)
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, modules, optimizer, 7, {"seed": 0})
    return path, modules, optimizer


def test_restored_training_goes_on_as_if_never_stopped(saved):
    path, modules, optimizer = saved
    others = build(1)
    assert load_checkpoint(path, *others, {"seed": 0}) == 7
    take_step(modules, optimizer)
    take_step(*others)
    assert torch.equal(modules["net"].weight, others[0]["net"].weight)


def test_other_settings_are_named_and_the_file_stays(saved):
    before = saved[0].read_bytes()
    with pytest.raises(InputError, match="was trained with seed = 0, now it is 1"):
        load_checkpoint(saved[0], *build(1), {"seed": 1})
    assert saved[0].read_bytes() == before


def test_classes_that_went_missing_are_named(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, *build(0), 1, {"classes": [1, 2, 3]})
    with pytest.raises(InputError, match=r"classes = \[1, 2, 3\], now it is \[1, 3\]"):
        load_checkpoint(path, *build(0), {"classes": [1, 3]})


def test_damaged_file_is_told(saved):
    saved[0].write_bytes(saved[0].read_bytes()[:50])
    with pytest.raises(InputError, match="is damaged"):
        load_checkpoint(saved[0], *build(1), {"seed": 0})


def test_another_format_version_is_told(tmp_path):
    path = tmp_path / "old.safetensors"
    save_file({"x": torch.zeros(1)}, path, metadata={"ddid": '{"format": 99}'})
    with pytest.raises(InputError, match="has format 99, this version reads 1"):
        load_checkpoint(path, *build(0), {})
