"""Every attack on a pretended device: nothing mixes devices, nothing in a loop waits for it."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException

from ddid.attack import Budget, Scene, attacks, find_attack, gallery
from ddid.metric.ranking import Embedded
from tests.pretended import place, pretended


def scene_on(device: torch.device) -> Scene:
    """Eight images, a convolutional network and a gallery, all on the device."""
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.Flatten(), nn.Linear(8 * 7 * 3, 12)]
    net = place(nn.Sequential(*layers).eval(), device)
    images = torch.empty(8, 3, 16, 8, device=device)
    labels = torch.empty(8, dtype=torch.long, device=device)
    gallery = object.__new__(Embedded)  # its own check of values would wait for the device
    parts = {"embeddings": torch.empty(20, 12, device=device), "pids": labels.repeat(3)[:20]}
    vars(gallery).update(parts, camids=labels.repeat(3)[:20])
    clean = torch.empty(8, 12, device=device)
    budget = Budget(steps=3, queries=4, restarts=2)
    scene = Scene(net, images, labels, budget, torch.Generator(), clean=clean, camids=labels)
    return replace(scene, gallery=gallery, surrogate=scene)


@pytest.mark.parametrize("name", attacks())
def test_an_attack_mixes_no_devices_and_never_waits(name, monkeypatch):
    with pretended() as device:
        scene, entry = scene_on(device), find_attack(name)
        monkeypatch.setattr(gallery, "most_right", lambda right: 5)  # waits once, before the loop
        attacked = entry.craft(scene)
        attacked = attacked(scene) if entry.whole else attacked
        assert attacked.device == device
        assert attacked.shape == scene.images.shape


def test_the_pretended_device_tells_waiting_and_mixing():
    with pretended() as device:
        there = torch.zeros(3, device=device)
        with pytest.raises(DataDependentOutputException):
            float(there.sum())
        with pytest.raises(RuntimeError, match="same device"):
            _ = there + torch.zeros(3)
