"""The one loop on a task of two numbers: schedule, resume, averages, precision, and its files."""

import json
import os
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ddid.errors import InputError
from ddid.files import lock, write_json
from ddid.training import Fit, fit, is_trained, read_log
from ddid.training.log import TrainLog
from ddid.training.loop import TRAINED, Loop, learning_rate

SHORT = Fit(steps=7, lr=0.1, log_every=1, checkpoint_every=2)


class KilledError(Exception):
    pass


def kill_at(step):
    def progress(what, done, total):
        if done == step:
            raise KilledError

    return progress


class Line:
    """Learns y = 3x − 1 from noisy points drawn by the step's seed."""

    name = "a line"

    def __init__(self, broken_at=None):
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, affine=False), nn.Linear(1, 1))
        self.modules, self.counted = nn.ModuleDict({"net": self.net}), [self.net]
        self.broken_at, self.outputs = broken_at, []

    def step(self, step, seed):
        points = torch.rand(8, 1)
        output = self.net(points)
        self.outputs.append(output)
        loss = (output - 3 * points + 1).square().mean()
        loss = loss * torch.nan if step == self.broken_at else loss
        loss.backward()
        return {"loss": loss.detach()}

    def save(self, folder):
        save_file(self.net.state_dict(), folder / "line.safetensors")


def test_no_gradient_is_longer_than_the_clip_and_the_log_keeps_its_length(tmp_path):
    line, settings = Line(), replace(SHORT, steps=1)
    fit(line, replace(settings, clip=0.01), tmp_path / "short", "k", None)
    taken = torch.cat([p.grad.flatten() for p in line.net.parameters()]).norm()
    assert float(taken) == pytest.approx(0.01, rel=1e-3)
    assert read_log(tmp_path / "short")["gradient_norm"][0] > 0.1


def test_a_step_is_adamws_written_out():
    """Decoupled decay, bias-corrected moments (Loshchilov & Hutter 2019), two steps of it."""
    settings = replace(SHORT, betas=(0.8, 0.95), weight_decay=0.3)
    loop, before, moments = Loop(Line(), settings), [], []
    for step in (0, 1):
        before = [p.detach().clone() for p in loop.parameters]
        loop.take(step)
        moments = moments or [(torch.zeros_like(p), torch.zeros_like(p)) for p in before]
        rate = settings.lr * learning_rate(settings, step)
        for number, (old, new) in enumerate(zip(before, loop.parameters, strict=True)):
            first, second = moments[number]
            first = 0.8 * first + 0.2 * new.grad
            second = 0.95 * second + 0.05 * new.grad**2
            moments[number] = first, second
            hats = first / (1 - 0.8 ** (step + 1)), second / (1 - 0.95 ** (step + 1))
            expected = old * (1 - rate * 0.3) - rate * hats[0] / (hats[1].sqrt() + 1e-8)
            torch.testing.assert_close(new.detach(), expected)


def trained(folder, settings=SHORT, key="k", progress=None):
    fit(Line(), settings, folder, key, progress)
    return load_file(folder / "line.safetensors")


