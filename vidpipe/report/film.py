"""Film strips: a few frames of a video, decoded again for the few videos that a page shows.

Decoding happens in the guard's child, never here. A video that cannot be decoded any more has a strip that says so;
where the clips of the training are at hand and know it, its frames are taken from these.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
import simplejpeg

from vidpipe.clip_blocks import frames_of
from vidpipe.contact_sheet import first_frames
from vidpipe.delivery import Delivery, deliveries, spool_folder
from vidpipe.errors import DamagedFileError, UsageError
from vidpipe.guard import Clip, Guard
from vidpipe.ledger import Ledger, open_ledger
from vidpipe.manifest.reach import Reach
from vidpipe.spec import ClipSpec
from vidpipe.storage import file_info, storage_errors

NUM_FRAMES = 8
STRIP = ClipSpec(sampling="uniform", num_frames=NUM_FRAMES, size="144x256", resize="letterbox", on_damage="keep")
JPEG_QUALITY = 72
TIME_LIMIT_S = 60.0
MEMORY_LIMIT_BYTES = 2 << 30


@dataclass(frozen=True)
class FilmStrip:
    """Frames as data URLs with their times in seconds; `note` says what is unusual, or why there are none."""

    frames: list[tuple[str, float]] = field(default_factory=list)
    size_px: tuple[int, int] = (0, 0)
    """Width and height of each."""
    note: str | None = None


def film_strips(
    videos: Iterable[dict[str, Any]], clips: str | None, reach: Reach | None = None
) -> dict[str, FilmStrip]:
    """A strip for each video (`video_id`, `url`, `version`), by its id; `clips`: a preprocess output, if any. Of
    videos that are not within `reach`, where there is one, nothing is read."""
    once = {video["video_id"]: video for video in videos}
    ledger = _ledger(clips)
    with spool_folder() as folder, Guard(
        STRIP, time_limit_s=TIME_LIMIT_S, memory_limit_bytes=MEMORY_LIMIT_BYTES
    ) as guard:  # fmt: skip
        rows, strips = _found(once, reach)
        for delivery in deliveries(rows, guard, folder):
            video_id, version = delivery.video["video_id"], delivery.video["version"]
            strip = _decoded(delivery)
            if strip.frames and once[video_id].get("version") not in (None, version):
                strip = replace(strip, note="The video changed since it was predicted: these are frames of today.")
            strips[video_id] = strip
    for video_id, strip in strips.items():
        if not strip.frames and ledger is not None:
            strips[video_id] = _kept(video_id, strip, ledger)
    return strips


def _found(videos: dict[str, dict[str, Any]], reach: Reach | None) -> tuple[list[dict[str, Any]], dict[str, FilmStrip]]:
    """Manifest rows of the videos as they are now, and strips that say why for those whose storage is out of reach."""
    rows, strips = [], {}
    for video_id, video in videos.items():
        url = video["url"]
        if reach is not None and not reach.allows(url):
            strips[video_id] = FilmStrip(note=f"No frames: the predictions name {url}, {reach.rule}.")
            continue
        try:
            with storage_errors(url):
                info = file_info(url)
        except UsageError as error:  # predict ran on another machine, perhaps
            strips[video_id] = FilmStrip(note=f"No frames: {url} cannot be read from here ({error}).")
        else:
            rows.append({"video_id": video_id, **asdict(info)})
    return rows, strips


def _decoded(delivery: Delivery) -> FilmStrip:
    clips = [event for event in delivery.events() if isinstance(event, Clip)]
    receipt = delivery.receipt
    if receipt["status"] == "failed":
        return FilmStrip(note=f"No frames: cannot be decoded any more ({receipt['error_code']}: {receipt['error']}).")
    frames = without_bars(frames_of(clips[-1], STRIP), receipt["height"], receipt["width"])
    return _strip(frames, clips[-1].frame_pts_s)


def _kept(video_id: str, strip: FilmStrip, ledger: Ledger) -> FilmStrip:
    """The frames that preprocess kept of a video, if it did."""
    status = ledger.read(["video_id", "part"])
    rows = status.filter(pc.equal(status["video_id"], video_id)).to_pylist()
    if not rows or not rows[0]["part"]:
        return strip
    frames, times_s = first_frames(ledger.output, rows[0]["part"], video_id)
    reason = str(strip.note).removeprefix("No frames: ")
    return _strip(frames, times_s, f"Frames that preprocess kept, at its size: the video itself {reason}")


def without_bars(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Frames (T, H, W, C) of a video of that height and width without the black bars of `letterbox`."""
    scale = min(frames.shape[1] / height, frames.shape[2] / width)
    shown = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = ((whole - part) // 2 for whole, part in zip(frames.shape[1:3], shown, strict=True))
    cut = np.zeros(frames.shape[1:3], bool)
    cut[top : top + shown[0], left : left + shown[1]] = True
    if frames[:, ~cut].max(initial=0) > 40:  # a video that is shown turned has its bars elsewhere
        return frames
    return frames[:, top : top + shown[0], left : left + shown[1]]


def _strip(frames: np.ndarray, times_s: list[float], note: str | None = None) -> FilmStrip:
    urls = [(_data_url(frame), time_s) for frame, time_s in zip(frames, times_s, strict=True)]
    return FilmStrip(urls, (frames.shape[2], frames.shape[1]), note)


def _data_url(frame: np.ndarray) -> str:
    colorspace = "GRAY" if frame.shape[2] == 1 else "RGB"
    image = simplejpeg.encode_jpeg(np.ascontiguousarray(frame), JPEG_QUALITY, colorspace, colorsubsampling="420")
    return f"data:image/jpeg;base64,{base64.b64encode(image).decode()}"


def _ledger(clips: str | None) -> Ledger | None:
    if clips is None:
        return None
    try:
        with storage_errors(clips):
            return open_ledger(clips)
    except (UsageError, DamagedFileError):  # the clips of the training were removed, or are out of reach
        return None
