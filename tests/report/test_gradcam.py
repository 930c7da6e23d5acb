import pytest
import torch
from torch.nn import functional

from ddid.errors import InputError
from ddid.metric.distance import normalize
from ddid.model import ModelConfig, ReIDNet, embed
from ddid.report.gradcam import MAP_ROWS, agreement, similarity_maps


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 32, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ReIDNet(ModelConfig(classes=5, height=32, width=16)).eval()


def test_maps_agree_with_the_formula(model, images):
    """Twin: ReLU of the channels weighted by their mean gradient, enlarged, scaled to 1."""
    centroids = embed(model, images)
    kept = []
    stages = list(model.stages)
    layer = [s for s in stages if rows_of(model, s, images) >= MAP_ROWS] or stages[:1]
    hook = layer[-1].register_forward_hook(lambda *args: kept.append(args[2]))
    value = (model(images) * normalize(centroids)).sum()
    hook.remove()
    (slope,) = torch.autograd.grad(value, kept[0])
    coarse = functional.relu((slope.mean((2, 3), keepdim=True) * kept[0]).sum(1, keepdim=True))
    large = functional.interpolate(coarse, images.shape[2:], mode="bilinear")[:, 0].detach()
    expected = large / large.amax((1, 2), keepdim=True).clamp_min(1e-30)
    assert torch.allclose(similarity_maps(model, images, centroids), expected, atol=1e-5)


def rows_of(model, stage, images) -> int:
    seen = []
    hook = stage.register_forward_hook(lambda *args: seen.append(args[2].shape[-2]))
    with torch.no_grad():
        model(images)
    hook.remove()
    return seen[0]


def test_maps_are_scaled_and_leave_the_model_as_it_was(model, images):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    maps = similarity_maps(model, images, embed(model, images))
    assert maps.shape == (3, *images.shape[2:])
    assert ((maps >= 0) & (maps <= 1)).all()
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(stage._forward_hooks for stage in model.stages)


def test_another_identity_gives_another_map(model, images):
    centroids = embed(model, images)
    own, other = (similarity_maps(model, images, c) for c in (centroids, centroids.roll(1, 0)))
    assert not torch.allclose(own, other, atol=1e-3)


def test_what_speaks_against_the_identity_is_not_shown(model, images):
    assert (similarity_maps(model, images, -embed(model, images)) >= 0).all()


def test_maps_do_not_depend_on_the_batch(model, images, monkeypatch):
    centroids = embed(model, images)
    together = similarity_maps(model, images, centroids)
    monkeypatch.setattr("ddid.report.gradcam.BATCH", 2)
    assert torch.allclose(similarity_maps(model, images, centroids), together, atol=1e-5)


def test_agreement_of_maps():
    left, right = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2)
    left[0, 0], right[0, 1] = 1, 0.5
    assert agreement(left, right) == 0
    assert agreement(left, 0.3 * left) == pytest.approx(1)
    assert agreement(left, left + 2 * right) == pytest.approx(0.5**0.5)
    nothing = torch.zeros_like(left)
    assert agreement(torch.cat([left, nothing]), torch.cat([right, nothing])) == 0.5
    assert agreement(left, nothing) == 0


def test_a_model_without_maps_is_one_sentence(images):
    transformer = ReIDNet(ModelConfig(5, "dinov2-tiny", height=32, width=16)).eval()
    with pytest.raises(InputError, match="Grad-CAM"):
        similarity_maps(transformer, images, embed(transformer, images))
