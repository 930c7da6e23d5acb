"""Two processes under `accelerate launch` train one model, as well as one process does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ddid.training import read_log

SCRIPT = Path(__file__).with_name("two_processes.py")
STEPS = 40


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


@pytest.mark.slow
def test_two_processes_agree_with_each_other_and_with_one(colours, tmp_path):
    one, two = (launch(tmp_path / str(n), n, colours) for n in (1, 2))
    weights = [load_file(tmp_path / "2" / f"process{i}.safetensors") for i in (0, 1)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert two["forward"].sum() == one["forward"].sum() / 2
    losses = [log["clean_cls"] + log["attacked_cls"] for log in (one, two)]
    learnt = [loss.iloc[0] - loss.iloc[-1] for loss in losses]
    assert learnt[0] > 0
    assert learnt[1] == pytest.approx(learnt[0], rel=0.3)
