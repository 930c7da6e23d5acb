"""Images on disk: the same whatever the batch, the order or the interruptions."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from ddid.balance import resampling, sampling
from ddid.balance.gate import IDENTITY, KEPT, Gate, Limits
from ddid.balance.references import References
from ddid.balance.resampling import balanced_manifest, resample, synthesise
from ddid.balance.sampling import Sampling
from ddid.data.manifest import check_manifest
from ddid.errors import InputError

FAST = Sampling(steps=3)


def test_files_do_not_depend_on_the_batch_size(generator, references, plan, tmp_path, monkeypatch):
    synthesise(generator, references, plan.iloc[::-1], tmp_path / "all", FAST)
    monkeypatch.setattr(resampling, "BATCH", 1)
    synthesise(generator, references, plan, tmp_path / "one", FAST)
    for name in plan["name"]:
        one, other = (Image.open(tmp_path / f / f"{name}.png") for f in ("one", "all"))
        assert one.size == (8, 16)
        difference = torch.tensor(list(one.tobytes())) - torch.tensor(list(other.tobytes()))
        assert difference.abs().max() <= 1


def test_finished_images_are_kept(generator, references, plan, tmp_path, files):
    synthesise(generator, references, plan.iloc[:2], tmp_path, FAST)
    before, seen = files(tmp_path), []
    paths = synthesise(
        generator, references, plan, tmp_path, FAST, lambda what, done, n: seen.append(done)
    )
    after = files(tmp_path)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(plan) == len(paths)
    assert seen == [5]


def test_images_of_other_settings_are_made_anew(generator, references, plan, tmp_path, files):
    synthesise(generator, references, plan, tmp_path, FAST)
    before = files(tmp_path)
    with torch.no_grad():
        next(generator.denoiser.parameters()).add_(1.0)
    synthesise(generator, references, plan, tmp_path, FAST)
    assert all(files(tmp_path)[name] != time for name, time in before.items())


def test_images_of_another_sampler_are_made_anew(
    generator, references, plan, tmp_path, files, monkeypatch
):
    synthesise(generator, references, plan, tmp_path, FAST)
    before, solver = files(tmp_path), sampling.heun
    monkeypatch.setattr(sampling, "heun", lambda *given: 0 * solver(*given))
    synthesise(generator, references, plan, tmp_path, FAST)
    assert all(files(tmp_path)[name] != time for name, time in before.items())


def test_images_after_other_photographs_are_made_anew(
    generator, real, config, plan, tmp_path, files
):
    cpu = torch.device("cpu")
    synthesise(generator, References(real, config, cpu), plan, tmp_path, FAST)
    before = files(tmp_path)
    synthesise(generator, References(replace(real), config, cpu), plan, tmp_path, FAST)
    assert files(tmp_path) == before
    others = replace(real, images=real.images.flip(-1))
    synthesise(generator, References(others, config, cpu), plan, tmp_path, FAST)
    assert all(files(tmp_path)[name] != time for name, time in before.items())


@pytest.mark.parametrize("damage", ["text", "cut", "bit"])
def test_a_damaged_image_is_made_anew(damage, generator, references, plan, tmp_path):
    path = Path(synthesise(generator, references, plan, tmp_path, FAST)[0])
    whole = path.read_bytes()
    turned = bytearray(whole)
    turned[-30] ^= 1
    path.write_bytes({"text": b"torn", "cut": whole[:-30], "bit": turned}[damage])
    synthesise(generator, references, plan, tmp_path, FAST)
    assert path.read_bytes() == whole


def test_unknown_labels_stop_before_anything_is_written(generator, references, plan, tmp_path):
    with pytest.raises(InputError, match="identity"):
        synthesise(generator, references, plan.assign(pid=99), tmp_path / "new", FAST)
    assert not (tmp_path / "new").exists()


class Fickle(Gate):
    """Keeps what has been tried often enough: 'a' at once, 'b' at the third attempt, 'c' never."""

    def verdicts(self, images):
        names = [path.rsplit("/", 1)[-1].removesuffix(".png") for path in images.paths]
        good = {"a", "d", "e", "b_r2"}
        return [KEPT if name in good else IDENTITY for name in names]


@pytest.fixture
def drafts(generator, references, plan, tmp_path):
    gate = Fickle(None, Limits(attempts=3))
    return resample(generator, references, plan, tmp_path / "synthetic", Sampling(steps=2), gate)


def test_rejected_rows_are_retried_with_new_seeds(drafts):
    tried = drafts.groupby(drafts["name"].str[0])["attempt"].max().to_dict()
    assert tried == {"a": 0, "b": 2, "c": 2, "d": 0, "e": 0}
    assert drafts["seed"].is_unique
    assert (drafts["verdict"] == IDENTITY).sum() == 5
    assert (drafts["verdict"] == KEPT).sum() == 4


def test_the_balanced_manifest_has_what_was_kept(drafts, manifest):
    balanced = check_manifest(balanced_manifest(manifest, drafts))
    synthetic = balanced[balanced["origin"] == "synthetic"]
    assert len(synthetic) == 4
    assert set(synthetic["split"]) == {"train"}
    assert synthetic["pid"].tolist() == [3, 3, 20, 20]
    pd.testing.assert_frame_equal(balanced.iloc[: len(manifest)], manifest, check_dtype=False)


def test_an_empty_plan_is_refused(generator, references, plan, tmp_path):
    with pytest.raises(InputError, match="no rows"):
        resample(generator, references, plan.iloc[:0], tmp_path, Sampling(), Gate(None))
