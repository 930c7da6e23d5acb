"""Run by `accelerate launch` in `test_processes.py`: trains and leaves each process' weights."""

import sys
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ddid.data.images import ImageSet
from ddid.defense.recipes import find_recipe
from ddid.defense.training import Defence, TrainConfig
from ddid.training import fit


def main(folder: Path, steps: int) -> None:
    data = load_file(folder / "images.safetensors")
    paths = tuple(map(str, range(len(data["pids"]))))
    images = ImageSet(data["images"], data["pids"], data["camids"], paths)
    config = TrainConfig(steps=steps, identities=6, lr=3e-3, attack_steps=1)
    task = Defence(find_recipe("metric_at+discriminator"), images, config)
    fit(task, config.fit, folder / "run", "two processes")
    state = {name: value.contiguous() for name, value in task.modules.state_dict().items()}
    save_file(state, folder / f"process{Accelerator().process_index}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
