"""Batches of P identities with K images each, and how pixels come to the device."""

import pytest
import torch

from ddid.errors import InputError
from ddid.training import Feed, augmentation, pk_batches

LABELS = torch.tensor([0] * 9 + [1] * 4 + [2] + [3] * 6)


def test_batches_hold_p_identities_with_k_images():
    for batch in pk_batches(LABELS, 3, 4, steps=9, seed=0):
        counts = torch.bincount(LABELS[batch])
        assert sorted(counts[counts > 0].tolist()) == [4, 4, 4]


def test_batches_do_not_depend_on_how_many_are_asked_for():
    long = pk_batches(LABELS, 2, 4, steps=11, seed=5)
    assert torch.equal(pk_batches(LABELS, 2, 4, steps=4, seed=5), long[:4])
    assert not torch.equal(pk_batches(LABELS, 2, 4, steps=11, seed=6), long)


@pytest.mark.parametrize("identities", [1, 5])
def test_impossible_batches_are_one_sentence(identities):
    with pytest.raises(InputError, match="ask for 2 to 4"):
        pk_batches(LABELS, identities, 4, steps=1, seed=0)


def test_an_identity_repeats_no_image_before_all_had_their_turn():
    for batch in pk_batches(LABELS, 4, 6, steps=20, seed=1):
        for label, owned in enumerate(LABELS.bincount().tolist()):
            times = batch[LABELS[batch] == label].bincount()
            assert times.max() == -(-6 // owned)


def test_every_image_has_the_same_chance_within_its_identity():
    seen = pk_batches(LABELS, 4, 3, steps=2000, seed=2).flatten().bincount()
    for label, owned in enumerate(LABELS.bincount().tolist()):
        expected = 2000 * 3 / owned
        assert (seen[label == LABELS] / expected - 1).abs().max() < 0.15


def test_the_feed_gives_the_rows_asked_for():
    images = torch.randint(0, 256, (5, 3, 2, 2), dtype=torch.uint8)
    rows = torch.tensor([3, 3, 0])
    assert torch.equal(Feed(images, torch.device("cpu"))[rows], images[rows])


def test_pixels_that_do_not_fit_stay_on_the_host_and_come_pinned(monkeypatch):
    images, pinned = torch.randint(0, 256, (5, 3, 2, 2), dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (images.nbytes, images.nbytes))
    feed = Feed(images, torch.device("cuda"))
    assert feed.images is images
    feed.device = torch.device("cpu")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda part: pinned.append(part) or part)
    assert torch.equal(feed[torch.tensor([4, 1])], images[[4, 1]])
    assert len(pinned) == 1


def test_augmentation_keeps_shape_and_range_and_follows_the_seed():
    images = torch.rand(8, 3, 64, 32)
    augment = augmentation((64, 32))
    torch.manual_seed(0)
    first = augment(images)
    torch.manual_seed(0)
    assert torch.equal(augment(images), first)
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, images)


def test_augmentation_adds_black_borders_and_grey_areas_alone():
    images = torch.full((64, 3, 64, 32), 0.7)
    out = augmentation((64, 32))(images)
    assert {round(value, 4) for value in out.unique().tolist()} == {0.0, 0.5, 0.7}
