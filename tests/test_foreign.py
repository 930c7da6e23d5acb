"""Models of other people, made on the spot: TorchScript, a transformers folder, a state dict."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from ddid.errors import InputError
from ddid.foreign import Normalised, read_weights, torchscript, transformers
from ddid.model import IMAGENET_MEAN, IMAGENET_STD, ModelConfig, ReIDNet

IMAGES = torch.rand(3, 3, 32, 16, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()).eval()


def features(model):
    with torch.no_grad():
        return Normalised(model)(IMAGES)


def test_a_torchscript_file(tmp_path):
    path = str(tmp_path / "net.pt")
    torch.jit.trace(net(), IMAGES).save(path)
    assert torch.allclose(torchscript(path)(IMAGES), features(net()), atol=1e-5)
    (tmp_path / "no.pt").write_text("no")
    with pytest.raises(InputError, match="is no TorchScript file"):
        torchscript(str(tmp_path / "no.pt"))


def test_a_transformers_folder(tmp_path):
    backbone = ReIDNet(ModelConfig(2)).eval().backbone
    backbone.save_pretrained(tmp_path)
    found = transformers(str(tmp_path))(IMAGES)
    assert found.shape == (3, 256)
    with pytest.raises(InputError, match=r"no config\.json"):
        transformers(str(tmp_path / "nowhere"))


def test_a_transformers_folder_brings_its_own_normalisation(tmp_path):
    ReIDNet(ModelConfig(2)).eval().backbone.save_pretrained(tmp_path)
    plain = transformers(str(tmp_path)).levels.flatten().tolist()
    assert plain == pytest.approx([*IMAGENET_MEAN, *IMAGENET_STD])
    levels = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(levels))
    own = transformers(str(tmp_path)).levels.flatten().tolist()
    assert own == pytest.approx([*levels["image_mean"], *levels["image_std"]])


@pytest.mark.parametrize(
    ("prepared", "levels"),
    [
        ({"do_normalize": False, "image_mean": [0.5, 0.4, 0.3]}, [0, 0, 0, 1, 1, 1]),
        ({"image_mean": 0.5, "image_std": [0.25]}, [0.5, 0.5, 0.5, 0.25, 0.25, 0.25]),
    ],
)
def test_pixels_are_prepared_as_the_folder_says(prepared, levels, tmp_path):
    ReIDNet(ModelConfig(2)).eval().backbone.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(prepared))
    assert transformers(str(tmp_path)).levels.flatten().tolist() == pytest.approx(levels)


@pytest.mark.parametrize("mean", ["grey", [0.5, 0.5], {"r": 0.5}])
def test_levels_that_are_none_are_one_sentence(mean, tmp_path):
    ReIDNet(ModelConfig(2)).eval().backbone.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean}))
    with pytest.raises(InputError, match=r"preprocessor_config\.json: mean or std"):
        transformers(str(tmp_path))


@pytest.mark.parametrize("text", ["weights\n", "<html>gone</html>", "version https://git-lfs\n"])
def test_a_text_for_weights_is_one_sentence_that_advises_no_unpickling(text, tmp_path):
    (tmp_path / "w.pth").write_text(text)
    with pytest.raises(InputError, match=r"is damaged|no weights at all") as told:
        read_weights(str(tmp_path / "w.pth"))
    assert "weights_only" not in str(told.value)


def test_a_layer_without_weights_is_not_made_up(tmp_path):
    """A classifier's folder has no pooler, which the plain model would draw at random."""
    small = {"hidden_size": 8, "intermediate_size": 8, "image_size": 16, "patch_size": 8}
    config = ViTConfig(num_hidden_layers=1, num_attention_heads=1, **small)
    ViTForImageClassification(config).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"no weights for pooler\.dense.*would be random"):
        transformers(str(tmp_path))


@pytest.mark.parametrize("kind", ["safetensors", "plain", "nested", "parallel", "wrapped"])
def test_a_state_dict_through_a_factory(kind, tmp_path):
    state, path = net().state_dict(), str(tmp_path / f"w.{kind}")
    if kind == "safetensors":
        save_file(state, f"{path}.safetensors")
    elif kind == "wrapped":
        save_file({f"module.{n}": v for n, v in state.items()}, f"{path}.safetensors")
    elif kind == "plain":
        torch.save(state, path)
    elif kind == "nested":
        torch.save({"state_dict": state, "epoch": 3}, path)
    else:
        torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, path)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    model.load_state_dict(read_weights(path if Path(path).exists() else f"{path}.safetensors"))
    assert torch.allclose(features(model), features(net()), atol=1e-6)


@pytest.mark.parametrize("content", [torch.zeros(2), {"model": torch.zeros(2)}])
def test_a_tensor_alone_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(InputError, match="holds no state dict but a Tensor"):
        read_weights(str(tmp_path / "w.pt"))


@pytest.mark.parametrize("reader", [read_weights, torchscript])
def test_an_empty_file_is_one_sentence(reader, tmp_path):
    (tmp_path / "w.pt").touch()
    with pytest.raises(InputError, match=r"is damaged \(\w|is no TorchScript file \(\w"):
        reader(str(tmp_path / "w.pt"))


def test_files_that_could_run_code_are_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    path = tmp_path / "w.pth"
    for content in (pickle.dumps(Trap()), b"cut"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"holds more than tensors|is damaged"):
            read_weights(str(path))
    torch.save({"weights": Trap()}, path)
    with pytest.raises(InputError, match="holds more than tensors"):
        read_weights(str(path))
    assert not (tmp_path / "trapped").exists()
