"""From packets to pictures: which packet holds which shown picture, and where decoding may start.

Every rule here is one about when the packets can be trusted. Where they cannot, the answer is None, and the pictures
are counted by decoding them all; `tests/unit/test_decode.py` proves the rules, file by file, against a full decode.
"""

from __future__ import annotations

import numpy as np

from vidpipe.decode import h264, mpeg4
from vidpipe.decode.headers import UNSTAMPED_FORMATS
from vidpipe.decode.packets import PacketIndex
from vidpipe.decode.plan import Pictures

# Every picture is coded by itself.
INTRA_ONLY_CODECS = frozenset(
    ("mjpeg", "prores", "dnxhd", "huffyuv", "ffvhuff", "rawvideo", "dvvideo", "png", "jpeg2000", "utvideo", "cfhd")
)
# Codecs that show pictures in the order in which they decode them.
IN_ORDER_CODECS = frozenset(("msmpeg4", "msmpeg4v2", "msmpeg4v3", "flv", "wmv1", "wmv2", "vp9", "av1"))
# Containers that may know when pictures are decoded only, and give that for the time at which they are shown.
DECODING_TIME_FORMATS = frozenset(("asf", "mxf"))
MAX_REORDERED = 32  # pictures by which display and decoding order differ; no codec holds back more than 16


def know_pictures(
    index: PacketIndex, *, format_name: str, codec: str, is_interlaced: bool, may_reorder: bool
) -> Pictures | None:
    """The pictures of a stream, from its packets alone; None where only a full decode can tell."""
    num_packets = len(index)
    is_start = np.array(index.is_key, bool)
    is_idle = np.zeros(num_packets, bool)
    is_stamped = format_name not in UNSTAMPED_FORMATS
    if codec == "h263" and not format_name.startswith("mov"):  # FFmpeg's parser calls every picture a key frame
        return None
    vops = [header for header in index.header if isinstance(header, mpeg4.Vop)]
    if any(vop.kind is mpeg4.NONE for vop in vops) or not mpeg4.are_in_time(vops, index.gaps):
        return None
    if codec in INTRA_ONLY_CODECS:
        is_start, is_idle, is_stamped = np.ones(num_packets, bool), np.ones(num_packets, bool), False
        stamp: list[int] | None = list(range(num_packets))
    elif is_stamped:
        stamp = trusted_pts(index, format_name, codec, is_interlaced)
        if stamp is not None and may_reorder and format_name in DECODING_TIME_FORMATS and stamp == sorted(stamp):
            return None
    else:
        stamp = ranks_from_headers(index, vops, format_name, codec)
    if stamp is None or all(index.is_discard):
        return None
    if codec == "h264" and not index.is_hollow:  # there, `RangeFeed` looks at the starts that are used
        is_start &= np.array([isinstance(header, h264.Picture) and header.is_clean_start for header in index.header])
    elif codec == "mpeg4" and not is_stamped:  # the key flags of AVI are unreliable for packed streams
        is_start = np.array([vop.kind is mpeg4.INTRA for vop in vops])
    is_shown = ~np.array(index.is_discard, bool)
    if min(np.array(stamp)[is_shown]) < stamp[0]:  # leading pictures of which nobody knows whether they are shown
        return None
    is_start[0] = True  # the decoder makes of the beginning what it makes of it in a full decode
    return Pictures(np.array(stamp, np.int64), is_start, is_shown, is_idle, is_stamped)


def trusted_pts(index: PacketIndex, format_name: str, codec: str, is_interlaced: bool) -> list[int] | None:
    """The packets' presentation timestamps, where each packet is one picture shown at its own time."""
    pts = [time for time in index.pts if time is not None]
    if len(set(pts)) != len(index) or not index.is_key[0]:
        return None
    if codec == "vp8" and not format_name.startswith("mov"):  # hidden pictures have packets of their own
        return None
    if codec == "mpeg4" and min(index.size) < mpeg4.EMPTY_VOP_BYTES:
        return None
    if is_interlaced and format_name in ("mpegts", "mpeg"):  # the fields of a picture may have packets of their own
        return None
    return pts if is_plausible(np.array(pts, np.int64), np.array(index.is_key, bool), codec) else None


def is_plausible(stamp: np.ndarray, is_key: np.ndarray, codec: str) -> bool:
    """False where damaged timestamps contradict the order of decoding: the decoder does not go by them."""
    rank = np.empty(len(stamp), np.int64)
    rank[np.argsort(stamp)] = moved = np.arange(len(stamp))
    if codec in IN_ORDER_CODECS | INTRA_ONLY_CODECS:
        return bool((rank == moved).all())
    latest_before = np.maximum.accumulate(stamp)[:-1]
    follows_all = stamp[1:] > latest_before  # nothing that was decoded before a key frame is shown after it
    is_in_reach = (np.abs(rank - moved) <= MAX_REORDERED).all() and follows_all[is_key[1:]].all()
    return bool(is_in_reach and leads_plausibly(stamp, is_key))


def leads_plausibly(stamp: np.ndarray, is_key: np.ndarray) -> bool:
    """False where a picture is shown before the key frame that it comes after, and cannot be one that leads to it.

    Such pictures come at once behind the key frame, and are shown after the key frame before. Another one has a damaged
    timestamp, and may be one that others refer to: a run that begins at the key frame must not leave it out.
    """
    group = np.cumsum(is_key) - 1
    first = stamp[is_key]
    is_leading = (group > 0) & (stamp < first[group])
    if not is_leading.any():
        return True
    num_trailing = np.cumsum(~is_leading)
    is_behind_trailing = num_trailing > num_trailing[is_key][group]
    is_too_early = stamp < first[np.maximum(group - 1, 0)]
    return not (is_leading & (is_behind_trailing | is_too_early)).any()


def ranks_from_headers(index: PacketIndex, vops: list[mpeg4.Vop], format_name: str, codec: str) -> list[int] | None:
    """Places in presentation order where the container stores no times, as the codec's own headers give them."""
    if codec == "mpeg4":
        return mpeg4.display_ranks(vops)
    if codec == "h264":
        return h264.display_ranks([header for header in index.header if isinstance(header, h264.Picture)])
    if codec in IN_ORDER_CODECS and format_name == "avi":
        return list(range(len(index)))
    return None