def same(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_log_goes_by_names(tmp_path):
    log = TrainLog(tmp_path / "log.jsonl", 0, [])
    one, ten = torch.tensor(1.0), torch.tensor(10.0)
    for report in ({"a": one, "b": ten}, {"b": ten, "a": one}):
        log.add(report)
    log.flush(2)
    line = json.loads((tmp_path / "log.jsonl").read_text(encoding="utf-8"))
    assert (line["a"], line["b"]) == (1, 10)
    for report in ({"a": one, "b": ten}, {"a": one, "c": ten}):
        log.add(report)
    with pytest.raises(InputError, match="not a, b in one alone"):
        log.flush(4)


def test_it_learns(tmp_path):
    trained(tmp_path, replace(SHORT, steps=150, checkpoint_every=1000))
    log = read_log(tmp_path)["loss"]
    assert log[-10:].mean() < 0.2 * log[:10].mean()


@pytest.mark.parametrize("average", [0.0, 0.1])
@pytest.mark.parametrize("step", [1, 2, 5, 6])
def test_killed_anywhere_it_ends_with_the_same_bytes_and_log(step, average, tmp_path):
    settings = replace(SHORT, average=average)
    whole = trained(tmp_path / "whole", settings)
    with pytest.raises(KilledError):
        trained(tmp_path / "killed", settings, progress=kill_at(step))
    assert same(whole, trained(tmp_path / "killed", settings))
    logs = [read_log(tmp_path / name).drop(columns="seconds") for name in ("whole", "killed")]
    assert logs[0].equals(logs[1])
    ends = [(tmp_path / name / "trained.json").read_bytes() for name in ("whole", "killed")]
    assert ends[0] == ends[1]
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()


def test_the_seed_decides_everything(tmp_path):
    runs = [
        trained(tmp_path / n, replace(SHORT, seed=s)) for n, s in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_the_callers_random_state_is_left_alone(tmp_path):
    task = Line()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    fit(task, SHORT, tmp_path, "k")
    assert torch.equal(torch.rand(3), expected)


def test_a_finished_folder_knows_its_key(tmp_path):
    assert not is_trained(tmp_path, "k")
    trained(tmp_path)
    assert is_trained(tmp_path, "k")
    assert not is_trained(tmp_path, "other")
    write_json(tmp_path / TRAINED, {"key": "k"})
    assert not is_trained(tmp_path, "k"), "a damaged note"


def turn_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["line.safetensors", "train_log.jsonl"])
def test_a_damaged_result_is_not_one(name, tmp_path):
    trained(tmp_path)
    expected = (tmp_path / "line.safetensors").read_bytes()
    turn_a_bit(tmp_path / name)
    assert not is_trained(tmp_path, "k")
    trained(tmp_path)
    assert (tmp_path / "line.safetensors").read_bytes() == expected
    assert is_trained(tmp_path, "k")


def test_files_of_others_change_nothing_and_missing_ones_are_noticed(tmp_path):
    with pytest.raises(KilledError):
        trained(tmp_path, progress=kill_at(5))
    (tmp_path / "before.json").write_text("{}")
    trained(tmp_path)
    (tmp_path / "after.json").write_text("{}")
    (tmp_path / "before.json").unlink()
    assert is_trained(tmp_path, "k")
    (tmp_path / "line.safetensors").unlink()
    assert not is_trained(tmp_path, "k")


def test_what_is_written_twice_is_the_trainings_own(tmp_path):
    with pytest.raises(KilledError):
        trained(tmp_path, progress=kill_at(5))
    save_file(Line().net.state_dict(), tmp_path / "line.safetensors")
    trained(tmp_path)
    turn_a_bit(tmp_path / "line.safetensors")
    assert not is_trained(tmp_path, "k")


def test_a_damaged_checkpoint_is_told_and_not_gone_on_with(tmp_path):
    with pytest.raises(KilledError):
        trained(tmp_path, progress=kill_at(5))
    turn_a_bit(tmp_path / "checkpoint.safetensors")
    with pytest.raises(InputError, match="is damaged"):
        trained(tmp_path)


@pytest.mark.parametrize("killed", [False, True])
def test_what_another_key_left_is_moved_not_used_and_not_lost(killed, tmp_path):
    expected = trained(tmp_path / "fresh")
    if killed:
        with pytest.raises(KilledError):
            trained(tmp_path / "used", replace(SHORT, seed=1), "old", kill_at(5))
    else:
        trained(tmp_path / "used", replace(SHORT, seed=1), "old")
    left = {path.name for path in (tmp_path / "used").glob("[!.]*")}
    assert same(trained(tmp_path / "used"), expected)
    assert {path.name for path in (tmp_path / "used" / "before" / "1").iterdir()} == left
    assert len(read_log(tmp_path / "used")) == SHORT.steps
    trained(tmp_path / "used", key="third")  # keeps the two before it apart
    assert {path.name for path in (tmp_path / "used" / "before" / "1").iterdir()} == left
    second = (tmp_path / "used" / "before" / "2" / "trained.json").read_bytes()
    shutil.rmtree(tmp_path / "used" / "before" / "1")  # somebody tidies
    trained(tmp_path / "used", key="fourth")
    assert (tmp_path / "used" / "before" / "2" / "trained.json").read_bytes() == second
    assert (tmp_path / "used" / "before" / "3" / "trained.json").exists()


def test_two_trainings_do_not_share_a_folder(tmp_path):
    with lock(tmp_path), pytest.raises(InputError, match=f"in use by process {os.getpid()}"):
        trained(tmp_path)
    assert not (tmp_path / "line.safetensors").exists()
    trained(tmp_path)


def test_weights_of_somebody_elses_are_not_overwritten_and_files_beside_a_training_stay(tmp_path):
    notes, weights = tmp_path / "thesis.txt", tmp_path / "line.safetensors"
    notes.write_text("years of work")
    weights.write_text("weeks of work")
    with pytest.raises(InputError, match=r"weights of no training, \['line\.safetensors'\]"):
        trained(tmp_path)
    assert weights.read_text() == "weeks of work"
    weights.unlink()
    trained(tmp_path, key="first")
    trained(tmp_path, key="second")
    assert notes.read_text() == "years of work"
    assert {path.name for path in (tmp_path / "before" / "1").iterdir()} == {
        "line.safetensors", "train_log.jsonl", "trained.json",
    }  # fmt: skip


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(tmp_path):
    with pytest.raises(InputError, match="training broke down: loss is no number in the 1 steps"):
        fit(Line(broken_at=3), SHORT, tmp_path, "k")
    assert read_log(tmp_path)["step"].tolist() == [1, 2, 3]
    assert (tmp_path / "checkpoint.safetensors").exists()


def test_a_damaged_checkpoint_is_told_and_kept(tmp_path):
    with pytest.raises(KilledError):
        trained(tmp_path, progress=kill_at(5))
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InputError, match="is damaged"):
        trained(tmp_path)
    assert path.stat().st_size == 50


