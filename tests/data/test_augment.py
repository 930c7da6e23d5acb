import torch

from ddid.data.augment import Augment


def test_augmentation_keeps_shape_and_range_and_follows_the_seed():
    images = torch.rand(8, 3, 64, 32)
    augment = Augment((64, 32))
    torch.manual_seed(0)
    first = augment(images)
    torch.manual_seed(0)
    assert torch.equal(augment(images), first)
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, images)


def test_augmentation_at_zero_probability_only_crops():
    images = torch.full((4, 3, 64, 32), 0.7)
    out = Augment((64, 32), flip=0.0, erase=0.0)(images)
    values = {round(value, 4) for value in out.unique().tolist()}
    assert values <= {0.0, 0.7}
