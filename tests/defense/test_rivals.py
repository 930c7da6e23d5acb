"""What rivals minimise and follow, each against the same written as a loop."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from ddid.attack.budget import Budget
from ddid.attack.scene import Scene
from ddid.defense.losses import Batch, identity_terms
from ddid.defense.recipes.hm import STRUCTURE, structured
from ddid.defense.recipes.rivals import BETA, anti_collapse, guided, margin_share, trade_off
from ddid.metric.distance import normalize
from ddid.metric.losses import batch_hard_triplet, smooth_labels
from ddid.model import Heads, ModelConfig, ReIDNet

LABELS = torch.tensor([0, 0, 0, 1, 1, 2])


def heads(seed):
    generator = torch.Generator().manual_seed(seed)
    parts = (torch.randn(6, size, generator=generator) for size in (4, 4, 3))
    return Heads(*parts)


CLEAN, ATTACKED = heads(0), heads(1)
TARGETS = smooth_labels(LABELS, 3)
BATCH = Batch(torch.zeros(6, 3, 2, 2), LABELS, TARGETS, torch.zeros(6, 3, 2, 2), TARGETS)
OWN, MOVED = normalize(CLEAN.embedding), normalize(ATTACKED.embedding)


def far(one, other):
    return float((one - other).norm())


def test_hm_keeps_an_attacked_image_nearer_than_positives_are():
    excess = [
        max(0.0, far(OWN[i], MOVED[i]) - far(OWN[i], OWN[p]))
        for i in range(6)
        for p in range(6)
        if p != i and LABELS[p] == LABELS[i]
    ]
    found = structured(BATCH, CLEAN, ATTACKED)
    assert float(found["structure"]) > 0
    assert float(found["structure"]) == pytest.approx(
        STRUCTURE * sum(excess) / len(excess), abs=1e-5
    )
    assert found.keys() == identity_terms(BATCH, CLEAN, ATTACKED).keys() | {"structure"}
    assert structured(BATCH, CLEAN, CLEAN)["structure"] == pytest.approx(0, abs=1e-5)


def test_trades_pays_for_every_move_of_the_embedding():
    moves = [far(OWN[i], MOVED[i]) ** 2 for i in range(6)]
    found = trade_off(BATCH, CLEAN, ATTACKED)
    assert found.keys() == {"clean_cls", "clean_tri", "move"}
    assert float(found["move"]) == pytest.approx(BETA * sum(moves) / 6, abs=1e-5)


def test_act_compares_clean_anchors_with_attacked_images():
    found = anti_collapse(BATCH, CLEAN, ATTACKED)
    crossed = batch_hard_triplet(CLEAN.feature, LABELS, references=ATTACKED.feature)
    other = batch_hard_triplet(ATTACKED.feature, LABELS, references=CLEAN.feature)
    assert found["collapse_tri"] == crossed
    assert crossed != other
    assert found["attacked_cls"] == cross_entropy(ATTACKED.logits, TARGETS)


@pytest.fixture
def scene(colours):
    torch.manual_seed(0)
    net = ReIDNet(ModelConfig(6, height=32, width=16)).eval()
    rows = torch.arange(0, 24, 2)
    images, labels = colours.images[rows].float() / 255, colours.labels[rows]
    return Scene(net, images, labels, Budget(8 / 255, 2 / 255, 8), torch.Generator().manual_seed(0))


def test_goat_leaves_its_own_and_comes_to_the_farthest_of_others(scene):
    with torch.no_grad():
        before, after = (normalize(scene.embed(x)) for x in (scene.images, guided(scene)))
    same = scene.pids[:, None] == scene.pids
    target = torch.cdist(before, before).masked_fill(same, -1).argmax(1)
    for i in range(len(before)):
        assert far(after[i], before[target[i]]) < far(before[i], before[target[i]])
    own = [float(torch.cdist(points, before)[same].mean()) for points in (before, after)]
    assert own[1] > own[0]


def test_a_larger_margin_has_a_larger_share_of_the_budget(scene):
    guides, found = scene.guides, margin_share(scene)
    margins = []
    for i, own in enumerate(guides.own):
        to = [far(own, normalize(mean[None])[0]) for mean in guides.centroids]
        others = [d for d, mine in zip(to, guides.is_own[i].tolist(), strict=True) if not mine]
        margins.append(max(0.0, min(others) - to[int(guides.identity[i])]))
    mean = sum(margins) / len(margins)
    assert found.tolist() == pytest.approx([margin / mean for margin in margins], abs=1e-3)
    assert max(margins) > 1.2 * min(margins)
