"""Read the table of clips, in plain Python or with Ray Data: frames as numpy arrays or Arrow tensors.

    for clips in read_clips("s3://bucket/out", split="train"):  # a row group at a time
        clips.numpy()  # (N, T, H, W, C) uint8

Only parts that the status table names are read: what an interrupted run left behind is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidpipe.ledger import open_ledger
from vidpipe.parts import own_part, spec_of
from vidpipe.plain_tables import open_parquet
from vidpipe.spec import ClipSpec
from vidpipe.storage import filesystem
from vidpipe.transfer import join


@dataclass(frozen=True)
class ClipTable:
    """Some clips in memory, with what their file says about them."""

    table: pa.Table
    spec: ClipSpec

    def numpy(self) -> np.ndarray:
        """Frames (N, T, H, W, C) uint8; of raw clips a read-only view, without a copy where Arrow holds one buffer."""
        column = self.table.column("frames")
        if not len(column):
            return np.empty((0, *self.spec.shape), np.uint8)
        if self.spec.encoding == "jpeg":
            return np.stack([decode_jpegs(images, self.spec) for images in column.to_pylist()])
        chunk = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        if isinstance(chunk, pa.ChunkedArray):
            chunk = pa.concat_arrays(chunk.chunks)
        data = np.frombuffer(chunk.buffers()[1], np.uint8)
        data.flags.writeable = False
        start = chunk.offset * self.spec.num_bytes_raw
        return data[start : start + len(chunk) * self.spec.num_bytes_raw].reshape(len(chunk), *self.spec.shape)

    def tensors(self) -> pa.ExtensionArray:
        """Frames as the canonical `arrow.fixed_shape_tensor`; of raw clips from the same buffer."""
        frames = self.numpy()
        values = pa.array(frames.reshape(-1))
        storage = pa.FixedSizeListArray.from_arrays(values, self.spec.num_bytes_raw)
        return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint8(), self.spec.shape), storage)


def read_clips(output: str, *, columns: list[str] | None = None, split: str | None = None) -> Iterator[ClipTable]:
    """The clips of an output, a row group at a time: all columns or some, all splits or one."""
    for url in part_urls(output):
        fs, path = filesystem(url)
        with own_part(url), fs.open(path, "rb") as file, open_parquet(file) as source:
            spec = spec_of(source.schema_arrow)
            wanted = None if columns is None else list({*columns, "split"})
            for group in range(source.num_row_groups):
                table = source.read_row_group(group, wanted)
                if split is not None:
                    table = table.filter(pc.equal(table["split"], split))
                if len(table):
                    yield ClipTable(table if columns is None else table.select(columns), spec)


def part_urls(output: str) -> list[str]:
    """URLs of the Parquet files that hold the clips, for `ray.data.read_parquet` or any other reader."""
    return [join(output, "clips", name) for name in open_ledger(output).parts()]


def tensor_column(output: str) -> Callable[[pa.Table], pa.Table]:
    """A function that turns the column `frames` into tensors, for `map_batches(..., batch_format="pyarrow")`."""
    spec = open_ledger(output).spec

    def with_tensors(table: pa.Table) -> pa.Table:
        column = table.schema.get_field_index("frames")
        return table.set_column(column, "frames", ClipTable(table, spec).tensors())

    return with_tensors


def decode_jpegs(images: list[bytes], spec: ClipSpec) -> np.ndarray:
    """Frames (T, H, W, C) uint8 of a clip that is stored as JPEGs."""
    import simplejpeg

    colorspace = "RGB" if spec.color == "rgb" else "GRAY"
    return np.stack([simplejpeg.decode_jpeg(image, colorspace=colorspace) for image in images])
