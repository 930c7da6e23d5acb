from dataclasses import replace

import pytest
import torch

from ddid.attack.budget import Budget
from ddid.attack.objectives import fna, misrank
from ddid.attack.pgd import auto_ascent, checkpoints, plain_ascent
from ddid.attack.scene import Scene


def climbed(net, images, value, budget, source, ascent=auto_ascent):
    pids = torch.arange(len(images))
    return Scene(net, images, pids, budget, source).pgd(value, ascent)


@pytest.mark.parametrize("objective", [fna, misrank])
def test_it_climbs_inside_the_budget(net, images, guides, objective):
    value, budget = objective(guides), Budget(steps=12)
    attacked = climbed(net, images, value, budget, torch.Generator())
    assert float((attacked - images).abs().max()) <= budget.eps + 1e-6
    assert float(attacked.min()) >= 0
    assert float(attacked.max()) <= 1
    assert bool((value(net(attacked)) > value(net(images))).all())


def test_more_steps_and_restarts_never_lower_the_value(net, images, guides):
    value, source = fna(guides), torch.Generator().manual_seed(0)
    found = [
        value(net(climbed(net, images, value, Budget(steps=steps), source))) for steps in (1, 4, 20)
    ]
    assert bool((found[1] >= found[0] - 1e-5).all())
    assert bool((found[2] >= found[1] - 1e-5).all())
    single, several = (
        value(net(climbed(net, images, value, Budget(steps=4, restarts=count), source)))
        for count in (1, 4)
    )
    assert bool((several >= single).all())


def test_it_needs_no_step_size_where_the_plain_ascent_is_lost(net, images, guides):
    value, budget = fna(guides), Budget(steps=20)
    auto = value(net(climbed(net, images, value, budget, torch.Generator())))
    for step in (0.1 / 255, 64 / 255):
        plain = climbed(
            net, images, value, replace(budget, step=step), torch.Generator(), plain_ascent
        )
        assert float((auto - value(net(plain))).detach().mean()) > 0


def test_the_step_halves_where_nothing_is_gained():
    """On a narrow ridge a step of 2 eps overshoots; only halving reaches the top."""
    top = torch.full((1, 1, 1, 1), 0.5 + 0.013)
    start = torch.full((1, 1, 1, 1), 0.5)
    best = auto_ascent(
        lambda x: -(x - top).abs().flatten(1).sum(1), start, start, Budget(eps=0.1, steps=60)
    )
    assert float((best - top).abs()) < 0.003


def test_the_best_point_ever_visited_is_returned():
    """A value that rewards the first step and punishes all later ones."""
    images, visited = torch.full((2, 1, 2, 2), 0.5), []

    def value(point):
        found = torch.sin(300 * point).flatten(1).sum(1)
        visited.append(found.detach())
        return found

    best = auto_ascent(value, images, images, Budget(eps=0.1, steps=9))
    seen = torch.stack(visited).amax(0)
    torch.testing.assert_close(value(best).detach(), seen)
    assert bool((visited[-2] < seen).all())


def test_checkpoints_are_the_published_ones():
    assert sorted(checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(1) == set()
