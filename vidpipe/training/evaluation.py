"""Evaluate a model on a split: every clip once, in the same batches on any number of ranks: equal to the last digit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from vidpipe.metrics import Views
from vidpipe.training.batches import Batches, Reader
from vidpipe.training.clip_rows import ClipRows
from vidpipe.training.order import evaluation_batches
from vidpipe.training.ranks import Ranks

MakeViews = Callable[[torch.Tensor], list[torch.Tensor]]


@dataclass(frozen=True)
class SplitLogits:
    """What a model said of a split: `V` views, those of a clip side by side, clips in the order of their rows."""

    rows: np.ndarray
    """(V,) the clip's row in the split."""
    logits: np.ndarray
    """(V, K) float32."""

    def views(self, rows: ClipRows) -> Views:
        """With whose views these are."""
        num_crops = len(self.rows) // len(rows)
        crops = np.tile(np.arange(num_crops), len(rows))
        chosen = self.rows
        return Views(rows.video_ids[chosen], rows.clip_index[chosen], crops, rows.truth[chosen], self.logits)


@torch.inference_mode()
def split_logits(
    model: nn.Module,
    rows: ClipRows,
    reader: Reader,
    views: MakeViews,
    ranks: Ranks,
    *,
    batch_size: int,
    precision: torch.dtype,
) -> SplitLogits | None:
    """Logits of all views of a split's clips, on the first rank; None on the others.

    `views` makes model inputs of a batch as it was read, one for each crop.
    """
    was_training = model.training
    model.eval()
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for wanted, frames in Batches(reader, evaluation_batches(len(rows), batch_size, ranks.rank, ranks.num_ranks)):
        on_device = frames.to(ranks.device, non_blocking=True)
        with torch.autocast(ranks.device.type, precision, enabled=precision != torch.float32):
            logits = torch.stack([model(view).float() for view in views(on_device)], dim=1)  # (B, crops, K)
        found.append((np.repeat(wanted, logits.shape[1]), logits.flatten(0, 1).cpu().numpy()))
    model.train(was_training)
    gathered = [batch for of_rank in ranks.gather(found) for batch in of_rank]
    if not ranks.is_first:
        return None
    result = SplitLogits(np.concatenate([one for one, _ in gathered]), np.concatenate([one for _, one in gathered]))
    num_crops = len(result.rows) // len(rows)
    if not np.array_equal(result.rows, np.repeat(np.arange(len(rows)), num_crops)):
        raise RuntimeError(f"{len(result.rows)} views were evaluated of {len(rows)} clips; each must come once")
    return result


def cross_entropy(logits: np.ndarray, truth: np.ndarray) -> float:
    """Mean cross-entropy of views (V, K), in float64: what training minimises, measured on another split."""
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    log_sum = top + np.log(np.exp(wide - top[:, None]).sum(axis=1))
    return float(np.mean(log_sum - wide[np.arange(len(truth)), truth]))
