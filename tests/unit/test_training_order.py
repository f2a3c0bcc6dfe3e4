"""Which clips each step trains on: every clip once, well mixed, and the same for any number of ranks."""

import numpy as np
import pytest

from vidpipe.training.order import epoch_batches, evaluation_batches, share_of


def row_groups(sizes: list[int]) -> np.ndarray:
    return np.repeat(np.arange(len(sizes)), sizes)


@pytest.mark.parametrize(("num_rows", "batch_size"), [(1, 1), (31, 32), (64, 32), (1000, 24), (1001, 17), (97, 5)])
def test_every_clip_comes_at_most_once_and_only_the_remainder_is_left_out(num_rows: int, batch_size: int):
    groups = row_groups([13] * (num_rows // 13 + 1))[:num_rows]
    batches = epoch_batches(groups, batch_size, seed=0, epoch=0)
    assert batches.shape == (num_rows // batch_size, batch_size)
    assert len(np.unique(batches)) == batches.size
    assert batches.size >= num_rows - batch_size + 1


def test_the_clips_left_out_are_others_in_every_epoch():
    groups = row_groups([13] * 8)
    left_out = [set(range(104)) - set(epoch_batches(groups, 50, 0, epoch).ravel()) for epoch in range(20)]
    assert set().union(*left_out) == set(range(104)) or len(set().union(*left_out)) > 50


def test_an_epoch_is_a_function_of_its_seed_and_number():
    groups = row_groups([13] * 20)
    first = epoch_batches(groups, 16, seed=3, epoch=2)
    np.testing.assert_array_equal(first, epoch_batches(groups, 16, seed=3, epoch=2))
    assert (first != epoch_batches(groups, 16, seed=3, epoch=3)).any()
    assert (first != epoch_batches(groups, 16, seed=4, epoch=2)).any()


def test_a_batch_mixes_the_classes_of_data_that_is_stored_class_by_class():
    truth = np.repeat(np.arange(20), 100)  # 20 classes, one after the other
    groups = np.arange(2000) // 13
    batches = epoch_batches(groups, 32, seed=0, epoch=0)
    classes = np.array([len(np.unique(truth[rows])) for rows in batches])
    perfect = np.array([len(np.unique(np.random.default_rng(i).choice(truth, 32, replace=False))) for i in range(62)])
    assert classes.mean() > perfect.mean() - 1


@pytest.mark.parametrize("num_ranks", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("batch_size", [7, 16, 24, 33])
def test_the_ranks_share_every_batch_without_gap_or_overlap(num_ranks: int, batch_size: int):
    shares = [np.arange(batch_size)[share_of(rank, num_ranks, batch_size)] for rank in range(num_ranks)]
    np.testing.assert_array_equal(np.concatenate(shares), np.arange(batch_size))
    sizes = [len(share) for share in shares]
    assert min(sizes) >= 1
    assert max(sizes) - min(sizes) <= 2
    if batch_size % 2 == 0 and batch_size // 2 >= num_ranks:
        assert all(size % 2 == 0 for size in sizes)


def test_a_rank_reads_its_share_of_the_row_groups_and_not_all_of_them():
    groups = row_groups([13] * 400)
    batches = epoch_batches(groups, 32, seed=0, epoch=0)
    for num_ranks in (2, 4, 8):
        read = sum(len(np.unique(groups[batches[:, share_of(rank, num_ranks, 32)]])) for rank in range(num_ranks))
        assert read < 400 * 1.25


def test_row_groups_are_not_read_again_and_again():
    groups = row_groups([13] * 400)
    batches = epoch_batches(groups, 32, seed=0, epoch=0)
    num_steps_used = [np.ptp(np.flatnonzero((groups[batches] == group).any(axis=1))) for group in range(400)]
    # Four groups of 13 are mixed, two clips of a lane a step: a group is in use for some 26 steps.
    assert np.median(num_steps_used) <= 30


@pytest.mark.parametrize(("num_rows", "batch_size"), [(1, 4), (10, 4), (12, 4), (101, 7)])
def test_an_evaluation_has_every_clip_once_in_batches_that_do_not_depend_on_the_ranks(num_rows: int, batch_size: int):
    alone = evaluation_batches(num_rows, batch_size, 0, 1)
    np.testing.assert_array_equal(np.concatenate(alone), np.arange(num_rows))
    for num_ranks in (2, 3, 5):
        shared = [
            rows for rank in range(num_ranks) for rows in evaluation_batches(num_rows, batch_size, rank, num_ranks)
        ]
        assert len(shared) == len(alone)
        for ours, theirs in zip(shared, alone, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        assert evaluation_batches(num_rows, batch_size, 0, num_ranks), "the first rank always has some"
