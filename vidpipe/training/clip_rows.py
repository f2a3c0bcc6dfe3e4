"""Where the clips of a split lie, and whose they are: small columns of all parts, read once by the driver."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.answers import group_codes
from vidpipe.clips import part_urls
from vidpipe.errors import UsageError
from vidpipe.ledger import open_ledger
from vidpipe.parts import own_part
from vidpipe.plain_tables import open_parquet
from vidpipe.sampling import clip_spans_s, clip_weights
from vidpipe.spec import ClipSpec
from vidpipe.storage import filesystem, storage_errors

NUM_READERS = 16
COLUMNS = ["video_id", "clip_index", "label", "split", "start_s", "end_s", "num_repeated"]


@dataclass(frozen=True)
class ClipRows:
    """The clips of one split: `N` rows, in the order in which they are stored."""

    spec: ClipSpec
    places: list[tuple[str, int]]
    """URL of the part and number of the row group, of each row group."""
    group: np.ndarray
    """(N,) index into `places`."""
    row: np.ndarray
    """(N,) row within the row group."""
    video_ids: np.ndarray
    """(N,) str."""
    clip_index: np.ndarray
    """(N,) number of the clip within its video."""
    truth: np.ndarray
    """(N,) index into the labels."""
    weights: np.ndarray
    """(N,) how much the clip counts for its video; see `sampling.clip_weights`."""
    failed: np.ndarray
    """(F,) index into the labels, of the videos of this split that failed to decode: they count as wrong."""
    groups: np.ndarray | None
    """(V + F,) equal whole numbers for videos of one group: of the videos in the order of their ids, then of the failed
    ones. None where the split has no groups."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def num_videos(self) -> int:
        return len(np.unique(self.video_ids))


@dataclass(frozen=True)
class LabelledClips:
    """All that training knows of a preprocess output before it reads a frame."""

    output: str
    spec: ClipSpec
    labels: tuple[str, ...]
    splits: dict[str, ClipRows]
    key: str
    """Changes with every clip, label and split."""
    clip_span_s: float
    """Median over the training clips; see `sampling.clip_spans_s`."""


def labelled_clips(output: str, train_split: str, val_split: str, test_split: str) -> LabelledClips:
    """The splits of a preprocess output; UsageError says what it lacks for training."""
    with storage_errors(output):
        ledger = open_ledger(output)
        status = ledger.read(["video_id", "status", "label", "split", "version", "group"])
        table = _read_rows(part_urls(output))
    wanted = [train_split, val_split, *([test_split] if pc.any(pc.equal(status["split"], test_split)).as_py() else [])]
    _check_splits(output, status, wanted)
    labels = _check_labels(output, status, train_split, wanted)
    places = sorted({*zip(table["url"].to_pylist(), table["group"].to_pylist(), strict=True)})
    splits = {name: _rows_of(table, status, name, labels, places, ledger.spec) for name in wanted}
    for name, rows in splits.items():
        if not len(rows):
            raise UsageError(
                f"no video of split {name} in {output} was decoded ({len(rows.failed)} failed); the reasons are in "
                "its status/, preprocess them with --retry-failed"
            )
    known = status.select(["video_id", "version", "label", "split", "status"]).sort_by("video_id")
    digest = hashlib.blake2b(repr([ledger.spec.key, *known.to_pydict().values()]).encode(), digest_size=8)
    train = table.filter(pc.equal(table["split"], train_split))
    starts_s, ends_s, num_repeated = (train[name].to_numpy() for name in ("start_s", "end_s", "num_repeated"))
    spans_s = clip_spans_s(starts_s, ends_s, num_repeated, ledger.spec)
    return LabelledClips(output, ledger.spec, labels, splits, digest.hexdigest(), float(np.median(spans_s)))


def _read_rows(urls: list[str]) -> pa.Table:
    """`COLUMNS` of all parts with url, row group and row."""

    def read(url: str) -> list[pa.Table]:
        fs, path = filesystem(url)
        tables = []
        with own_part(url), fs.open(path, "rb") as file, open_parquet(file) as source:
            for group in range(source.num_row_groups):
                table = source.read_row_group(group, COLUMNS, use_threads=False)
                place = {"url": [url] * len(table), "group": [group] * len(table), "row": np.arange(len(table))}
                tables.append(pa.table({**{name: table[name] for name in COLUMNS}, **place}))
        return tables

    with ThreadPoolExecutor(NUM_READERS) as pool:
        return pa.concat_tables([table for tables in pool.map(read, urls) for table in tables])


