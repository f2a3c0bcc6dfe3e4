"""Which clips each step of an epoch trains on: pure arithmetic, the same on every rank and for any number of ranks.

Clips are read a row group at a time, so a shuffle has to mix them without reading each group again and again:

    row groups    in random order, another one each epoch
    windows       WINDOW_GROUPS neighbours of that order: their clips are shuffled together
    lanes         the sequence is cut into equal lanes, and every batch takes a few clips of each lane

      sequence   a a a a a a | b b b b b b | c c c c c c        3 lanes
      batches    [a b c] [a b c] …                              a rank owns some lanes: it reads only their groups

So a batch holds clips of lanes x WINDOW_GROUPS row groups from all over the data, and a rank keeps its share of these
in memory. Which clips a batch holds does not depend on how many ranks there are; which rank trains on them does.
"""

from __future__ import annotations

import numpy as np

WINDOW_GROUPS = 4
MAX_LANES = 16


def epoch_batches(groups: np.ndarray, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Rows of every step of one epoch, (num_steps, batch_size); `groups` (N,) says which row group each row lies in.

    Each row comes at most once; the N % batch_size rows that fill no batch are others in every epoch.
    """
    rng = np.random.default_rng([seed, epoch])
    names, group_of = np.unique(groups, return_inverse=True)
    window_of = rng.permutation(len(names)) // WINDOW_GROUPS
    sequence = np.lexsort((rng.random(len(groups)), window_of[group_of]))
    num_steps = len(groups) // batch_size
    num_lanes = max(lanes for lanes in range(1, MAX_LANES + 1) if batch_size % lanes == 0)
    lanes = sequence[: num_steps * batch_size].reshape(num_lanes, num_steps, batch_size // num_lanes)
    return lanes.transpose(1, 0, 2).reshape(num_steps, batch_size)


def share_of(rank: int, num_ranks: int, batch_size: int) -> slice:
    """The slots of every batch that are a rank's: neighbours, as even as it goes; pairs (2k, 2k + 1) stay together."""
    num_pairs = batch_size // 2 if batch_size % 2 == 0 and batch_size // 2 >= num_ranks else 0
    units, width = (num_pairs, 2) if num_pairs else (batch_size, 1)
    first, last = (width * (units * number // num_ranks) for number in (rank, rank + 1))
    return slice(first, last)


def evaluation_batches(num_rows: int, batch_size: int, rank: int, num_ranks: int) -> list[np.ndarray]:
    """A rank's batches of an evaluation: all rows once over all ranks, and the same batches for any number of ranks."""
    batches = [np.arange(first, min(first + batch_size, num_rows)) for first in range(0, num_rows, batch_size)]
    return share_out(batches, rank, num_ranks)


def share_out(batches: list[np.ndarray], rank: int, num_ranks: int) -> list[np.ndarray]:
    """A rank's batches: neighbours, and the first rank has most."""
    first, last = (-(-len(batches) * number // num_ranks) for number in (rank, rank + 1))
    return batches[first:last]
