"""Which headers of which packets are worth reading while the packets pass by, and what they are kept as."""

from __future__ import annotations

from collections.abc import Callable

import av

from vidpipe.decode.h264 import H264Headers, Picture
from vidpipe.decode.mpeg4 import Mpeg4Headers, Vop

# H.264: the picture's header; MPEG-4: its kind and time.
Header = Picture | Vop | None

# Containers that store no presentation times: AVI and bare streams.
UNSTAMPED_FORMATS = frozenset(["avi", "h264", "hevc", "m4v", "mpegvideo", "obu", "mjpeg", "ivf", "dv"])


def header_reader(codec: str, format_name: str, extradata: bytes) -> Callable[[av.Packet], Header]:
    """A function that reads one packet's header, in decoding order; None where nothing is to be learnt."""
    is_stamped = format_name not in UNSTAMPED_FORMATS
    if codec == "h264":
        h264 = H264Headers(extradata)
        # With timestamps, only key frames are of interest: not all of them start clean.
        return lambda packet: None if is_stamped and not packet.is_keyframe else h264.read(bytes(packet))
    if codec == "mpeg4":
        mpeg4 = Mpeg4Headers(extradata)
        return lambda packet: mpeg4.read(bytes(packet))
    return lambda packet: None
