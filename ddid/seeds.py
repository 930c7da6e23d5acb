"""Seeds: one number from several, so that every draw depends on what it is for and nothing else."""

import numpy as np


def seed_of(*words: int) -> int:
    """A seed below 2³² from non-negative numbers: their order counts, zeros at the end do not."""
    return int(np.random.SeedSequence(words).generate_state(1)[0])
