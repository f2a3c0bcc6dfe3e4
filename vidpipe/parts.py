"""Parts: the files of the clips table, written whole. Reading them is `vidpipe.clips`.

Frames are stored as `fixed_size_binary`, a clip's raw uint8 (T, H, W, C) in row-major order (or as a list of JPEGs):
Parquet has no 8-bit integers, and a tensor column costs four to five times the CPU of the same bytes as binary.
"""

from __future__ import annotations

import hashlib
import io
import json
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidpipe import __version__
from vidpipe.file_errors import own_file
from vidpipe.guard import Clip
from vidpipe.own_files import METADATA_KEY, parquet_metadata
from vidpipe.spec import ClipSpec
from vidpipe.transfer import arrow_buffer, join

ROW_GROUP_BYTES = 8 << 20  # a worker holds three of them; larger ones make the file no smaller
ZSTD_LEVEL = 2  # of 117 real clips of 602 KB: 1.4 ms and 337 KB each; level 1: 1.2 and 354, level 3: 2.4 and 324
RECEIPTS_KEY = b"vidpipe.receipts"
PLAIN_COLUMNS = {
    "video_id": pa.string(),
    "url": pa.string(),
    "version": pa.string(),
    "clip_index": pa.int32(),
    "label": pa.string(),
    "split": pa.string(),
    "group": pa.string(),
    "start_s": pa.float64(),
    "end_s": pa.float64(),
    "frame_pts_s": pa.list_(pa.float64()),
    "num_repeated": pa.int32(),
    "max_shift_s": pa.float64(),
}
REPEATING_COLUMNS = ["video_id", "url", "version", "label", "split", "group"]


def clips_schema(spec: ClipSpec, decoder_versions: dict[str, str]) -> pa.Schema:
    """Columns of the clips table; the metadata under `vidpipe` holds shape, spec and decoder."""
    frames = pa.binary(spec.num_bytes_raw) if spec.encoding == "raw" else pa.list_(pa.binary())
    facts = {
        "shape": spec.shape,
        "layout": "THWC uint8, row-major" if spec.encoding == "raw" else "T JPEG images",
        "clip_spec": json.loads(spec.to_json()),
        "is_exact": spec.is_exact,
        "decoder": decoder_versions,
        "vidpipe": __version__,
    }
    return pa.schema({**PLAIN_COLUMNS, "frames": frames}, {METADATA_KEY: json.dumps(facts).encode()})


def spec_of(schema: pa.Schema) -> ClipSpec:
    """The settings that a clips or status file was made with."""
    return ClipSpec.from_stored(json.loads(schema.metadata[METADATA_KEY])["clip_spec"])


def own_part(url: str) -> AbstractContextManager[None]:
    """Raise DamagedFileError, which names the part, where it cannot be read."""
    return own_file(
        url, "remove it and all of status/ beside clips/, and preprocess again: the other parts are taken as they are"
    )


