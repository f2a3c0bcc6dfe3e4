"""Train, val and test: by fractions, in proportion per label, never through a group."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import ShuffleSplit, StratifiedGroupKFold, StratifiedShuffleSplit

from vidpipe.errors import UsageError
from vidpipe.manifest.audit import contents

logger = logging.getLogger(__name__)

# The grouped splitter of scikit-learn balances group by group, at groups × folds × labels; past this many groups
# chance alone balances them well.
MAX_BALANCED_GROUPS = 10_000
MAX_FOLDS = 25


def assign_splits(manifest: pa.Table, fractions: dict[str, float], seed: int) -> pa.Table:
    """The manifest with each video in a split, so that each split gets near its fraction of the videos.

    Every label is divided in the same proportion as far as it goes; a label with one video stays in train. The videos
    of a group stay together, and so do those of equal content. The same seed gives the same splits, whatever the order
    of the rows. The fractions, of "train" and others, sum to 1.
    """
    asked = {split: fraction for split, fraction in fractions.items() if split != "train" and fraction > 0}
    by_id = pc.sort_indices(manifest["video_id"])
    label = _codes(manifest["label"].take(by_id))
    group = _inseparable(manifest.take(by_id))
    if group.max() + 1 == len(manifest):
        chosen = _split_units(label, asked, seed, "videos")
    else:
        chosen = _split_groups(label, group, asked, seed)
    for index, (split_name, fraction) in enumerate(asked.items(), 1):
        share = np.mean(chosen == index)
        if abs(share - fraction) > fraction / 4:
            logger.warning(
                "%s gets %.3g of the videos, not %g, for few videos or large groups", split_name, share, fraction
            )
    split = np.empty(len(manifest), dtype=object)
    split[by_id.to_numpy()] = np.array(["train", *asked], dtype=object)[chosen]
    index = manifest.schema.get_field_index("split")
    return manifest.set_column(index, manifest.schema.field(index), pa.array(split, pa.string()))


def carve_val(manifest: pa.Table, fraction: float, seed: int) -> pa.Table:
    """Move a fraction of the train videos to val, and leave all others where they are."""
    is_train = pc.fill_null(pc.equal(manifest["split"], "train"), False)
    carved = assign_splits(manifest.filter(is_train), {"train": 1 - fraction, "val": fraction}, seed)
    split = pc.replace_with_mask(
        manifest["split"].combine_chunks(), is_train.combine_chunks(), carved["split"].combine_chunks()
    )
    index = manifest.schema.get_field_index("split")
    return manifest.set_column(index, manifest.schema.field(index), split)


def _codes(values: pa.ChunkedArray) -> np.ndarray:
    """Whole numbers that stand for the values, null included, in the order of the values."""
    encoded = values.combine_chunks().dictionary_encode(null_encoding="encode")
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rank[encoded.indices.to_numpy()]


def _inseparable(manifest: pa.Table) -> np.ndarray:
    """For each video the number of its set: a chain of groups or equal contents joins the videos of a set."""
    own = pc.binary_join_element_wise("video", manifest["video_id"], "/")
    group = _codes(pc.coalesce(manifest["group"], own))
    content = _codes(pc.coalesce(contents(manifest), own)) + group.max() + 1
    num_nodes = content.max() + 1
    joins = coo_array((np.ones(len(group), dtype=np.int8), (group, content)), shape=(num_nodes, num_nodes))
    _, component = connected_components(joins, directed=False)
    return component[group].astype(np.int64)


def _split_units(label: np.ndarray, asked: dict[str, float], seed: int, name: str) -> np.ndarray:
    """For each unit 0 (train) or 1 + the index of a split asked for, stratified by label."""
    chosen = np.zeros(len(label), dtype=np.int64)
    for index, (split, fraction) in enumerate(asked.items(), 1):
        num_wanted = round(fraction * len(label))
        free = np.flatnonzero(chosen == 0)
        counts = np.bincount(label[free])
        single = counts[label[free]] < 2
        pool = free[~single]
        num_labels = np.count_nonzero(counts >= 2)
        if num_wanted < 1 or len(free) <= num_wanted:
            raise UsageError(
                f"{len(label)} {name} are too few for {split} to get {fraction:g} of them; "
                "use fewer splits, a larger fraction or more videos"
            )
        if num_labels <= num_wanted <= len(pool) - num_labels:
            splitter = StratifiedShuffleSplit(n_splits=1, test_size=num_wanted, random_state=seed + index)
        else:
            logger.warning(
                "%s gets %d %s of %d labels, too few to give each label its share", split, num_wanted, name, num_labels
            )
            splitter = ShuffleSplit(n_splits=1, test_size=num_wanted, random_state=seed + index)
            pool = pool if len(pool) > num_wanted else free
        _, taken = next(splitter.split(np.zeros(len(pool)), label[pool]))
        chosen[pool[taken]] = index
        if single.any() and index == 1:
            logger.warning("%d labels have one of the %s each, which stays in train", np.sum(counts == 1), name)
    return chosen


def _split_groups(label: np.ndarray, group: np.ndarray, asked: dict[str, float], seed: int) -> np.ndarray:
    """As `_split_units`, with whole groups; the fractions are of videos, as near as the groups' sizes allow."""
    num_groups = int(group.max()) + 1
    if num_groups > MAX_BALANCED_GROUPS:
        return _split_units(_main_label(label, group), asked, seed, "groups")[group]
    if num_groups < len(asked) + 1:
        raise UsageError(
            f"{num_groups} groups are too few for {len(asked) + 1} splits, as a group is never divided; "
            "use fewer splits or finer groups"
        )
    num_folds = _num_folds(list(asked.values()), min(MAX_FOLDS, num_groups))
    strata = label if np.bincount(label).max() >= num_folds else np.zeros_like(label)
    fold = np.empty(len(label), dtype=np.int64)
    splitter = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")
        for index, (_, members) in enumerate(splitter.split(fold, strata, group)):
            fold[members] = index
    sizes = np.bincount(fold, minlength=num_folds)
    free = [index for index in range(num_folds) if sizes[index]]
    chosen_of_fold = np.zeros(num_folds, dtype=np.int64)
    for index, fraction in enumerate(asked.values(), 1):
        missing = fraction * len(label)
        # One fold at least stays for train and for each split still to come.
        while len(free) > len(asked) - index + 1:
            best = min(free, key=lambda candidate: abs(missing - sizes[candidate]))
            if index in chosen_of_fold and abs(missing - sizes[best]) >= abs(missing):
                break
            missing -= sizes[best]
            chosen_of_fold[best] = index
            free.remove(best)
    return chosen_of_fold[fold]


def _num_folds(fractions: list[float], most: int) -> int:
    """The fewest folds of which whole numbers make the fractions to 1 in 100; else those that come nearest."""

    def error(num_folds: int) -> float:
        nearest = [max(1, round(fraction * num_folds)) / num_folds for fraction in fractions]
        return max(abs(near - fraction) for near, fraction in zip(nearest, fractions, strict=True))

    candidates = range(len(fractions) + 1, most + 1)
    return next((num for num in candidates if error(num) <= 0.01), min(candidates, key=error))


def _main_label(label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The most frequent label of each group."""
    pairs, counts = np.unique(np.stack([group, label]), axis=1, return_counts=True)
    order = np.lexsort((counts, pairs[0]))
    last_of_group = np.flatnonzero(np.diff(pairs[0][order], append=-1))
    return pairs[1][order][last_of_group]
