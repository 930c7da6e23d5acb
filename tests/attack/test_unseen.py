from dataclasses import replace

import pytest
import torch

from ddid.attack.budget import Budget
from ddid.attack.objectives import fna
from ddid.attack.scene import Scene
from ddid.attack.unseen import (
    COLOR_REACH,
    KNOTS,
    PATCH,
    color,
    displace,
    generator,
    patch,
    random_squares,
    recolor,
    square,
    square_side,
    transfer,
    universal,
    warp,
)
from ddid.errors import InputError
from ddid.metric.ranking import Embedded

BUDGET = Budget(steps=6, queries=40)


@pytest.fixture
def scene(net, images, pids):
    with torch.no_grad():
        clean = net(images)
    references = Embedded(clean, pids, pids)
    source = torch.Generator().manual_seed(0)
    return Scene(net, images, pids, BUDGET, source, clean=clean, references=references)


def run(attack, scene):
    """Attacked images, also where an attack learns a rule from the whole scene first."""
    found = attack(scene)
    return found(scene) if callable(found) else found


@pytest.mark.parametrize("attack", [universal, generator, square, color, warp, patch])
def test_each_family_raises_the_objective_and_repeats_with_its_seed(scene, attack):
    first, second = (
        run(attack, replace(scene, generator=torch.Generator().manual_seed(5))) for _ in range(2)
    )
    assert torch.equal(first, second)
    assert first.shape == scene.images.shape
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1
    value = fna(scene.guides)
    with torch.no_grad():
        assert float(value(scene.embed(first)).mean()) > float(
            value(scene.embed(scene.images)).mean()
        )


def test_universal_adds_one_change_to_all(scene):
    gray = replace(scene, images=torch.full_like(scene.images, 0.5))
    shift = run(universal, gray) - gray.images
    assert float((shift - shift[:1]).abs().max()) == 0
    assert float(shift.abs().max()) <= BUDGET.eps + 1e-6


def test_generator_leaves_torchs_own_random_state_alone(scene):
    before = torch.get_rng_state()
    run(generator, scene)
    assert torch.equal(torch.get_rng_state(), before)


def test_generator_takes_images_of_odd_size(scene):
    odd = replace(scene, images=scene.images[..., :15, :7], embed=lambda x: x.flatten(1)[:, :12])
    assert run(generator, odd).shape == odd.images.shape


def test_transfer_never_asks_the_attacked_model(scene):
    def secret(_):
        raise AssertionError("the attacked model was asked")

    attacked = transfer(replace(scene, embed=secret, surrogate=scene))
    assert float((attacked - scene.images).abs().max()) > 0
    with pytest.raises(InputError, match="surrogate"):
        transfer(scene)


def test_square_uses_no_gradient_and_asks_as_often_as_it_says(scene):
    asked = []

    def counted(batch):
        assert not torch.is_grad_enabled()
        asked.append(len(batch))
        return scene.embed(batch)

    attacked = square(replace(scene, embed=counted))
    assert len(asked) == 1 + BUDGET.queries
    inside = (attacked > 0) & (attacked < 1)
    change = (attacked - scene.images).abs()[inside]
    torch.testing.assert_close(change, torch.full_like(change, BUDGET.eps))


def test_squares_shrink_and_have_their_size(images):
    sides = [square_side(share, 16, 8) for share in (0, 0.01, 0.1, 0.5, 1.0)]
    assert sides == sorted(sides, reverse=True)
    mask = random_squares(images, 3, torch.Generator().manual_seed(0))
    assert mask.flatten(1).sum(1).tolist() == [9] * len(images)
    assert len({tuple(m.flatten().tolist()) for m in mask}) > 1


def test_equal_colors_change_equally(scene):
    levels = torch.tensor([0.1, 0.4, 0.9])[torch.arange(128) % 3].view(1, 1, 16, 8)
    images = levels.expand(8, 3, 16, 8).contiguous()
    shift = color(replace(scene, images=images)) - images
    for level in (0.1, 0.4, 0.9):
        here = shift[:, :, (levels[0, 0] == level)]
        assert float((here - here[..., :1]).abs().max()) < 1e-6
    assert float(shift.abs().max()) <= COLOR_REACH + 1e-6


def test_a_curve_is_linear_between_its_knots(images):
    assert torch.equal(recolor(images, torch.zeros(8, 3, KNOTS)), images)
    ramp = torch.linspace(0, -0.1, KNOTS).expand(8, 3, KNOTS)
    torch.testing.assert_close(recolor(images, ramp), 0.9 * images)


def test_no_flow_moves_nothing_and_a_pixels_flow_moves_one_pixel(images):
    torch.testing.assert_close(displace(images, torch.zeros(8, 2, 4, 2)), images)
    flow = torch.zeros(8, 2, 4, 2)
    flow[:, 0] = 1 / 8
    torch.testing.assert_close(displace(images, flow)[..., :-1], images[..., 1:])


def test_the_patch_changes_its_rectangle_only(scene):
    changed = (patch(scene) != scene.images).any(1)
    rows, columns = changed.any(2).sum(1), changed.any(1).sum(1)
    assert rows.tolist() == [round(PATCH[0] * 16)] * 8
    assert columns.tolist() == [round(PATCH[1] * 8)] * 8
