"""What the packets of a stream say without decoding: which pictures there are, and at which times they are shown."""

from __future__ import annotations

from dataclasses import dataclass, field

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

HOLD_BYTES = 64 << 20  # packets (and pictures) kept in memory instead of being read (decoded) a second time
MPEG4_EMPTY_VOP_BYTES = 20


@dataclass
class PacketIndex:
    """One entry a packet, in decoding order."""

    pts: list[int | None] = field(default_factory=list)
    is_key: list[bool] = field(default_factory=list)
    is_discard: list[bool] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    held: list[av.Packet] | None = field(default_factory=list)
    """The packets themselves; None when they are too many to keep."""
    read_error: str | None = None
    """What stopped the demuxer before the end, if anything did."""


def read_packets(container: InputContainer, stream: VideoStream) -> PacketIndex:
    """Demux the whole stream once, without decoding."""
    index = PacketIndex()
    num_bytes = 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            index.pts.append(packet.pts)
            index.is_key.append(packet.is_keyframe)
            index.is_discard.append(packet.is_discard)
            index.size.append(packet.size)
            num_bytes += packet.size
            if index.held is not None:
                index.held.append(packet)
                if num_bytes > HOLD_BYTES:
                    index.held = None
    except av.error.FFmpegError as error:
        index.read_error = f"{type(error).__name__}: {error.strerror}"
    return index


def shown_pts(index: PacketIndex, format_name: str, codec: str, is_interlaced: bool) -> np.ndarray | None:
    """Timestamps of the pictures that a full decode shows, ascending; None when only a full decode can tell.

    A packet is one shown picture where the container stamps every packet with its own presentation time. It is not in
    AVI and raw streams (decoding times at most), in VP8 (hidden pictures have packets of their own), for MPEG-4 packets
    without a picture, before the first key frame, and for fields that share a picture in transport and program streams.
    """
    pts = [time for time in index.pts if time is not None]
    if not pts or len(set(pts)) != len(index.pts) or not index.is_key[0]:
        return None
    if format_name == "avi" or format_name in ("h264", "hevc", "m4v", "mpegvideo", "obu", "mjpeg", "ivf", "dv"):
        return None
    if codec == "vp8" or (codec == "mpeg4" and min(index.size) < MPEG4_EMPTY_VOP_BYTES):
        return None
    if format_name in ("mpegts", "mpeg") and (is_interlaced or codec not in ("h264", "hevc")):
        return None
    shown = sorted(time for time, cut in zip(pts, index.is_discard, strict=True) if not cut)
    return np.array(shown, np.int64) if shown else None


def damaged_targets(index: PacketIndex, targets: set[int], damage: list[int]) -> list[int]:
    """Those wanted packets whose picture depends on a damaged packet: one between its key frame and itself.

    A picture shown before the key frame that precedes it in the stream (open GOP) depends on the group before, too.
    """
    if not damage:
        return []
    keys = np.flatnonzero(index.is_key)
    damage_sorted = np.sort(damage)
    hit = []
    for target in sorted(targets):
        group = int(np.searchsorted(keys, target, side="right")) - 1
        while group > 0 and _before(index.pts[target], index.pts[keys[group]]):
            group -= 1
        start = int(keys[max(group, 0)]) if len(keys) else 0
        first = int(np.searchsorted(damage_sorted, start))
        if first < len(damage_sorted) and damage_sorted[first] <= target:
            hit.append(target)
    return hit


def _before(pts: int | None, key_pts: int | None) -> bool:
    return pts is not None and key_pts is not None and pts < key_pts
