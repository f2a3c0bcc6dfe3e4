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

import numpy as np
import torch

from vidpipe.checkpoints import Checkpoint
from vidpipe.clips import decode_jpegs
from vidpipe.errors import DecodeError
from vidpipe.guard import Clip, Guard, Restart, VideoFacts
from vidpipe.make_parts import spool_folder
from vidpipe.manifest import video_id
from vidpipe.metrics import Views, join_views
from vidpipe.spec import ClipSpec
from vidpipe.storage import MISSING, absolute_url, file_info
from vidpipe.transfer import check_version, fetch_video, video_errors
from vidpipe.transform_spec import AugmentSpec
from vidpipe.transforms import ClipTransform

BATCH_CLIPS = 8


@dataclass(frozen=True)
class VideoAnswer:
    """All labels of a checkpoint for one video, the most likely first."""

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    """Probabilities at the checkpoint's temperature, joined over the views; they sum to 1."""
    num_clips: int
    num_crops: int


def label_video(url: str, checkpoint: Checkpoint, guard: Guard) -> VideoAnswer:
    """Raises DecodeError; `guard` decodes with the checkpoint's own ClipSpec."""
    facts = checkpoint.facts
    assert guard.spec == facts.clip
    logits = view_logits(checkpoint, delivered(url, guard))
    num_clips, num_crops, _ = logits.shape
    views = Views(
        video_ids=np.full(num_clips * num_crops, url),
        clip_indices=np.repeat(np.arange(num_clips), num_crops),
        crops=np.tile(np.arange(num_crops), num_clips),
        truth=np.zeros(num_clips * num_crops, int),  # not known, and joining does not ask
        logits=logits.reshape(num_clips * num_crops, -1),
    )
    scores = join_views(views, facts.views.join, facts.temperature)[1][0]
    order = np.argsort(-scores, kind="stable")
    return VideoAnswer(
        tuple(facts.labels[index] for index in order), tuple(scores[order].tolist()), num_clips, num_crops
    )


def delivered(url: str, guard: Guard) -> Iterator[Clip | Restart | VideoFacts]:
    """What the guard says of the video at a path or URL; only the ranges that it needs are read of a large object."""
    url = absolute_url(url)
    info = file_info(url)
    if info.version == MISSING:
        raise DecodeError("not_found", "the file is not there")
    by_range = guard.spec.decoder == "pyav"
    with spool_folder() as folder, video_errors():
        file = fetch_video(url, folder, size_bytes=info.size_bytes, by_range=by_range)
        yield from guard.decode(file.source, video_id(url))
        if file.by_range:
            check_version(url, info.version)


@torch.inference_mode()
def view_logits(checkpoint: Checkpoint, events: Iterable[Clip | Restart | VideoFacts]) -> np.ndarray:
    """Logits (clips, crops, labels) float32 of a video's clips, `BATCH_CLIPS` at a time."""
    facts, model = checkpoint.facts, checkpoint.model
    device = next(model.parameters()).device
    transform = ClipTransform(model.input, facts.size, facts.views, AugmentSpec())
    found: list[np.ndarray] = []
    waiting: list[np.ndarray] = []

    def run() -> None:
        frames = torch.from_numpy(np.stack(waiting)).to(device)
        crops = [model(transform.view(frames, crop)).float() for crop in range(facts.views.crops)]
        found.append(torch.stack(crops, dim=1).cpu().numpy())
        waiting.clear()

    for event in events:
        if isinstance(event, Restart):
            found.clear()
            waiting.clear()
        elif isinstance(event, Clip):
            waiting.append(frames_of(event, facts.clip))
            if len(waiting) == BATCH_CLIPS:
                run()
    if waiting:
        run()
    return np.concatenate(found)


def frames_of(clip: Clip, spec: ClipSpec) -> np.ndarray:
    """Frames (T, H, W, C) uint8 of a clip as the guard delivers it."""
    if clip.sizes is None:
        return np.frombuffer(clip.payload, np.uint8).reshape(spec.shape)
    ends = np.cumsum(clip.sizes)
    images = [clip.payload[end - size : end] for end, size in zip(ends, clip.sizes, strict=True)]
    return decode_jpegs(images, spec)
