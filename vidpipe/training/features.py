"""Features of a frozen backbone: each frame goes through it once, and what comes out is kept.

OUT/features/SPLIT-KEY.parquet has one row per clip (`feature_files`). The key names the clips, the backbone's weights
and the input, so that other settings find nothing. A killed run goes on from the pieces that it left.
"""

from __future__ import annotations

import hashlib
import logging

import numpy as np
import torch
from torch import nn

from vidpipe.models import VideoModel
from vidpipe.training.batches import FeatureReader, FrameReader
from vidpipe.training.clip_rows import ClipRows
from vidpipe.training.evaluation import MakeViews, batch_logits
from vidpipe.training.feature_files import Pieces, are_kept, read_features, write_features
from vidpipe.training.order import evaluation_batches, share_out
from vidpipe.training.ranks import Ranks
from vidpipe.training.story import Place
from vidpipe.transfer import join

logger = logging.getLogger(__name__)

FOLDER = "features"


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
    folder = join(output, FOLDER)
    url, pieces = join(folder, f"{name}.parquet"), Pieces(folder, name, rows)
    if ranks.from_first(ranks.is_first and not are_kept(url, rows)):
        is_done = ranks.from_first(pieces.is_done() if ranks.is_first else None)
        reader = FrameReader(rows, cache_bytes, pin_memory=ranks.device.type == "cuda")
        missing = [batch for batch in evaluation_batches(len(rows), batch_size, 0, 1) if not is_done[batch].all()]
        compute(FeaturesOf(model), missing, reader, views, ranks, pieces, num_clips=len(rows), precision=precision)
        ranks.gather(None)  # the first waits for all
        if ranks.is_first:
            write_features(url, rows, *pieces.read())
            num_kept = len(rows) - sum(map(len, missing))
            earlier = f", {num_kept} of them in an earlier run" if num_kept else ""
            logger.info("%d clips went through the frozen backbone once%s: %s", len(rows), earlier, url)
        ranks.from_first(None)  # the others wait until the file is there
    if ranks.is_first:
        pieces.remove()
    return FeatureReader(read_features(url, rows))


def compute(
    backbone: FeaturesOf, missing: list[np.ndarray], reader: FrameReader, views: MakeViews, ranks: Ranks,
    pieces: Pieces, *, num_clips: int, precision: torch.dtype,
) -> None:  # fmt: skip
    """Write this rank's share of the missing features as pieces; the first rank tells how far all are."""
    share = share_out(missing, ranks.rank, ranks.num_ranks)
    num_missing = sum(map(len, missing))

    def tell(num_batches: int) -> None:
        num_done = num_clips - num_missing + num_missing * num_batches // max(len(share), 1)
        split = pieces.name.partition("-")[0]
        ranks.tell(Place(pieces.name, num_done, num_clips, "clips", f"{split} through the frozen backbone"))

    tell(0)
    batches = batch_logits(backbone, share, reader, views, ranks.device, precision)
    for number, (wanted, features) in enumerate(batches, start=1):
        pieces.add(wanted, features[:, 0], backbone.shape)
        tell(number)
    pieces.write()
