import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from ddid.backbones import backbones, pretrained
from ddid.errors import InputError
from ddid.model import ModelConfig, ReIDNet, embed, load_model, pooled, save_model

IMAGES = torch.rand(4, 3, 64, 32, generator=torch.Generator().manual_seed(0))


def tiny(seed=0, **changes):
    torch.manual_seed(seed)
    return ReIDNet(ModelConfig(classes=5, **changes)).eval()


@pytest.mark.parametrize("backbone", ["resnet-tiny", "dinov2-tiny"])
def test_heads_have_one_row_an_image_and_forward_is_the_embedding(backbone):
    net = tiny(backbone=backbone)
    heads = net(IMAGES, heads=True)
    assert heads.feature.shape == heads.embedding.shape == (4, net.width)
    assert heads.logits.shape == (4, 5)
    assert torch.equal(net(IMAGES), heads.embedding)


def test_known_backbones_are_the_documented_ones():
    assert {"resnet-tiny", "resnet18", "resnet50", "dinov2-small"} <= set(backbones())


def test_last_stage_keeps_stride_1():
    net = tiny()
    maps = []
    net.stages[-1].register_forward_hook(lambda *args: maps.append(args[2]))
    net(IMAGES)
    assert maps[0].shape[2:] == (4, 2)  # 64×32: stem and pooling 1/4, two stages 1/4


def test_normalisation_is_inside():
    net = tiny()
    with torch.no_grad():
        raw = net.backbone((IMAGES - net.mean) / net.std).pooler_output.flatten(1)
        assert torch.equal(net(IMAGES, heads=True).feature, raw)


def test_embed_reads_8_bit_pixels_in_chunks_and_puts_the_mode_back():
    net = tiny().train()
    pixels = (IMAGES * 255).round().to(torch.uint8)
    parts = embed(net, pixels, batch_size=3)
    assert net.training
    assert torch.allclose(parts, embed(net, pixels.float() / 255), atol=1e-5)
    assert not parts.requires_grad


def test_embed_and_pooling_say_what_they_want():
    with pytest.raises(InputError, match="images are ndarray: give a tensor"):
        embed(tiny(), np.zeros((2, 64, 32, 3), np.uint8))
    with pytest.raises(InputError, match="the network returns tuple: want a tensor"):
        pooled((torch.zeros(2, 3),))


def test_embed_takes_any_callable():
    assert torch.equal(embed(lambda x: x.flatten(1), IMAGES), IMAGES.flatten(1))


def test_a_saved_model_comes_back_the_same(tmp_path):
    net = tiny()
    save_model(net, tmp_path, recipe="none")
    again = load_model(tmp_path)
    assert not again.training
    assert torch.equal(again(IMAGES), net(IMAGES))
    assert json.loads((tmp_path / "model.json").read_text())["notes"] == {"recipe": "none"}


def test_pretrained_weights_are_really_loaded(tmp_path):
    first = tiny(seed=0)
    first.backbone.save_pretrained(tmp_path)
    torch.manual_seed(1)
    second = ReIDNet(ModelConfig(classes=9), weights=str(tmp_path)).eval()
    feature = second(IMAGES, heads=True).feature
    assert torch.equal(feature, first(IMAGES, heads=True).feature)
    assert not torch.equal(feature, tiny(seed=1)(IMAGES, heads=True).feature)


def test_pretrained_weights_that_do_not_fit_are_one_sentence(tmp_path):
    tiny().backbone.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="another architecture"):
        ReIDNet(ModelConfig(5, "resnet18"), weights=str(tmp_path))
    with pytest.raises(InputError, match="cannot be read"):
        ReIDNet(ModelConfig(5), weights=str(tmp_path / "nowhere"))


def test_impossible_architectures_are_one_sentence():
    with pytest.raises(InputError, match="unknown backbone 'resnet19'"):
        ReIDNet(ModelConfig(5, "resnet19"))
    with pytest.raises(InputError, match="patches of 8 pixels"):
        ReIDNet(ModelConfig(5, "dinov2-tiny", height=60))
    assert not len(tiny(backbone="dinov2-tiny").stages)


