"""How anything here is trained: one loop, its checkpoints, its log, its batches."""

from ddid.training.batches import Feed, augmentation, pk_batches
from ddid.training.log import read_log
from ddid.training.loop import Fit, Task, fit, is_trained

__all__ = ["Feed", "Fit", "Task", "augmentation", "fit", "is_trained", "pk_batches", "read_log"]
