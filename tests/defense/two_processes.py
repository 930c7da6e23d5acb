"""Run by `accelerate launch` in `test_processes.py`: leaves gradients of a step, and a training."""

import sys
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ddid.data.images import ImageSet
from ddid.defense.recipes import find_recipe
from ddid.defense.training import Defence, TrainConfig
from ddid.training import fit
from ddid.training.loop import Loop


def build(folder: Path, steps: int) -> Defence:
    """The task, the same in every process but for its share of the batches."""
    data = load_file(folder / "images.safetensors")
    paths = tuple(map(str, range(len(data["pids"]))))
    images = ImageSet(data["images"], data["pids"], data["camids"], paths)
    config = TrainConfig(steps=steps, identities=6, lr=3e-3, attack_steps=1, clip=1e9)
    return Defence(find_recipe("metric_at+discriminator"), images, config)


def state(task: Defence) -> dict:
    """Gradients and BatchNorm statistics after a step."""
    gradients = {name: p.grad for name, p in task.modules.named_parameters() if p.grad is not None}
    return {n: v.contiguous() for n, v in (gradients | dict(task.modules.named_buffers())).items()}


def main(folder: Path, steps: int) -> None:
    task, mark = build(folder, steps), Accelerator().process_index
    Loop(task, task.config).take(0)
    save_file(state(task), folder / f"step{mark}.safetensors")
    task = build(folder, steps)
    fit(task, task.config, folder / "run", "two processes")
    weights = {name: value.contiguous() for name, value in task.modules.state_dict().items()}
    save_file(weights, folder / f"weights{mark}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
