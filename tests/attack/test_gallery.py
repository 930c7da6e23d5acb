"""The attacker who knows the gallery."""

from dataclasses import replace

import pytest
import torch

from ddid.attack import Budget, Scene, find_attack
from ddid.attack.gallery import Known, exact_ap, smooth_miss
from ddid.attack.registry import attack_scene
from ddid.errors import InputError
from ddid.metric.ranking import Embedded, rank

QUERIES, IMAGES = 8, 60


@pytest.fixture
def scene(net, images, pids):
    """The attacked images before a gallery with cameras, strangers and distractors."""
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        clean = net(images)
    owners = torch.tensor([3, 5, 7, 9, 0, 11])[torch.arange(IMAGES) % 6]
    own = torch.stack([clean[pids == p].mean(0) if (pids == p).any() else clean[0] for p in owners])
    noisy = own + 0.5 * clean.std() * torch.randn(own.shape, generator=source)
    cameras = torch.randint(-1, 3, (IMAGES,), generator=source)
    gallery = Embedded(noisy, owners, cameras)
    camids = torch.randint(-1, 3, (QUERIES,), generator=source)
    budget, parts = Budget(steps=15, restarts=2), {"clean": clean, "camids": camids}
    scene = Scene(net, images, pids, budget, source, gallery=gallery, **parts)
    return replace(scene, references=Embedded(clean, pids, camids))


def scored(scene, embeddings):
    query = Embedded(embeddings, scene.pids, scene.camids)
    return rank(query, scene.gallery).ap


def test_its_own_average_precision_is_the_protocols(scene):
    found = exact_ap(Known.of(scene), scene.clean)
    torch.testing.assert_close(found.double(), scored(scene, scene.clean), atol=1e-6, rtol=0)


def test_a_cold_smooth_miss_is_one_minus_average_precision(scene):
    known = Known.of(scene)
    cold = 1 - smooth_miss(known, 1e-5)(scene.clean)
    # A sigmoid counts an image half ahead of itself, as the objective does.
    torch.testing.assert_close(cold, exact_ap(known, scene.clean), atol=0.01, rtol=0)


def test_the_gallery_in_pieces_is_the_gallery(scene, monkeypatch):
    known, at = Known.of(scene), scene.clean.clone().requires_grad_()
    whole = smooth_miss(known, 0.05)(at)
    monkeypatch.setattr("ddid.attack.gallery.AT_ONCE", 1)
    pieces = smooth_miss(known, 0.05)(at)
    torch.testing.assert_close(pieces, whole)
    slopes = [torch.autograd.grad(value.sum(), at)[0] for value in (whole, pieces)]
    torch.testing.assert_close(*slopes)


def test_of_a_large_gallery_the_nearest_wrong_images_count(scene, monkeypatch):
    """As if the others were not there; enough of them are all."""
    known = Known.of(scene)
    monkeypatch.setattr("ddid.attack.gallery.NEAREST", 5)
    found = smooth_miss(known, 0.05)(scene.clean)
    for query, scores in enumerate(known.scores(scene.clean)):
        right = scores[known.right[query]]
        wrong = scores[known.wrong[query]].sort(descending=True).values[:5]
        ahead = [
            [torch.sigmoid((other - own) / 0.05).sum() for other in (right, wrong)] for own in right
        ]
        precisions = [(r + 0.5) / (r + 0.5 + w) for r, w in ahead]
        expected = 1 - sum(precisions) / max(1, len(precisions))
        torch.testing.assert_close(found[query], torch.as_tensor(expected, dtype=found.dtype))


def test_knowing_the_gallery_hurts_more_than_not_knowing_it(scene):
    ap = {}
    for name in ("fna", "ifgsm", "gallery"):
        attacked = attack_scene(find_attack(name), scene) / 255
        with torch.no_grad():
            ap[name] = float(scored(scene, scene.embed(attacked)).mean())
    assert ap["gallery"] < min(ap["fna"], ap["ifgsm"])


def test_more_restarts_leave_no_query_better_off(scene):
    aps = []
    for restarts in (1, 3):
        scene.generator.manual_seed(0)
        attacked = find_attack("gallery").craft(scene.spending(restarts=restarts))
        with torch.no_grad():
            aps.append(exact_ap(Known.of(scene), scene.embed(attacked)))
    assert bool((aps[1] <= aps[0] + 1e-6).all())


def test_a_query_without_a_right_answer_is_attacked_without_trouble(scene):
    strange = replace(scene, pids=torch.full((QUERIES,), 99))
    attacked = find_attack("gallery").craft(strange)
    assert bool(attacked.isfinite().all())


def test_without_a_gallery_there_is_one_sentence(scene):
    with pytest.raises(InputError, match="knows the gallery"):
        find_attack("gallery").craft(replace(scene, gallery=None))
