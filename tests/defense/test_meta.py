"""The self-meta step against parameters moved by hand, and at its limits."""

import copy

import pytest
import torch
from torch import nn

from ddid.defense.meta import Meta, meta_backward, split_rows
from ddid.errors import InputError
from ddid.metric.losses import batch_hard_triplet

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
CAMIDS = torch.tensor([0, 1, 0, 1, 2, 2, 0, 1])


@pytest.fixture
def problem():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    halves = torch.randn(2, 5, 3, dtype=torch.double)

    def loss_of(half):
        return lambda forward: (forward(half) - half.sum(1, keepdim=True)).square().mean()

    return net, loss_of(halves[0]), loss_of(halves[1])


def gradient(net):
    return torch.cat([p.grad.flatten() for p in net.parameters()])


def flat_gradient(loss, net):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()))])


def moved(net, direction, rate):
    """A copy of `net` at θ − rate · direction."""
    copied = copy.deepcopy(net)
    theta = nn.utils.parameters_to_vector(net.parameters()).detach()
    nn.utils.vector_to_parameters(theta - rate * direction, copied.parameters())
    return copied


def test_first_order_equals_two_nets_by_hand(problem):
    net, train, test = problem
    first = flat_gradient(train(net), net)
    ahead = moved(net, first, 0.1)
    expected = first + flat_gradient(test(ahead), ahead)
    losses = meta_backward(net, train, test, Meta(rate=0.1))
    assert torch.allclose(gradient(net), expected)
    assert torch.allclose(torch.stack(losses), torch.stack([train(net), test(ahead)]))


def test_second_order_equals_finite_differences(problem):
    net, train, test = problem

    def objective(theta):
        at = moved(net, torch.zeros_like(theta), 0.0)
        nn.utils.vector_to_parameters(theta, at.parameters())
        inner = train(at)
        ahead = moved(at, flat_gradient(inner, at), 0.3)
        return (train(at) + test(ahead)).item()

    theta = nn.utils.parameters_to_vector(net.parameters()).detach()
    shift = 1e-6 * torch.eye(len(theta), dtype=torch.double)
    expected = [(objective(theta + d) - objective(theta - d)) / 2e-6 for d in shift]
    meta_backward(net, train, test, Meta(rate=0.3, second_order=True))
    assert torch.allclose(gradient(net), torch.tensor(expected, dtype=torch.double), atol=1e-7)


@pytest.mark.parametrize("rows", [8, 32])
def test_second_order_goes_through_triplets_of_any_number(rows):
    torch.manual_seed(0)
    net, points, labels = nn.Linear(3, 2), torch.randn(rows, 3), torch.arange(rows) // 4
    found = []
    for second_order in (True, False):
        net.zero_grad()

        def loss(forward):
            return batch_hard_triplet(forward(points), labels)

        meta_backward(net, loss, loss, Meta(0.1, second_order))
        found.append(gradient(net))
    assert torch.isfinite(found[0]).all()
    assert not torch.equal(*found)


@pytest.mark.parametrize("second_order", [False, True])
def test_zero_rate_is_the_plain_step_on_the_two_halves(problem, second_order):
    net, train, test = problem
    meta_backward(net, train, test, Meta(rate=0.0, second_order=second_order))
    assert torch.allclose(gradient(net), flat_gradient(train(net) + test(net), net))


def test_orders_differ_when_the_rate_is_real(problem):
    net, train, test = problem
    gradients = []
    for second_order in (False, True):
        net.zero_grad()
        meta_backward(net, train, test, Meta(rate=0.3, second_order=second_order))
        gradients.append(gradient(net))
    assert not torch.allclose(*gradients)


def test_frozen_parameters_stay_out(problem):
    net, train, test = problem
    net[0].weight.requires_grad_(False)
    meta_backward(net, train, test, Meta(rate=0.1))
    assert net[0].weight.grad is None
    assert net[2].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("second_order", [False, True])
def test_parameters_the_loss_does_not_use_stay_where_they_are(problem, second_order):
    net, train, test = problem
    net.unused = nn.Parameter(torch.ones(2, dtype=torch.double))
    net.forward = lambda points: net[2](net[1](net[0](points)))
    meta_backward(net, train, test, Meta(rate=0.1, second_order=second_order))
    assert net.unused.grad is None or net.unused.grad.abs().sum() == 0
    assert net[0].weight.grad.abs().sum() > 0


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("split", "groups"), [("identity", LABELS), ("camera", CAMIDS)])
@pytest.mark.parametrize("seed", range(5))
def test_halves_share_no_group_and_are_the_batch(split, groups, seed):
    train, test = split_rows(LABELS, CAMIDS, split, draw(seed))
    assert not set(groups[train].tolist()) & set(groups[test].tolist())
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(8))
    assert len(train)
    assert len(test)


@pytest.mark.parametrize("split", ["identity", "random"])
def test_a_batch_that_goes_into_even_halves_does(split):
    assert [len(rows) for rows in split_rows(LABELS, CAMIDS, split, draw())] == [4, 4]


@pytest.mark.parametrize("seed", range(4))
def test_a_group_of_more_than_half_still_leaves_two_halves(seed):
    labels = torch.tensor([0, 0, 0, 0, 0, 1])
    assert all(len(rows) for rows in split_rows(labels, labels, "identity", draw(seed)))


def test_one_identity_cannot_be_split():
    with pytest.raises(InputError, match="a batch with one identity"):
        split_rows(torch.zeros(4), torch.arange(4), "identity", draw())


def test_negative_rate_is_refused():
    with pytest.raises(InputError, match=r"rate is -1\.0"):
        Meta(rate=-1.0)


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match="splits by identity, camera, random, not 'mood'"):
        Meta(split="mood")