class Maps(nn.Module):
    """A backbone of one's own: maps, with BatchNorm and a part that is frozen."""

    def __init__(self, channels=7):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, channels, 3), nn.BatchNorm2d(channels))

    def forward(self, images):
        return self.layers(images)


@pytest.fixture
def own(monkeypatch):
    """A network around a module, under the name of a backbone of its own."""

    def build(module):
        known = pretrained.BACKBONES | {"own": lambda weights, size: copy.deepcopy(module)}
        monkeypatch.setattr(pretrained, "BACKBONES", known)
        return tiny(backbone="own")

    return build


@pytest.mark.parametrize(
    ("backbone", "width"),
    [(Maps(), 7), (nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 32, 9)), 9)],
    ids=["maps", "features"],
)
def test_any_module_is_a_backbone(backbone, width, own, tmp_path, monkeypatch):
    net = own(backbone)
    assert net(IMAGES).shape == (4, width)
    save_model(net, tmp_path)
    assert torch.equal(load_model(tmp_path)(IMAGES), net(IMAGES))
    monkeypatch.undo()
    with pytest.raises(InputError, match="unknown backbone 'own': choose of resnet-tiny"):
        load_model(tmp_path)


def test_a_backbone_is_told_its_weights_and_the_size_of_images(monkeypatch):
    told = []
    known = {"own": lambda *given: told.append(given) or Maps()}
    monkeypatch.setattr(pretrained, "BACKBONES", known)
    ReIDNet(ModelConfig(classes=5, backbone="own"), weights="mine.safetensors")
    assert told == [("mine.safetensors", (64, 32))]


def test_a_backbone_is_asked_for_its_width_without_learning_from_it(own):
    backbone = own(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).train().backbone
    assert int(backbone[1].num_batches_tracked) == 0
    assert backbone.training


def test_maps_are_averaged_and_stages_found(own):
    net = own(Maps())
    normalised = (IMAGES - net.mean) / net.std
    expected = net.backbone(normalised).mean((2, 3))
    assert torch.allclose(net(IMAGES, heads=True).feature, expected)
    assert not len(net.stages)
    net.backbone.stages = nn.ModuleList(net.backbone.layers)
    assert len(net.stages) == 2


@pytest.mark.parametrize("backbone", [nn.Linear(3, 2), nn.Sequential(nn.Flatten(0))])
def test_a_module_that_takes_no_images_is_one_sentence(backbone, own):
    with pytest.raises(InputError, match="the backbone"):
        own(backbone)


def test_a_frozen_batchnorm_stays_frozen():
    net = tiny().train()
    net.neck.eval()
    embed(net, IMAGES)
    assert net.training
    assert net.backbone.training
    assert not net.neck.training


def test_a_model_is_not_given_images_of_another_size(tmp_path):
    net = tiny()
    save_model(net, tmp_path)
    made = (net.config.height, net.config.width)
    assert torch.equal(load_model(tmp_path, size=made)(IMAGES), net(IMAGES))
    with pytest.raises(InputError, match=r"made for images of \(.*: give these, not \(9, 9\)"):
        load_model(tmp_path, size=(9, 9))


def test_damaged_checkpoints_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"model\.json"):
        load_model(tmp_path)
    save_model(tiny(), tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    other = description | {"config": description["config"] | {"classes": 6}}
    (tmp_path / "model.json").write_text(json.dumps(other))
    with pytest.raises(InputError, match="does not fit the architecture"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(description | {"format": 0}))
    with pytest.raises(InputError, match="format 0"):
        load_model(tmp_path)
    (tmp_path / "model.json").write_text(json.dumps(description))
    (tmp_path / "weights.safetensors").write_bytes(b"cut")
    with pytest.raises(InputError, match="does not fit"):
        load_model(tmp_path)
    for content in ("[1]", '{"format": 1}', '{"format": 1, "config": {"colour": 3}}'):
        (tmp_path / "model.json").write_text(content)
        with pytest.raises(InputError, match=r"model\.json"):
            load_model(tmp_path)
