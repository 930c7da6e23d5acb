"""Seeds: one number from several, so that every draw depends on what it is for and nothing else."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_of(*words: int) -> int:
    """A seed below 2³² from non-negative numbers: their order counts, zeros at the end do not."""
    return int(np.random.SeedSequence(words).generate_state(1)[0])


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Within it torch draws on the host from this seed, say a network's weights; its own state is
    kept, and no other device is touched."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(seed)
        yield
