"""Six identities of flat colours: enough for every recipe to learn in a few steps."""

import pytest
import torch

from ddid.data.images import ImageSet
from ddid.defense.training import TrainConfig

IDENTITIES, IMAGES = 6, 4


@pytest.fixture(scope="session")
def colours():
    generator = torch.Generator().manual_seed(7)
    pids = torch.arange(IDENTITIES).repeat_interleave(IMAGES) * 3 + 1
    base = torch.randint(40, 215, (IDENTITIES, 3, 1, 1), generator=generator)
    noise = torch.randint(-25, 25, (len(pids), 3, 32, 16), generator=generator)
    images = (base.repeat_interleave(IMAGES, 0) + noise).clamp(0, 255).to(torch.uint8)
    camids = torch.arange(len(pids)) % 3
    return ImageSet(images, pids, camids, tuple(f"{i}.png" for i in range(len(pids))))


@pytest.fixture(scope="session")
def short():
    """A configuration of five steps with two checkpoints on the way."""
    return TrainConfig(
        steps=5,
        identities=4,
        images_per_identity=2,
        attack_steps=2,
        log_every=1,
        checkpoint_every=2,
    )
