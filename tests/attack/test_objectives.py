import torch

from ddid.attack.objectives import find_guides, fna, ifgsm, misrank, odfa, sma
from ddid.metric.distance import normalize
from ddid.metric.ranking import Embedded

FEATURES = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
PIDS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
CLEAN = Embedded(FEATURES, PIDS, PIDS)


def gradient(value, at):
    at = at.clone().requires_grad_()
    (found,) = torch.autograd.grad(value(at).sum(), at)
    return found


def squares(x, y):
    return (normalize(x) - y).square().sum()


def fna_twin(x):
    """Bouniot's sum over every guide, written as loops."""
    unit, total = normalize(FEATURES), 0
    for row, pid in enumerate(PIDS.tolist()):
        total = total + sum(squares(x[row], unit[k]) for k in range(10) if PIDS[k] == pid)
        means = [unit[p == PIDS].mean(0) for p in range(4) if p != pid]
        far = max(means, key=lambda mean: float(squares(FEATURES[row], mean)))
        total = total - squares(x[row], far)
    return total


def test_fna_climbs_the_same_slope_as_the_sum_over_every_guide():
    guides, at = find_guides(FEATURES, PIDS, CLEAN), torch.randn(10, 6)
    torch.testing.assert_close(gradient(fna(guides), at), gradient(fna_twin, at))


def test_ifgsm_is_fna_without_the_pull():
    guides, at = find_guides(FEATURES, PIDS, CLEAN), torch.randn(10, 6)
    pull = (normalize(at) - guides.far).square().sum(1)
    torch.testing.assert_close(ifgsm(guides)(at) - pull, fna(guides)(at))


def test_sma_is_flat_at_the_clean_feature_and_odfa_worst_there():
    guides = find_guides(FEATURES, PIDS, CLEAN)
    torch.testing.assert_close(gradient(sma(guides), FEATURES), torch.zeros(10, 6))
    torch.testing.assert_close(odfa(guides)(FEATURES), torch.full((10,), -4.0))
    torch.testing.assert_close(odfa(guides)(-FEATURES), torch.zeros(10))


def test_misrank_counts_the_identities_ahead():
    guides = find_guides(FEATURES, PIDS, CLEAN)
    at_own, at_far = misrank(guides)(guides.same), misrank(guides)(guides.far)
    assert bool((at_far > at_own + 0.9).all())
    sharp = misrank(guides, temperature=1e-6)(FEATURES * 1.0)
    distances = torch.cdist(guides.own, guides.centroids)
    ahead = (distances < distances.gather(1, guides.identity[:, None])).sum(1)
    torch.testing.assert_close(sharp, ahead.float(), rtol=0, atol=0.01)
