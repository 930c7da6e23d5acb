"""Two processes under `accelerate launch` take one step of one model, and learn as one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddid.seeds import seed_of
from ddid.training import read_log
from tests.defense.two_processes import build, state

SCRIPT = Path(__file__).with_name("two_processes.py")
STEPS = 25


def launch(folder, processes, colours):
    folder.mkdir()
    data = {"images": colours.images, "pids": colours.pids, "camids": colours.camids}
    save_file(data, folder / "images.safetensors")
    options = ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    options += ["--num_cpu_threads_per_process", "1", "--num_processes", str(processes)]
    options += ["--multi_gpu"] if processes > 1 else ["--cpu"]  # torchrun; the variable keeps CPUs
    command = [sys.executable, "-m", "accelerate.commands.launch", *options]
    command += [str(SCRIPT), str(folder), str(STEPS)]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
    return read_log(folder / "run")


def one_by_one(folder):
    """The same step in this process: each share by itself, then the mean of what both leave."""
    found = []
    for index in (0, 1):
        task = build(folder, STEPS)
        task.batches = task.batches.chunk(2, dim=1)[index]
        seed = seed_of(task.config.seed, 0, index)
        torch.manual_seed(seed)
        task.modules.train()
        task.step(0, seed)
        found.append(state(task))
    return {name: (value + found[1][name]) / 2 for name, value in found[0].items()}


@pytest.mark.slow
def test_two_processes_take_one_step_and_learn_as_one_does(colours, tmp_path):
    one, two = (launch(tmp_path / str(n), n, colours) for n in (1, 2))
    for what in ("step", "weights"):
        first, second = (load_file(tmp_path / "2" / f"{what}{i}.safetensors") for i in (0, 1))
        assert all(torch.equal(value, second[name]) for name, value in first.items())

    # One step is compared number by number; over many, rounding grows into other numbers.
    expected, step = one_by_one(tmp_path / "2"), load_file(tmp_path / "2" / "step0.safetensors")
    assert step.keys() == expected.keys()
    for name, value in expected.items():
        size = value.abs().max().item()
        assert torch.allclose(step[name].double(), value.double(), atol=1e-3 * size + 1e-7), name

    assert two["forward"].sum() == one["forward"].sum() / 2
    losses = [log["clean_cls"] + log["attacked_cls"] for log in (one, two)]
    learnt = [loss.iloc[0] - loss.iloc[-1] for loss in losses]
    assert min(learnt) > 0
    assert 0.5 < learnt[1] / learnt[0] < 2, "two halves of a batch teach about as much as the whole"
