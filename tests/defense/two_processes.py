"""Run by `accelerate launch` in `test_processes.py`: trains and leaves each process' weights."""

import sys
from pathlib import Path

from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from ddid.data.images import ImageSet
from ddid.defense.recipes import find_recipe
from ddid.defense.training import TrainConfig, Trainer, describe_run


def main(folder: Path, steps: int) -> None:
    data = load_file(folder / "images.safetensors")
    paths = tuple(map(str, range(len(data["pids"]))))
    images = ImageSet(data["images"], data["pids"], data["camids"], paths)
    config = TrainConfig(steps=steps, identities=6, lr=3e-3, attack_steps=1)
    recipe, accelerator = find_recipe("metric_at+discriminator"), Accelerator()
    trainer = Trainer(recipe, images, config, accelerator)
    trainer.run(folder / "run", describe_run(recipe, images, config))
    state = {name: value.contiguous() for name, value in trainer.modules.state_dict().items()}
    save_file(state, folder / f"process{accelerator.process_index}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
