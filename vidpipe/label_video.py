"""One video in, its labels with their scores out: decoded, cut, shown to the model and joined as its checkpoint says.

    checkpoint = load_checkpoint("OUT")
    with Guard(checkpoint.facts.clip, time_limit_s=60, memory_limit_bytes=2 << 30) as guard:
        answer = label_video("video.mp4", checkpoint, guard)
    answer.labels[0], answer.scores[0]

The answer is what the evaluation of training said of the same video. A video that cannot be delivered is a DecodeError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidpipe.checkpoints import Checkpoint
from vidpipe.clip_blocks import frames_of
from vidpipe.clip_model import ClipModel, Precision
from vidpipe.delivery import spool_folder
from vidpipe.errors import DecodeError
from vidpipe.guard import Clip, Guard, Restart, VideoFacts
from vidpipe.manifest import video_id
from vidpipe.metrics import join_views, views_of
from vidpipe.sampling import clip_weights
from vidpipe.storage import MISSING, absolute_url, file_info
from vidpipe.transfer import check_version, fetch_video, video_errors

BATCH_CLIPS = 8


@dataclass(frozen=True)
class VideoAnswer:
    """All labels of a checkpoint for one video, the most likely first."""

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    """Probabilities at the checkpoint's temperature, joined over the views; they sum to 1."""
    num_clips: int
    num_crops: int
    facts: dict[str, Any]
    """The video's `VIDEO_FACTS`, as the status row of preprocess has them."""


def label_video(url: str, checkpoint: Checkpoint, guard: Guard, precision: Precision = "fp32") -> VideoAnswer:
    """Raises DecodeError; `guard` decodes with the checkpoint's own ClipSpec."""
    facts = checkpoint.facts
    assert guard.spec == facts.clip
    viewed = view_clips(checkpoint, delivered(url, guard), precision)
    num_clips, num_crops, _ = viewed.logits.shape
    views = views_of([url], [viewed.logits], [viewed.weights])
    scores = join_views(views, facts.views.join, facts.temperature)[1][0]
    order = np.argsort(-scores, kind="stable")
    return VideoAnswer(
        labels=tuple(facts.labels[index] for index in order),
        scores=tuple(scores[order].tolist()),
        num_clips=num_clips,
        num_crops=num_crops,
        facts=viewed.facts,
    )


def delivered(url: str, guard: Guard) -> Iterator[Clip | Restart | VideoFacts]:
    """What the guard says of the video at a path or URL; only the ranges that it needs are read of a large object."""
    url = absolute_url(url)
    info = file_info(url)
    if info.version == MISSING:
        raise DecodeError("not_found", "the file is not there")
    by_range = guard.spec.decoder == "pyav"
    with spool_folder() as folder, video_errors():
        file = fetch_video(url, folder, size_bytes=info.size_bytes, version=info.version, by_range=by_range)
        yield from guard.decode(file.source, video_id(url))
        if not file.is_checked:
            check_version(url, info.version)


@dataclass(frozen=True, eq=False)
class ViewedClips:
    """The model's answers for the clips of a video that was delivered whole."""

    logits: np.ndarray
    """(clips, crops, labels) float32."""
    weights: np.ndarray
    """(clips,) how much each counts for the video."""
    facts: dict[str, Any]
    """`VIDEO_FACTS`."""


def view_clips(
    checkpoint: Checkpoint, events: Iterable[Clip | Restart | VideoFacts], precision: Precision = "fp32"
) -> ViewedClips:
    """Show a video's clips to the model, `BATCH_CLIPS` at a time."""
    model, spec = ClipModel(checkpoint, precision=precision), checkpoint.facts.clip
    found: list[np.ndarray] = []
    waiting: list[np.ndarray] = []
    spans_s: list[tuple[float, float]] = []
    facts: dict[str, Any] = {}
    for event in events:
        if isinstance(event, Restart):
            for of_attempt in (found, waiting, spans_s):
                of_attempt.clear()
        elif isinstance(event, Clip):
            waiting.append(frames_of(event, spec))
            spans_s.append((event.start_s, event.end_s))
            if len(waiting) == BATCH_CLIPS:
                found.append(model(np.stack(waiting)).logits)
                waiting.clear()
        else:
            facts = event.facts
    if waiting:
        found.append(model(np.stack(waiting)).logits)
    starts_s, ends_s = np.array(spans_s).T
    return ViewedClips(np.concatenate(found), clip_weights(starts_s, ends_s, spec), facts)
