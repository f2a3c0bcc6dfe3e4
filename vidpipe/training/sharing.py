"""Whether the result of a run depends on how its batches are shared among workers and cut into micro-batches.

It does not where each clip goes through the model for itself. Batch norm, though, takes means over the clips that it
sees at once, and dropout draws its numbers for them. Gradients are summed over the whole batch in any case.
"""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vidpipe.config import TrainConfig
from vidpipe.models import VideoModel

# Names that layers of torch, torchvision and transformers give the share of values, attention or paths that they drop.
DROPPED_SHARES = ("p", "dropout", "dropout_prob", "attention_dropout", "drop_prob", "drop_rate")


def sharing_line(config: TrainConfig, model: VideoModel, num_workers: tuple[int, int]) -> str | None:
    """Why the result depends on the number of workers (least and most) or on `micro_batch_size`; None where it does
    not."""
    low, high = num_workers
    share = -(-config.batch_size // high)
    piece = min(share, config.micro_batch_size or share)
    is_cut_again = piece < share
    if piece == config.batch_size:
        return None
    model.train()
    layers = [layer for layer in model.modules() if layer.training]
    causes = []
    if any(isinstance(layer, _BatchNorm) for layer in layers) and (is_cut_again or not config.sync_batch_norm):
        hint = "" if is_cut_again else " (with --sync-batch-norm, on GPUs, the whole batch)"
        causes.append(f"batch norm sees one piece at a time{hint}")
    if any(map(drops, layers)):
        causes.append("dropout is drawn for each piece")
    if not causes:
        return None
    cuts = [f"{high} workers" if low == high else f"{low} to {high} workers"] * (high > 1)
    cuts += [f"--micro-batch-size {config.micro_batch_size}"] * is_cut_again
    return (
        f"sharing    the result depends on {' and '.join(cuts)}: a batch of {config.batch_size} goes through the model "
        f"in pieces of {piece} clips{'' if low == high else ' or more'}; {', '.join(causes)}"
    )


def drops(layer: nn.Module) -> bool:
    """Whether the layer drops something at random in training."""
    shares = (getattr(layer, name, None) for name in DROPPED_SHARES)
    return any(isinstance(share, float) and 0 < share <= 1 for share in shares)
