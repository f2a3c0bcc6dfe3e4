from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidpipe.manifest import files_table, splits
from vidpipe.manifest.audit import audit_splits
from vidpipe.manifest.schema import build_manifest
from vidpipe.manifest.splits import assign_splits, carve_val
from vidpipe.storage import FileInfo

FRACTIONS = {"train": 0.8, "val": 0.1, "test": 0.1}


def videos(labels=None, groups=None, split=None, num_videos=None, versions=None) -> pa.Table:
    number = num_videos or len(labels or groups or split)
    versions = versions or ["1-1"] * number
    files = files_table(FileInfo(f"/v/{index:07d}.mp4", 1, versions[index]) for index in range(number))
    return build_manifest(files, labels, groups, split)


def split_of(manifest: pa.Table) -> dict[str, str]:
    return dict(zip(manifest["video_id"].to_pylist(), manifest["split"].to_pylist(), strict=True))


def shares(manifest: pa.Table) -> dict[str, float]:
    return {split: count / len(manifest) for split, count in Counter(manifest["split"].to_pylist()).items()}


def test_every_label_is_divided_in_the_fractions_asked_for():
    manifest = assign_splits(videos(["a"] * 1000 + ["b"] * 100 + ["c"] * 10), FRACTIONS, seed=0)
    counts = Counter(zip(manifest["label"].to_pylist(), manifest["split"].to_pylist(), strict=True))
    assert [counts["a", split] for split in FRACTIONS] == [800, 100, 100]
    assert [counts["b", split] for split in FRACTIONS] == [80, 10, 10]
    assert [counts["c", split] for split in FRACTIONS] == [8, 1, 1]


def test_videos_without_labels_are_divided_at_random():
    assert shares(assign_splits(videos(num_videos=1000), FRACTIONS, seed=0)) == FRACTIONS


@settings(max_examples=30, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["a", "b", "c", None]), min_size=30, max_size=200),
    seed=st.integers(0, 1000),
    by_groups=st.booleans(),
    data=st.data(),
)
def test_splits_depend_on_the_seed_and_the_videos_and_not_on_the_order_of_rows(labels, seed, by_groups, data):
    groups = [f"g{index // 3}" if index % 5 else None for index in range(len(labels))] if by_groups else None
    manifest = videos(labels, groups)
    order = data.draw(st.permutations(range(len(labels))))
    assert split_of(assign_splits(manifest, FRACTIONS, seed)) == split_of(
        assign_splits(manifest.take(order), FRACTIONS, seed)
    )


def test_another_seed_gives_other_splits():
    manifest = videos(["a", "b"] * 100)
    assert split_of(assign_splits(manifest, FRACTIONS, 0)) != split_of(assign_splits(manifest, FRACTIONS, 1))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=40, max_size=120),
    num_labels=st.integers(1, 6),
    nested=st.booleans(),
    seed=st.integers(0, 1000),
    balanced=st.booleans(),
)
def test_no_group_is_divided_and_the_fractions_come_out_near(sizes, num_labels, nested, seed, balanced):
    groups = [f"g{index}" for index, size in enumerate(sizes) for _ in range(size)]
    rng = np.random.default_rng(seed)
    labels = [f"l{int(group[1:]) % num_labels if nested else rng.integers(num_labels)}" for group in groups]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits, "MAX_BALANCED_GROUPS", 10_000 if balanced else 1)
        manifest = assign_splits(videos(labels, groups), FRACTIONS, seed)
    of_group = set(zip(manifest["group"].to_pylist(), manifest["split"].to_pylist(), strict=True))
    assert len(of_group) == len(sizes)
    tolerance = 0.04 if balanced else 0.12
    assert shares(manifest) == pytest.approx(FRACTIONS, abs=tolerance)
    audit_splits(manifest)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.15, 0.2, 0.25, 0.33, 0.4, 0.5])
def test_any_fraction_of_groups_comes_out_near(fraction):
    groups = [f"g{index // 4}" for index in range(2000)]
    manifest = assign_splits(videos(groups=groups), {"train": 1 - fraction, "val": fraction}, seed=0)
    assert shares(manifest)["val"] == pytest.approx(fraction, abs=0.012)


