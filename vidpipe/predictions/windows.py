"""The windows of --segments: as asked, else as the stored clips or the output have them, else as the training clips."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace

from vidpipe.checkpoint_facts import CheckpointFacts
from vidpipe.config import PredictConfig
from vidpipe.predictions.schema import PredictionFacts
from vidpipe.spec import SAMPLING_FIELDS, ClipSpec

UNKNOWN_SPAN_S = 10.0
MUCH = 1.5  # a window that is so many times as long as the training clips, or as short, is worth a line
OF_SAMPLING = {"sampling", *(name for names in SAMPLING_FIELDS.values() for name in names)}


def window_spec(
    config: PredictConfig, checkpoint: CheckpointFacts, earlier: ClipSpec | None, *, of_clips: bool
) -> tuple[ClipSpec, list[str]]:
    """How the windows are cut, and what a user must know of it, one line each.

    What was not asked for follows the windows that are there `earlier`, if any, those of the source's clips or of the
    output's rows; a window of another length hops by half of itself.
    """
    default = _windows(checkpoint.clip, _default_s(checkpoint))
    before = earlier or default
    window_s = config.window_s or before.window_s
    assert window_s is not None
    clip = _windows(checkpoint.clip, window_s, config.hop_s or (before.hop_s if window_s == before.window_s else None))
    are_same = (clip.window_s, clip.hop_s) == (before.window_s, before.hop_s)
    if are_same:
        clip = replace(clip, window_end=before.window_end)
    is_news = clip != default and (config.window_s is None or clip.window_end == "repeat")
    is_kept = earlier is not None and are_same and is_news
    kept = f"{_text(clip)}, as the {'stored clips' if of_clips else 'rows of the output'} have them"
    if is_kept and not of_clips:
        kept += f"; --relabel takes {_text(default)}, the last one ending with the video"
    return clip, list(_notes(config, checkpoint, clip, kept if is_kept else None))


def earlier_windows(
    before: PredictionFacts | None, checkpoint_id: str, stored: ClipSpec | None, *, relabel: bool
) -> ClipSpec | None:
    """The windows that are there: of the clips that are `stored`, else of the rows `before`, if these stay."""
    if stored is not None:
        return stored if stored.sampling == "windows" else None
    stays = before is not None and before.checkpoint_id == checkpoint_id and not relabel
    return before.clip_spec if before is not None and stays and before.settings.get("segments") else None


def _default_s(checkpoint: CheckpointFacts) -> float:
    return UNKNOWN_SPAN_S if checkpoint.clip_span_s is None else max(round(checkpoint.clip_span_s, 3), 0.001)


def _windows(clip: ClipSpec, window_s: float, hop_s: float | None = None) -> ClipSpec:
    """Windows of as many frames as `clip` has, made in the same way."""
    alike = {name: value for name, value in asdict(clip).items() if name not in OF_SAMPLING}
    hop_s = window_s / 2 if hop_s is None else hop_s
    return ClipSpec(sampling="windows", num_frames=clip.num_frames, window_s=window_s, hop_s=hop_s, **alike)


def _text(clip: ClipSpec) -> str:
    filled_up = ", the last ones filled up with the video's last frame" if clip.window_end == "repeat" else ""
    return f"windows of {clip.window_s:g} s, one every {clip.hop_s:g} s{filled_up}"


def _notes(config: PredictConfig, checkpoint: CheckpointFacts, clip: ClipSpec, kept: str | None) -> Iterator[str]:
    assert clip.window_s is not None
    span_s, windows = checkpoint.clip_span_s, _text(clip)
    if kept is not None:
        yield kept
    elif span_s is None and config.window_s is None:
        yield (
            f"{windows}: the checkpoint, of an earlier release, does not say how many seconds its training clips "
            "spanned; if you know, give --window-s so many"
        )
    if span_s is not None and not 1 / MUCH <= clip.window_s / span_s <= MUCH:
        yield (
            f"{windows}, and the model was trained on clips of {span_s:.3g} s: expect worse labels, and scores that "
            f"are no probabilities; --window-s {span_s:.3g} shows it what it knows"
        )
    if config.thresholds is not None:
        yield f"{config.thresholds} holds for answers like those it was measured on: whole videos are not windows"
