"""Evaluate a model on a split: every clip once, in the same batches on any number of ranks: equal to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        columns = rows.video_ids[chosen], rows.clip_index[chosen], crops, rows.truth[chosen], self.logits
        return Views(*columns, rows.weights[chosen])


@torch.inference_mode()
def batch_logits(
    model: nn.Module,
    batches: list[np.ndarray],
    reader: Reader,
    views: MakeViews,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows of each batch (B,), and what the model makes of their views: (B, crops, K) float32.

    `views` makes model inputs of a batch as it was read, one for each crop.
    """
    was_training = model.training
    model.eval()
    try:
        for wanted, frames in Batches(reader, batches):
            on_device = frames.to(device, non_blocking=True)
            with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                logits = torch.stack([model(view).float() for view in views(on_device)], dim=1)
            yield wanted, logits.cpu().numpy()
    finally:
        model.train(was_training)


def split_logits(
    model: nn.Module,
    rows: ClipRows,
    reader: Reader,
    views: MakeViews,
    ranks: Ranks,
    *,
    batch_size: int,
    precision: torch.dtype,
    on_share: Callable[[float], None],
) -> SplitLogits | None:
    """Logits of all views of a split's clips, on the first rank; None on the others. `on_share` hears how much is done.

    See `batch_logits`.
    """
    batches = evaluation_batches(len(rows), batch_size, ranks.rank, ranks.num_ranks)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for wanted, logits in batch_logits(model, batches, reader, views, ranks.device, precision):
        found.append((np.repeat(wanted, logits.shape[1]), logits.reshape(-1, logits.shape[2])))
        on_share(len(found) / len(batches))
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