def test_a_half_written_log_line_is_dropped(tmp_path):
    with pytest.raises(KilledError):
        trained(tmp_path, progress=kill_at(5))
    with (tmp_path / "train_log.jsonl").open("a") as stream:
        stream.write('{"step": 6, "lo')
    trained(tmp_path)
    assert read_log(tmp_path)["step"].tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_the_log_is_means_and_counts(tmp_path):
    trained(tmp_path / "each")
    trained(tmp_path / "pairs", replace(SHORT, log_every=4, checkpoint_every=100))
    each, pairs = (read_log(tmp_path / name) for name in ("each", "pairs"))
    assert pairs["step"].tolist() == [4, 7]
    assert pairs["loss"][0] == pytest.approx(each["loss"][:4].mean(), rel=1e-5)
    assert pairs["forward"].tolist() == pairs["backward"].tolist() == [32, 24]


def test_the_average_equals_its_loop():
    settings = replace(SHORT, average=0.3)
    loop = Loop(Line(), settings)
    weight, average = loop.task.net[2].weight, None
    for step in range(5):
        loop.take(step)
        keep = 0.5 ** (1 / (0.3 * (step + 1))) if step else 0.0
        average = weight.item() if step == 0 else keep * average + (1 - keep) * weight.item()
    kept = loop.kept["average"].module["net"]
    assert kept[2].weight.item() == pytest.approx(average, rel=1e-5)
    assert kept[1].num_batches_tracked == 5
    assert kept[1].running_mean != loop.task.net[1].running_mean


def test_the_averaged_weights_are_the_ones_saved(tmp_path):
    last, averaged = (
        trained(tmp_path / str(a), replace(SHORT, steps=30, average=a)) for a in (0.0, 0.5)
    )
    assert not same(last, averaged)


def test_the_rate_warms_up_peaks_and_ends_near_zero():
    settings = replace(SHORT, steps=100)
    rates = [learning_rate(settings, step) for step in range(100)]
    assert rates[0] < 0.1
    assert max(rates) == rates[10] == 1.0
    assert rates[-1] < 0.001


@pytest.mark.parametrize("first", [0, 3])
def test_the_optimizer_follows_the_schedule_from_any_step(first):
    loop = Loop(Line(), SHORT)
    for step in range(first, SHORT.steps):
        loop.take(step)
        expected = SHORT.lr * learning_rate(SHORT, step)
        assert loop.optimizer.param_groups[0]["lr"] == pytest.approx(expected)


def test_bfloat16_runs_the_networks_low_and_hands_out_float32(tmp_path):
    task = Line()
    fit(task, replace(SHORT, precision="bf16"), tmp_path, "k")
    assert all(output.dtype == torch.float32 for output in task.outputs)
    assert "forward" not in vars(task.net), "the network is as it was"
    plain = trained(tmp_path / "plain")
    assert not same(load_file(tmp_path / "line.safetensors"), plain)
    assert all(value.dtype != torch.bfloat16 for value in plain.values())


def test_one_precision_does_not_leak_into_the_next_training(tmp_path):
    plain = trained(tmp_path / "first")
    trained(tmp_path / "low", replace(SHORT, precision="bf16"))
    assert same(plain, trained(tmp_path / "again"))
    assert Fit(steps=1, lr=1.0).in_force()["precision"] == "no"


def test_a_launchers_precision_is_in_force_and_a_mismatch_refused(monkeypatch):
    monkeypatch.setitem(os.environ, "ACCELERATE_MIXED_PRECISION", "bf16")
    assert SHORT.in_force() == {"precision": "bf16", "processes": 1}
    with pytest.raises(InputError, match="'no' but `accelerate launch` was told 'bf16'"):
        replace(SHORT, precision="no").in_force()
    with pytest.raises(InputError, match="precision is 'fp8': choose 'no' or 'bf16'"):
        replace(SHORT, precision="fp8").in_force()


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"lr": -1.0}, {"warmup": 1.0}, {"average": -0.1}, {"checkpoint_every": 0}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(InputError, match="training: "):
        replace(SHORT, **wrong)


def test_lines_of_the_log_are_json(tmp_path):
    trained(tmp_path)
    lines = (tmp_path / "train_log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 8))
