"""Tensors from files into a model, and a report of what fitted. Never unpickles: a file holds tensors or is refused."""

from __future__ import annotations

import io
import logging
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vidpipe.errors import UsageError
from vidpipe.model_spec import WEIGHTS_SUFFIXES
from vidpipe.models.base import VideoModel
from vidpipe.storage import filesystem, storage_errors

logger = logging.getLogger(__name__)

# What training scripts wrap a state dict in, and what wrappers put before its names.
WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
WRAPPED_PREFIXES = ("module.", "_orig_mod.")
# Less of a backbone's values than this is another network that has a few shapes in common, not another version of it:
# position embeddings of another length, or a first layer of other channels, come to a few percent.
LEAST_SHARE = 0.9


@dataclass(frozen=True)
class WeightsReport:
    """Names of tensors; of the model where it has them, else of the file."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    """Of the backbone, not in the file: they start from random values."""
    unexpected: tuple[str, ...]
    """In the file only; the head that it was trained with is among them."""
    mismatched: tuple[str, ...]
    """In both, of different shape: they start from random values."""
    num_values: int
    """Values of the backbone that a file could fill; its layers behind the encoder and counters are not among them."""
    num_filled: int
    """How many of these values the file filled."""

    def __str__(self) -> str:
        filled = f"{self.num_filled:,} of the backbone's {self.num_values:,} values"
        parts = [f"{len(self.matched)} tensors loaded, {filled}"]
        for name in ("missing", "mismatched", "unexpected"):
            names = getattr(self, name)
            if names:
                parts.append(f"{len(names)} {name} ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})")
        return "; ".join(parts)


def load_weights(model: VideoModel, source: str, *, allow_partial: bool = False) -> WeightsReport:
    """Fill the model's backbone from a .safetensors or .pth file at a path or URL.

    Raises UsageError when the file cannot be read, holds more than tensors, or does not fit: see `load_state`.
    """
    return load_state(model, read_state(source), source, allow_partial=allow_partial)


def load_state(
    model: VideoModel, state: Mapping[str, Tensor], source: str, *, allow_partial: bool = False
) -> WeightsReport:
    """Fill the model's backbone from named tensors; names may begin with what a wrapper put there.

    Raises UsageError when a tensor that fits holds NaN or infinity, when none fits, and, unless `allow_partial`, when
    those that fit are less than `LEAST_SHARE` of the backbone's values. The model is then as it was.
    """
    own = model.state_dict()
    state = {model.present_name(name): tensor for name, tensor in state.items()}
    published = model.published_names()
    prefix = _best_prefix(published, state)
    found = {name: state[prefix + name] for name in published if prefix + name in state}
    matched = [name for name, tensor in found.items() if own[published[name]].shape == tensor.shape]
    # Counters of batch norms, which old files lack, are of no use to anyone.
    missing = [name for name in published if name not in found and not name.endswith("num_batches_tracked")]
    used = {prefix + name for name in found}
    counted = {name: own[published[name]].numel() for name in published if model.is_of_backbone(published[name])}
    report = WeightsReport(
        matched=tuple(matched),
        missing=tuple(missing),
        unexpected=tuple(name for name in state if name not in used),
        mismatched=tuple(name for name in found if name not in set(matched)),
        num_values=sum(counted.values()),
        num_filled=sum(counted.get(name, 0) for name in matched),
    )
    if not matched:
        raise UsageError(
            f"{source}: none of its {len(state)} tensors (first: {next(iter(state), 'none')}) fits the model's "
            f"{len(published)} (first: {next(iter(published))}); give the --backbone that it was made for, "
            "or start from nothing with --weights none"
        )
    if report.num_filled < LEAST_SHARE * report.num_values and not allow_partial:
        shapes = {name: own[published[name]].shape for name in published}
        raise UsageError(_what_fits(report, state, prefix, shapes, source))
    check_finite({prefix + name: found[name] for name in matched}, source)
    with torch.no_grad():
        for name in matched:
            own[published[name]].copy_(found[name])
    level = logging.WARNING if report.missing or report.mismatched else logging.INFO
    logger.log(level, "weights %s: %s", source, report)
    return report


def _what_fits(
    report: WeightsReport, state: Mapping[str, Tensor], prefix: str, shapes: Mapping[str, torch.Size], source: str
) -> str:
    """Why a file is refused: how much fits, and the first names that do not, with their shapes."""
    lists = {
        "the file lacks": [f"{name} {_text(shapes[name])}" for name in report.missing],
        "has in another shape": [
            f"{name} {_text(state[prefix + name].shape)}, not {_text(shapes[name])}" for name in report.mismatched
        ],
        "and it holds, which the model lacks,": [f"{name} {_text(state[name].shape)}" for name in report.unexpected],
    }
    parts = [f"{words} {_some(names)}" for words, names in lists.items() if names]
    share = 100 * report.num_filled / report.num_values
    return (
        f"{source} fills {report.num_filled:,} of the backbone's {report.num_values:,} values ({share:.2g} %), less "
        f"than {100 * LEAST_SHARE:.0f} %: {'; '.join(parts)}. Give the --backbone that it was made for, or "
        "--allow-partial-weights to start the rest from random values"
    )


def check_finite(state: Mapping[str, Tensor], source: str) -> None:
    """Raise UsageError when a tensor holds NaN or infinity: every answer would be NaN, or training would end in it."""
    for name, tensor in state.items():
        num_bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        if num_bad:
            raise UsageError(
                f"{source}: {name} holds NaN or infinity in {num_bad:,} of {tensor.numel():,} values; its training "
                "diverged, or the file is damaged: take other weights"
            )


def _text(shape: torch.Size) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _some(names: list[str]) -> str:
    return f"{len(names)} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"


def _best_prefix(names: Iterable[str], state: Mapping[str, Tensor]) -> str:
    """What the file's names begin with where the model's begin with nothing, so that most of them agree."""
    names = list(names)
    prefixes = {""} | {key.removesuffix(name) for name in names[:8] for key in state if key.endswith(name)}
    return max(sorted(prefixes), key=lambda prefix: sum(prefix + name in state for name in names))


def read_state(source: str) -> dict[str, Tensor]:
    """The named tensors of a .safetensors, .pth or .pt file at a path or URL, on the CPU."""
    if not source.endswith(WEIGHTS_SUFFIXES):
        raise UsageError(f"weights must be a file that ends in {', '.join(WEIGHTS_SUFFIXES)}, got {source}")
    with storage_errors(source):
        fs, path = filesystem(source)
        data: bytes = fs.cat_file(path)
    if source.endswith(".safetensors"):
        return read_safetensors(data, source)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{source} holds more than tensors, and unpickling that could run any code; where you trust it, keep its "
            "tensors only: torch.save(model.state_dict(), FILE), or safetensors.torch.save_file"
        ) from error
    except Exception as error:  # of bytes that are damaged, torch raises almost anything
        raise UsageError(f"{source} is not a whole file of torch.save: {error}; copy it again") from error
    return _unwrap(content, source)


def read_safetensors(data: bytes, source: str) -> dict[str, Tensor]:
    try:
        return dict(safetensors.torch.load(data))
    except safetensors.SafetensorError as error:
        raise UsageError(f"{source} is not a whole .safetensors file: {error}; copy it again") from error


def _unwrap(content: object, source: str) -> dict[str, Tensor]:
    for name in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {}
    for key, value in content.items() if isinstance(content, Mapping) else ():
        if isinstance(value, Tensor):
            for prefix in WRAPPED_PREFIXES:
                key = str(key).removeprefix(prefix)
            tensors[key] = value
    if not tensors:
        raise UsageError(f"{source} holds no named tensors; save a model's state_dict()")
    return tensors