def test_one_huge_group_goes_to_train():
    groups = ["huge"] * 500 + [f"g{index // 5}" for index in range(500)]
    manifest = assign_splits(videos(groups=groups), FRACTIONS, seed=0)
    assert shares(manifest) == pytest.approx(FRACTIONS, abs=0.03)
    assert set(manifest.filter(pa.compute.equal(manifest["group"], "huge"))["split"].to_pylist()) == {"train"}


def test_three_groups_make_three_splits_and_two_do_not():
    manifest = assign_splits(videos(groups=["a"] * 8 + ["b", "c"]), FRACTIONS, seed=0)
    assert shares(manifest) == FRACTIONS
    with pytest.raises(ValueError, match="2 groups are too few for 3 splits"):
        assign_splits(videos(groups=["a"] * 9 + ["b"]), FRACTIONS, seed=0)


def test_a_label_with_one_video_stays_in_train(caplog):
    manifest = assign_splits(videos(["rare", *["a"] * 50, *["b"] * 50]), FRACTIONS, seed=0)
    assert manifest["split"][0].as_py() == "train"
    assert "1 labels have one of the videos each, which stays in train" in caplog.text


def test_more_labels_than_places_are_divided_without_regard_to_labels(caplog):
    manifest = assign_splits(videos([f"l{index // 2}" for index in range(40)]), FRACTIONS, seed=0)
    assert shares(manifest) == FRACTIONS
    assert "too few to give each label its share" in caplog.text


def test_too_few_videos_for_a_split_are_refused():
    with pytest.raises(ValueError, match=r"4 videos are too few for val to get 0.1"):
        assign_splits(videos(["a"] * 4), FRACTIONS, seed=0)


def test_val_is_carved_from_train_by_whole_groups_and_all_else_stays():
    groups = [f"g{index // 5}" for index in range(1000)]
    split = [["train", "train", "test", "unused", None][index // 5 % 5] for index in range(1000)]
    before = videos(["a", "b"] * 500, groups, split)
    after = carve_val(before, 0.1, seed=0)
    moved = [
        (old, new)
        for old, new in zip(before["split"].to_pylist(), after["split"].to_pylist(), strict=True)
        if old != new
    ]
    assert set(moved) == {("train", "val")}
    assert len(moved) == pytest.approx(40, abs=5)
    audit_splits(after)


ETAG = "0123456789abcdef0123456789abcdef"


def test_a_group_in_two_splits_is_a_leak_that_can_be_allowed(caplog):
    manifest = videos(groups=["g1", "g1", "g2", "g2", "g3"], split=["train", "test", "train", "train", "val"])
    with pytest.raises(ValueError, match=r"1 groups are in .* g1 \(test: /v/0000001.mp4, train: .*--allow-leakage"):
        audit_splits(manifest)
    audit_splits(manifest, allow_leakage=True)
    assert "1 groups are in more than one split" in caplog.text


@pytest.mark.parametrize("version", [ETAG, f"{ETAG}-12", "1B2M2Y8AsgTpgAmY7PhCfg==", "ab" * 32])
def test_the_same_content_in_two_splits_is_a_leak(version):
    with pytest.raises(ValueError, match=r"1 contents .* are in more than one split"):
        audit_splits(videos(split=["train", "test"], versions=[version, version]))


@pytest.mark.parametrize("version", ["1-1700000000000000000", "v1", "missing"])
def test_a_version_that_is_no_content_hash_proves_no_leak(version):
    audit_splits(videos(split=["train", "test"], versions=[version, version]))


def test_videos_that_are_unused_or_in_no_split_do_not_leak():
    audit_splits(videos(groups=["g"] * 3, split=["train", "unused", None], versions=[ETAG] * 3))


def test_videos_of_equal_content_are_put_into_one_split():
    versions = [f"{index // 4:032x}" for index in range(400)]
    groups = [f"g{index // 3}" if index < 30 else None for index in range(400)]
    manifest = assign_splits(videos(["a", "b"] * 200, groups, versions=versions), FRACTIONS, seed=0)
    audit_splits(manifest)
    assert len(set(manifest["split"].to_pylist()[:12])) == 1, "joined by a chain of groups and contents"
    assert shares(manifest) == pytest.approx(FRACTIONS, abs=0.03)


def test_empty_files_are_not_the_same_content():
    files = files_table(FileInfo(f"{index}", 0, "d41d8cd98f00b204e9800998ecf8427e") for index in range(2))
    audit_splits(build_manifest(files, split=["train", "test"]))
