import pytest
import torch
from torch import nn

from ddid.attack.objectives import Guides, find_guides
from ddid.metric.ranking import Embedded


@pytest.fixture
def net() -> nn.Module:
    """A small smooth encoder with random weights: images (B, 3, 16, 8) to (B, 12)."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, stride=2), nn.GELU(), nn.Flatten(), nn.Linear(8 * 7 * 3, 12)]
    return nn.Sequential(*layers).eval()


@pytest.fixture
def images() -> torch.Tensor:
    """Eight images on the 8-bit grid."""
    noise = torch.rand(8, 3, 16, 8, generator=torch.Generator().manual_seed(1))
    return (noise * 255).round() / 255


@pytest.fixture
def pids() -> torch.Tensor:
    """Three identities with several images, one (9) with a single one."""
    return torch.tensor([3, 3, 5, 5, 5, 7, 7, 9])


@pytest.fixture
def guides(net: nn.Module, images: torch.Tensor, pids: torch.Tensor) -> Guides:
    with torch.no_grad():
        features = net(images)
    return find_guides(features, pids, Embedded(features, pids, pids))
