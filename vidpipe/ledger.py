"""What was done to each video: one status row each, committed in whole files; and what is left to do.

`status/` holds files named by a growing number. Of two rows of one video the one in the later file counts, so replacing
a row is writing a new one, and a crash between two steps leaves a state that reads as one of them. A part of clips that
no status row names is garbage: readers never see it, and `sweep` removes it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidpipe.parts import METADATA_KEY, part_receipts, spec_of
from vidpipe.spec import ClipSpec
from vidpipe.storage import filesystem
from vidpipe.transfer import file_names, join, put_bytes, read_buffer, remove_files

STATUS_COLUMNS = {
    "video_id": pa.string(),
    "url": pa.string(),
    "version": pa.string(),
    "status": pa.string(),
    "stage": pa.string(),
    "error_code": pa.string(),
    "error": pa.string(),
    "num_clips": pa.int64(),
    "num_damaged": pa.int64(),
    "part": pa.string(),
    "decode_s": pa.float64(),
    "bytes_read": pa.int64(),
    "num_requests": pa.int64(),
    "duration_s": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "codec": pa.string(),
    "label": pa.string(),
    "split": pa.string(),
    "group": pa.string(),
}
LABEL_COLUMNS = ["label", "split", "group"]
SMALL_FILE_ROWS = 50_000


@dataclass(frozen=True)
class WorkLeft:
    """A manifest split by what has to be done to its videos."""

    todo: pa.Table
    """Manifest rows to decode: new, changed, or failed and to be retried."""
    relabelled: pa.Table
    """Manifest rows whose clips are right, but carry another label, split or group."""
    num_unchanged: int
    num_unchanged_failed: int
    """Those of the unchanged whose status is failed."""
    num_new: int
    num_changed: int
    num_retried: int
    num_gone: int
    """Videos with a status that the manifest does not list (any more); they keep it, and their clips."""


class Ledger:
    """The status table of one output; all clips of an output have one ClipSpec."""

    def __init__(self, output: str, spec: ClipSpec) -> None:
        self.output = output
        self.spec = spec
        self.folder = join(output, "status")
        self.schema = status_schema(spec)
        self._check_settings(spec)

    def read(self, columns: Iterable[str] = STATUS_COLUMNS) -> pa.Table:
        """The status of every video, one row each."""
        return latest_rows(self._read_all([*columns]))

    def commit(self, rows: list[dict[str, Any]] | pa.Table) -> None:
        """Write status rows; they count from the moment that the file is there, all of them at once."""
        table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows, self.schema)
        sink = io.BytesIO()
        pq.write_table(table.cast(self.schema), sink, compression="zstd")
        names = self._names()
        number = int(names[-1].split("-")[0]) + 1 if names else 1
        digest = hashlib.blake2b(sink.getvalue(), digest_size=6).hexdigest()
        put_bytes(sink.getvalue(), join(self.folder, f"{number:010d}-{digest}.parquet"))

    def work_left(self, manifest: pa.Table, *, retry_failed: bool) -> WorkLeft:
        """Compare a manifest with the status table."""
        status = self.read(["video_id", "version", "status", *LABEL_COLUMNS])
        position = pc.index_in(manifest["video_id"], value_set=status["video_id"].combine_chunks())
        known = pc.is_valid(position)

        def before(column: str) -> pa.ChunkedArray:
            return status[column].take(position)

        same_version = pc.fill_null(pc.equal(manifest["version"], before("version")), False)
        failed = pc.fill_null(pc.equal(before("status"), "failed"), False)
        retried = pc.and_(pc.and_(same_version, failed), retry_failed)
        done = pc.and_not(same_version, retried)
        other_label = pa.array(np.zeros(len(manifest), bool))
        for column in LABEL_COLUMNS:
            same = pc.equal(pc.fill_null(manifest[column], ""), pc.fill_null(before(column), ""))
            other_label = pc.or_(other_label, pc.invert(pc.fill_null(same, True)))
        seen = pc.is_in(status["video_id"], value_set=manifest["video_id"].combine_chunks())
        return WorkLeft(
            todo=manifest.filter(pc.invert(done)) if _count(done) else manifest,
            relabelled=manifest.filter(pc.and_(done, other_label)),
            num_unchanged=_count(done),
            num_unchanged_failed=_count(pc.and_(done, failed)),
            num_new=_count(pc.invert(known)),
            num_changed=_count(pc.and_not(known, same_version)),
            num_retried=_count(retried),
            num_gone=len(status) - _count(seen),
        )

    def parts(self) -> list[str]:
        """Names of the parts that hold clips; any other file in `clips/` is garbage."""
        return sorted(name for name in pc.unique(self.read(["video_id", "part"])["part"]).to_pylist() if name)

    def adopt(self, todo: pa.Table) -> int:
        """Commit finished parts that an earlier run wrote and had no time to record; returns how many videos.

        A part is taken only when it has these settings and every video in it is still to do, in the version it holds.
        """
        names = self._unnamed_parts()
        if not names:
            return 0
        wanted = dict(zip(todo["video_id"].to_pylist(), todo["version"].to_pylist(), strict=True))
        adopted: list[dict[str, Any]] = []
        for name in names:
            receipts = part_receipts(self.output, name, self.spec)
            if receipts and all(wanted.get(row["video_id"]) == row["version"] for row in receipts):
                adopted += receipts
                for row in receipts:
                    del wanted[row["video_id"]]
        if adopted:
            self.commit(adopted)
        return len(adopted)

    def stale_parts(self) -> list[str]:
        """Parts in use that still hold clips of a video whose status has moved on (changed, or failed since)."""
        every = self._read_all(["video_id", "part"])
        latest = every.take(pa.array(latest_indices(every)))
        now = latest["part"].take(pc.index_in(every["video_id"], value_set=latest["video_id"].combine_chunks()))
        # A row that was written again as it is, as by a compaction that broke off, moves nothing.
        moved = pc.not_equal(every["part"], pc.fill_null(now, ""))
        return sorted(set(pc.drop_null(every.filter(moved)["part"]).to_pylist()) & set(latest["part"].to_pylist()))

    def sweep(self) -> int:
        """Remove parts that no status row names and files that were never finished; returns how many."""
        names = self._unnamed_parts(finished_only=False)
        remove_files(join(self.output, "clips"), names)
        return len(names)

    def compact(self) -> None:
        """Merge small status files, and those with replaced rows, into one: each video has one row for any reader."""
        sizes = {name: self._num_rows(name) for name in self._names()}
        num_rows = sum(sizes.values())
        if len(sizes) < 2:
            return
        every = self._read_all(["video_id"])
        if len(latest_rows(every)) == num_rows:
            merged = [name for name, size in sizes.items() if size < SMALL_FILE_ROWS]
        else:
            merged = list(sizes)
        if len(merged) < 2:
            return
        # Rows of the other files are not replaced by these: no video is in two files.
        self.commit(latest_rows(self._read_all(list(STATUS_COLUMNS), merged)))
        remove_files(self.folder, merged)

    def _check_settings(self, spec: ClipSpec) -> None:
        names = self._names()
        if not names:
            return
        made_with = spec_of(read_schema(join(self.folder, names[-1])))
        differences = made_with.differences(spec)
        if differences:
            raise ValueError(
                f"{self.output} holds clips made with other settings ({'; '.join(differences)}); "
                "give the same flags as then, or another --output"
            )

    def _names(self) -> list[str]:
        return status_files(self.output)

    def _unnamed_parts(self, *, finished_only: bool = True) -> list[str]:
        names = file_names(join(self.output, "clips"))
        if finished_only:
            names = [name for name in names if name.endswith(".parquet") and not name.startswith(".")]
        return sorted(set(names) - set(self.parts()))

    def _num_rows(self, name: str) -> int:
        fs, path = filesystem(join(self.folder, name))
        with fs.open(path, "rb") as file:
            return pq.read_metadata(file).num_rows

    def _read_all(self, columns: list[str], names: list[str] | None = None) -> pa.Table:
        """Rows of all files in the order in which they were committed."""
        tables = [pa.schema([self.schema.field(column) for column in columns]).empty_table()]
        for name in self._names() if names is None else names:
            data = read_buffer(join(self.folder, name))
            tables.append(pq.read_table(pa.BufferReader(data), columns=columns).replace_schema_metadata())
        return pa.concat_tables(tables)


def open_ledger(output: str) -> Ledger:
    """The ledger of an output that is there; ValueError when there is none."""
    names = status_files(output)
    if not names:
        raise ValueError(f"{output} holds no clips: it has no status/*.parquet; make them with jobs/preprocess.py")
    return Ledger(output, spec_of(read_schema(join(output, "status", names[-1]))))


def status_files(output: str) -> list[str]:
    return [name for name in file_names(join(output, "status")) if name.endswith(".parquet")]


def read_schema(url: str) -> pa.Schema:
    fs, path = filesystem(url)
    with fs.open(path, "rb") as file:
        return pq.read_schema(file)


def status_schema(spec: ClipSpec) -> pa.Schema:
    """Columns of the status table; its metadata holds the settings of the clips."""
    return pa.schema(STATUS_COLUMNS, {METADATA_KEY: json.dumps({"clip_spec": json.loads(spec.to_json())}).encode()})


def latest_rows(table: pa.Table) -> pa.Table:
    """The last row of each video, in the order of the table."""
    kept = latest_indices(table)
    return table if len(kept) == len(table) else table.take(pa.array(kept))


def latest_indices(table: pa.Table) -> np.ndarray:
    """Row numbers of `latest_rows`, ascending."""
    numbered = pa.table({"video_id": table["video_id"], "row": np.arange(len(table))})
    return np.sort(numbered.group_by("video_id").aggregate([("row", "max")])["row_max"].to_numpy())


def _count(mask: pa.ChunkedArray | pa.Array) -> int:
    return pc.sum(mask).as_py() or 0