def _check_splits(output: str, status: pa.Table, wanted: list[str]) -> None:
    counts = {row["values"]: row["counts"] for row in pc.value_counts(status["split"]).to_pylist()}
    for name in wanted:
        if not counts.get(name):
            have = ", ".join(f"{split or 'none'} {number}" for split, number in counts.items())
            raise UsageError(
                f"{output} has no videos in split {name} (it has: {have}); split the manifest "
                "with jobs/index.py --val-fraction 0.2 and preprocess again (nothing is decoded twice), or name "
                "another split"
            )


def _check_labels(output: str, status: pa.Table, train_split: str, wanted: list[str]) -> tuple[str, ...]:
    used = status.filter(pc.is_in(status["split"], value_set=pa.array(wanted)))
    unlabelled = used.filter(pc.is_null(used["label"]))
    if len(unlabelled):
        raise UsageError(
            f"{len(unlabelled)} of {len(used)} videos in {output} have no label (first: "
            f"{unlabelled['video_id'][0].as_py()}); make the manifest with jobs/index.py --layout folders, or fill its "
            "column label, and preprocess again (nothing is decoded twice)"
        )
    labels = tuple(sorted(set(used.filter(pc.equal(used["split"], train_split))["label"].to_pylist())))
    strangers = sorted(set(used["label"].to_pylist()) - set(labels))
    if strangers:
        raise UsageError(
            f"{len(strangers)} labels have no video in split {train_split}, but some in {' or '.join(wanted[1:])} "
            f"(first: {strangers[0]}); no model can learn them: move videos to {train_split}, or drop these labels"
        )
    if len(labels) < 2:
        raise UsageError(f"split {train_split} of {output} has the one label {labels[0]}; training needs two or more")
    return labels


def _rows_of(
    table: pa.Table,
    status: pa.Table,
    split: str,
    labels: tuple[str, ...],
    places: list[tuple[str, int]],
    spec: ClipSpec,
) -> ClipRows:
    value_set = pa.array(labels)
    rows = table.filter(pc.equal(table["split"], split))
    number_of = {place: number for number, place in enumerate(places)}
    group = [number_of[place] for place in zip(rows["url"].to_pylist(), rows["group"].to_pylist(), strict=True)]
    failed = status.filter(pc.and_(pc.equal(status["split"], split), pc.equal(status["status"], "failed")))
    video_ids = np.array(rows["video_id"].to_pylist(), dtype=str)
    asked = pa.array([*np.unique(video_ids).tolist(), *failed["video_id"].to_pylist()], pa.string())
    group_names = status["group"].take(pc.index_in(asked, value_set=status["video_id"].combine_chunks()))
    return ClipRows(
        spec=spec,
        places=places,
        group=np.array(group, np.int64),
        row=rows["row"].to_numpy(),
        video_ids=video_ids,
        clip_index=rows["clip_index"].to_numpy(),
        truth=pc.index_in(rows["label"], value_set=value_set).to_numpy().astype(np.int64),
        weights=_weights(rows, spec),
        failed=pc.index_in(failed["label"], value_set=value_set).to_numpy().astype(np.int64),
        groups=group_codes(group_names),
    )


def _weights(rows: pa.Table, spec: ClipSpec) -> np.ndarray:
    """Weight of each clip (N,): 1, or the seconds of a window; clips lie video after video, as they were cut."""
    if spec.sampling != "windows":
        return np.ones(len(rows))
    starts_s, ends_s = rows["start_s"].to_numpy(), rows["end_s"].to_numpy()
    ids = rows["video_id"].to_numpy(zero_copy_only=False)
    firsts = np.flatnonzero(np.append(len(ids) > 0, ids[1:] != ids[:-1]))
    of_videos = zip(np.split(starts_s, firsts[1:]), np.split(ends_s, firsts[1:]), strict=True)
    return np.concatenate([clip_weights(*spans_s, spec) for spans_s in of_videos])
