import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ddid.attack.budget import Budget, random_start
from ddid.attack.objectives import fna, ifgsm, sma
from ddid.attack.pgd import value_and_grad
from ddid.attack.scene import Scene
from ddid.errors import InputError


def pgd(net, images, objective, budget, seed=0):
    source = torch.Generator().manual_seed(seed)
    return Scene(net, images, torch.arange(len(images)), budget, source).pgd(objective)


BUDGETS = [Budget(), Budget(random_start=True), Budget(momentum=1.0)]


@pytest.mark.parametrize("budget", BUDGETS, ids=["plain", "random", "momentum"])
def test_attack_raises_its_objective_inside_the_budget(net, images, guides, budget):
    attacked = pgd(net, images, fna(guides), budget)
    assert float((attacked - images).abs().max()) <= budget.eps + 1e-6
    assert attacked.min() >= 0
    assert attacked.max() <= 1
    gain = fna(guides)(net(attacked)) - fna(guides)(net(images))
    assert bool((gain > 0).all())


def test_plain_ascent_equals_its_loop_written_twin(net, images, guides):
    budget = Budget(steps=4)
    twin = images.clone()
    for _ in range(budget.steps):
        twin.requires_grad_()
        (gradient,) = torch.autograd.grad(fna(guides)(net(twin)).sum(), twin)
        twin = (twin + budget.step * gradient.sign()).detach()
        twin = torch.minimum(torch.maximum(twin, images - budget.eps), images + budget.eps)
        twin = twin.clamp(0, 1)
    torch.testing.assert_close(pgd(net, images, fna(guides), budget), twin)


def test_zero_eps_changes_nothing(net, images, guides):
    attacked = pgd(net, images, fna(guides), Budget(eps=0, random_start=True))
    torch.testing.assert_close(attacked, images, rtol=0, atol=0)


def test_an_image_whose_only_guide_is_itself_still_moves(net, images, guides):
    for objective in (sma, ifgsm):
        attacked = pgd(net, images, objective(guides), Budget())
        moved = net(attacked) - net(images)
        assert float(moved.detach()[7].norm()) > 0.01


def test_where_there_is_no_gradient_at_all_the_image_is_nudged_once(images):
    for steps in (1, 3):
        budget = Budget(steps=steps, step=1 / 255)
        attacked = pgd(lambda x: x.detach().flatten(1), images, torch.Tensor.sum, budget)
        moved = (attacked - images).abs()
        assert float(moved.max()) == pytest.approx(1 / 255, abs=1e-6)
        assert float((moved > 0).float().mean()) > 0.9


def test_more_restarts_are_never_weaker_and_keep_the_best_per_image(net, images, guides):
    budget = Budget(steps=2, random_start=True)
    value = fna(guides)
    values = [
        value(net(pgd(net, images, value, replace(budget, restarts=count)))) for count in (1, 2, 5)
    ]
    assert bool((values[1] >= values[0]).all())
    assert bool((values[2] >= values[1]).all())
    assert bool((values[2] > values[0]).any())


def test_weights_and_mode_stay_as_found(images, guides):
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(384), nn.Linear(384, 12)).train()
    before = {name: value.clone() for name, value in net.named_parameters()}
    pgd(net, images, sma(guides), Budget(steps=2))
    assert net.training
    assert all(torch.equal(before[name], value) for name, value in net.named_parameters())
    assert all(value.grad is None for value in net.parameters())


def test_attack_works_under_no_grad_and_repeats_with_one_seed(net, images, guides):
    budget = Budget(random_start=True)
    with torch.no_grad():
        first, second = (pgd(net, images, sma(guides), budget, seed=4) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    other = pgd(net, images, sma(guides), budget, seed=5)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "value", [lambda x: torch.ones(len(x)), lambda x: x.detach().flatten(1).sum(1)]
)
def test_a_value_without_gradient_has_gradient_zero(images, value):
    _, gradient = value_and_grad(value, images)
    assert float(gradient.abs().sum()) == 0


def test_random_starts_spread_over_the_ball():
    images, budget = torch.full((500, 3, 4, 4), 0.5), Budget(eps=0.2)
    shift = random_start(images, budget, torch.Generator().manual_seed(0)) - images
    assert 0.9 * budget.eps < float(shift.abs().max()) <= budget.eps + 1e-6
    assert math.isclose(float(shift.mean()), 0, abs_tol=0.01)


@pytest.mark.parametrize(
    ("field", "value"),
    [("eps", -0.1), ("eps", 8.0), ("step", -0.1), ("steps", 0), ("restarts", 0)],
)
def test_impossible_budgets_are_refused_by_name(field, value):
    with pytest.raises(InputError, match=field):
        Budget(**{field: value})


@pytest.mark.parametrize("wrong", [None, "8", float("nan"), float("inf")])
@pytest.mark.parametrize("field", ["eps", "step", "momentum", "steps", "restarts", "queries"])
def test_what_is_no_number_is_refused_by_name(field, wrong):
    with pytest.raises(InputError, match=f"attack: {field} is"):
        Budget(**{field: wrong})


def test_a_count_is_a_whole_number():
    with pytest.raises(InputError, match=r"steps is 1\.5"):
        Budget(steps=1.5)


@pytest.mark.parametrize("eps", [0, 8 / 255, 32 / 255, 1.0])
def test_the_step_follows_eps_so_that_every_eps_is_in_reach(eps):
    budget = Budget(eps=eps)
    assert budget.step * budget.steps >= budget.eps
    assert Budget(eps=eps, step=0.01).step == 0.01


def test_counts_of_numpy_are_whole_numbers_too():
    assert Budget(steps=np.int64(3)).steps == 3
    with pytest.raises(InputError, match="steps is True"):
        Budget(steps=True)


def test_steps_of_a_size_that_nobody_chose_can_cross_the_budget():
    budgets = [Budget(eps=0.1, steps=count) for count in (1, 2, 8, 15)]
    assert all(budget.steps * budget.step >= 0.0999 for budget in budgets)
    assert budgets[2].step == budgets[3].step == pytest.approx(0.1 / 8)
