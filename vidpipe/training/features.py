"""Features of a frozen backbone: each frame goes through it once, and what comes out is kept as Parquet.

OUT/features/SPLIT-KEY.parquet has a row a clip: video_id, clip_index, features (float32, flat), and the shape of a row
in its metadata. The key names the clips, the backbone's weights and the input, so that other settings find nothing.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import nn

from vidpipe.file_errors import own_file
from vidpipe.models import VideoModel
from vidpipe.plain_tables import read_parquet
from vidpipe.training.batches import FeatureReader, FrameReader
from vidpipe.training.clip_rows import ClipRows
from vidpipe.training.evaluation import MakeViews, split_logits
from vidpipe.training.ranks import Ranks
from vidpipe.transfer import file_names, join, put_bytes, read_buffer

logger = logging.getLogger(__name__)

FOLDER = "features"
WAY_OUT = "remove it, and it is computed again"
SHAPE_KEY = b"vidpipe.shape"


class FeaturesOf(nn.Module):
    """The backbone alone: `model.features`, flat."""

    def __init__(self, model: VideoModel):
        super().__init__()
        self.model = model
        self.shape: tuple[int, ...] = ()

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        features = self.model.features(clips)
        self.shape = tuple(features.shape[1:])
        return features.flatten(1)


class HeadOf(nn.Module):
    """The head alone, to train on features."""

    def __init__(self, model: VideoModel):
        super().__init__()
        self.model = model

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.model.head(features)


def weights_key(model: VideoModel, *facts: object) -> str:
    """16 hex digits of the frozen weights and of whatever else decides the features."""
    digest = hashlib.blake2b(repr(facts).encode(), digest_size=8)
    for name, weights in sorted(model.backbone.state_dict().items()):
        digest.update(name.encode() + weights.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def features_of(
    model: VideoModel, rows: ClipRows, views: MakeViews, ranks: Ranks, *, output: str, name: str, batch_size: int,
    precision: torch.dtype, cache_bytes: int,
) -> FeatureReader:  # fmt: skip
    """The features of a split on every rank: read when an earlier run kept them, computed by all ranks otherwise."""
    url = join(output, FOLDER, f"{name}.parquet")
    if ranks.from_first(ranks.is_first and not are_kept(url, rows)):
        reader = FrameReader(rows, cache_bytes, pin_memory=ranks.device.type == "cuda")
        backbone = FeaturesOf(model)
        found = split_logits(backbone, rows, reader, views, ranks, batch_size=batch_size, precision=precision)
        if found is not None:
            write_features(url, rows, found.logits, backbone.shape)
            logger.info("%d clips went through the frozen backbone once: %s", len(rows), url)
        ranks.from_first(None)  # the others wait until the file is there
    return FeatureReader(read_features(url, rows))


def are_kept(url: str, rows: ClipRows) -> bool:
    """Whether the file is there and has just these rows: parts that were rewritten come in another order."""
    folder, _, name = url.rpartition("/")
    if name not in file_names(folder):
        return False
    data = read_buffer(url)
    with own_file(url, WAY_OUT):
        table = read_parquet(data, ["video_id", "clip_index"])
    clip_index = table["clip_index"].to_numpy()
    return table["video_id"].to_pylist() == rows.video_ids.tolist() and np.array_equal(clip_index, rows.clip_index)


def write_features(url: str, rows: ClipRows, features: np.ndarray, shape: tuple[int, ...]) -> None:
    """Keep features (N, prod(shape)) float32, a row for each row of the split."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
    table = pa.table({"video_id": rows.video_ids.tolist(), "clip_index": rows.clip_index, "features": values})
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({SHAPE_KEY: json.dumps(shape)}), sink, compression="zstd")
    put_bytes(sink.getvalue().to_pybytes(), url)


def read_features(url: str, rows: ClipRows) -> torch.Tensor:
    """Features of the rows of a split, (N, *shape) float32."""
    data = read_buffer(url)
    with own_file(url, WAY_OUT):
        table = read_parquet(data)
    shape = json.loads(table.schema.metadata[SHAPE_KEY])
    flat = table["features"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    assert len(flat) == len(rows) * math.prod(shape)
    return torch.from_numpy(flat.reshape(len(rows), *shape).copy())
