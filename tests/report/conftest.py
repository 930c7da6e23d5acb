import pytest
import torch
from torch import nn

from ddid.data.images import ImageSet
from ddid.report.subject import Subject


def picture_set(seed: int, pids: torch.Tensor) -> ImageSet:
    """Noisy pictures whose identity is a constant color pattern."""
    generator = torch.Generator().manual_seed(seed)
    palette = torch.randint(118, 138, (100, 3, 4, 2), generator=torch.Generator().manual_seed(9))
    base = palette[pids].repeat_interleave(4, 2).repeat_interleave(4, 3)
    noise = torch.randint(-12, 13, base.shape, generator=generator)
    camids = torch.randint(0, 3, pids.shape, generator=generator)
    names = tuple(f"{index}.jpg" for index in range(len(pids)))
    return ImageSet((base + noise).clamp(0, 255).to(torch.uint8), pids, camids, names)


@pytest.fixture(scope="session")
def query() -> ImageSet:
    return picture_set(0, torch.arange(1, 13).repeat(2))


@pytest.fixture(scope="session")
def gallery() -> ImageSet:
    return picture_set(1, torch.cat([torch.arange(1, 13).repeat(4), torch.zeros(8).long()]))


@pytest.fixture(scope="session")
def net() -> nn.Module:
    """An honest smooth encoder with random weights: it ranks the pictures well, clean."""
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.GELU(), nn.Flatten())
    return nn.Sequential(features, nn.Linear(16 * 7 * 3, 24)).eval()


@pytest.fixture(scope="session")
def subject(net, query, gallery) -> Subject:
    return Subject.of(net, query, gallery)