class PartWriter:
    """Writes one part to a local file, row group by row group; holds at most one row group in memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path = path
        self.schema = schema
        self.num_rows = 0
        self._rows: list[dict[str, Any]] = []
        self._buffered_bytes = 0
        self._flushed_rows = 0
        self._void: list[tuple[int, int]] = []
        self._writer = open_part(path, schema)

    @property
    def num_bytes(self) -> int:
        """Bytes on disk so far, and what is waiting in memory as it is."""
        return self.path.stat().st_size + self._buffered_bytes

    def add(self, video: dict[str, Any], clip: Clip) -> None:
        """Append one clip of the manifest row `video`."""
        if self._buffered_bytes and self._buffered_bytes + len(clip.payload) > ROW_GROUP_BYTES:
            self._flush()
        row = {name: video[name] for name in REPEATING_COLUMNS}
        for name in ("clip_index", "start_s", "end_s", "frame_pts_s", "num_repeated", "max_shift_s"):
            row[name] = getattr(clip, name)
        row["frames"] = clip.payload if clip.sizes is None else _cut(clip.payload, clip.sizes)
        self._rows.append(row)
        self._buffered_bytes += len(clip.payload)
        self.num_rows += 1

    def drop_back_to(self, num_rows: int) -> None:
        """Take back every row after the first `num_rows`: their video did not end well."""
        if num_rows < self._flushed_rows:
            self._void.append((num_rows, self._flushed_rows))
        kept = max(num_rows - self._flushed_rows, 0)
        self._rows = self._rows[:kept]
        self._buffered_bytes = sum(_num_bytes(row["frames"]) for row in self._rows)
        self.num_rows = self._flushed_rows + kept

    def close(self, receipts: list[dict[str, Any]]) -> None:
        """Finish the file; `receipts` of its videos go into its metadata, so that a finished part speaks for itself."""
        self._flush()
        metadata = {RECEIPTS_KEY: json.dumps(receipts).encode()}
        self._writer.add_key_value_metadata(metadata)
        self._writer.close()
        if self._void:
            self._rewrite_without_void(metadata)

    def abandon(self) -> None:
        self._writer.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._rows:
            columns = [column([row[field.name] for row in self._rows], field.type) for field in self.schema]
            self._writer.write_table(pa.Table.from_arrays(columns, schema=self.schema))
            self._flushed_rows += len(self._rows)
            self._rows, self._buffered_bytes = [], 0

    def _rewrite_without_void(self, metadata: dict[bytes, bytes]) -> None:
        """Copy the part without the rows of long videos that failed after their first clips were on disk."""
        whole = self.path.with_name(self.path.name + ".whole")
        first_row = 0
        with pq.ParquetFile(self.path) as source, open_part(whole, self.schema) as target:
            for group in range(source.num_row_groups):
                table = source.read_row_group(group)
                rows = np.arange(first_row, first_row + len(table))
                keep = np.ones(len(table), bool)
                for start, stop in self._void:
                    keep &= (rows < start) | (rows >= stop)
                if keep.any():
                    target.write_table(table.filter(pa.array(keep)))
                first_row += len(table)
            target.add_key_value_metadata(metadata)
        whole.replace(self.path)
        self.num_rows -= sum(stop - start for start, stop in self._void)


def open_part(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer with the measured settings: zstd on raw pixels, none on JPEG, no dictionary of frames."""
    is_raw = pa.types.is_fixed_size_binary(schema.field("frames").type)
    frames = "frames" if is_raw else "frames.list.element"
    compression = dict.fromkeys(PLAIN_COLUMNS, "zstd") | {"frame_pts_s.list.element": "zstd"}
    del compression["frame_pts_s"]
    return pq.ParquetWriter(
        path,
        schema,
        compression={**compression, frames: "zstd" if is_raw else "none"},
        compression_level=dict.fromkeys([*compression, *([frames] if is_raw else [])], ZSTD_LEVEL),
        use_dictionary=REPEATING_COLUMNS,
        write_statistics=["video_id", "clip_index", "label", "split", "start_s"],
    )


def column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """An Arrow column, made of its buffers: `pa.array` would load pandas to see whether the values are of it, 40 MB."""
    is_there = np.array([value is not None for value in values])
    validity = None if is_there.all() else arrow_buffer(np.packbits(is_there, bitorder="little").data)
    if pa.types.is_fixed_size_binary(kind):
        return pa.Array.from_buffers(kind, len(values), [validity, arrow_buffer(b"".join(values))])
    if pa.types.is_primitive(kind):
        numbers = np.array(values, np.dtype(str(kind)))
        return pa.Array.from_buffers(kind, len(values), [validity, arrow_buffer(numbers.data)])
    if pa.types.is_list(kind):
        items = column([item for value in values for item in value or ()], kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [validity, _offsets(values)], children=[items])
    contents = [_as_bytes(value) for value in values]
    return pa.Array.from_buffers(kind, len(values), [validity, _offsets(contents), arrow_buffer(b"".join(contents))])


def _offsets(values: list[Any]) -> pa.Buffer:
    return arrow_buffer(np.cumsum([0, *(len(value or ()) for value in values)], dtype=np.int32).data)


def _as_bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def part_name(spec: ClipSpec, receipts: list[dict[str, Any]]) -> str:
    """A part is named by what is in it: the settings, and which content of which videos."""
    content = [spec.key, *(f"{row['video_id']} {row['version']} {row['num_clips']}" for row in receipts)]
    labels = [f"{row['label']} {row['split']} {row['group']}" for row in receipts]
    return hashlib.blake2b("\n".join(content + labels).encode(), digest_size=12).hexdigest() + ".parquet"


def part_receipts(output: str, name: str, spec: ClipSpec) -> list[dict[str, Any]]:
    """The receipts that a finished part carries, from its footer alone; none when its settings are others."""
    metadata = parquet_metadata(join(output, "clips", name))
    if metadata is None or RECEIPTS_KEY not in metadata:
        return []
    made_with = ClipSpec.from_stored(json.loads(metadata[METADATA_KEY])["clip_spec"])
    return json.loads(metadata[RECEIPTS_KEY]) if made_with == spec else []


def _cut(payload: bytes, sizes: list[int]) -> list[bytes]:
    stream = io.BytesIO(payload)
    return [stream.read(size) for size in sizes]


def _num_bytes(frames: bytes | list[bytes]) -> int:
    return len(frames) if isinstance(frames, bytes) else sum(map(len, frames))
