"""Parts of clips as small as they get, with noise for frames and no video behind them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vidpipe.guard import Clip
from vidpipe.parts import PartWriter, clips_schema
from vidpipe.spec import ClipSpec

RAW = ClipSpec(num_frames=3, size="12x20")
GRAY = ClipSpec(num_frames=3, size="12x20", color="gray")
JPEG = ClipSpec(num_frames=3, size="12x20", encoding="jpeg")
VERSIONS = {"pyav": "18"}


def frames_of(spec: ClipSpec, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=spec.shape, dtype=np.uint8)


def jpegs_of(frames: np.ndarray, quality: int = 95) -> list[bytes]:
    images = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "JPEG", quality=quality, subsampling=0)
        images.append(file.getvalue())
    return images


def clip(spec: ClipSpec, seed: int, clip_index: int = 0) -> Clip:
    frames = frames_of(spec, seed)
    images = jpegs_of(frames) if spec.encoding == "jpeg" else None
    return Clip(
        clip_index=clip_index,
        start_s=0.5,
        end_s=1.5,
        frame_pts_s=[0.5, 1.0, 1.25],
        num_repeated=seed,
        max_shift_s=0.0,
        payload=frames.tobytes() if images is None else b"".join(images),
        sizes=None if images is None else [len(image) for image in images],
    )


def video(name: str, **changes: Any) -> dict[str, Any]:
    row = {"video_id": name, "url": f"/videos/{name}.mp4", "version": f"version of {name}"}
    return {**row, "label": "left", "split": "train", "group": None, **changes}


def receipt(name: str, num_clips: int, **changes: Any) -> dict[str, Any]:
    return {**video(name, **changes), "status": "ok", "num_clips": num_clips, "part": None}


def write_part(path: Path, spec: ClipSpec, videos: dict[str, int]) -> Path:
    """A part with so many clips of each video; the frames of clip number i of the part are those of seed i."""
    writer = PartWriter(path, clips_schema(spec, VERSIONS))
    for name, num_clips in videos.items():
        for clip_index in range(num_clips):
            writer.add(video(name), clip(spec, writer.num_rows, clip_index))
    writer.close([receipt(name, num_clips) for name, num_clips in videos.items()])
    return path
