"""A video file and wanted frames become uint8 frames. Knows nothing about storage, Parquet or Ray.

    with open_video("a.mp4", spec) as video:
        for frame in video.frames([0, 40, 80]):  # (H, W, C) uint8, as spec.size, spec.resize and spec.color say
            ...

A decoder is a class with the face of `Video`; `DECODERS` lists them by name. All of them resize with the same filter,
so that two decoders differ in the frames they choose and in nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from typing import Any, Protocol

import numpy as np

from vidpipe.decode.by_range.file import Source
from vidpipe.decode.pyav import PyavVideo
from vidpipe.errors import UsageError
from vidpipe.spec import ClipSpec


class Video(Protocol):
    """One open video."""

    codec: str
    times_s: np.ndarray
    """Presentation time of every frame in seconds, ascending, the first one 0.0."""
    costs: np.ndarray | None
    """Packets to decode for every frame when it is wanted alone; None where nobody asks, or knows."""

    @property
    def num_damaged(self) -> int | None:
        """Packets seen damaged so far, among those that were read or decoded; None where the decoder does not tell."""
        ...

    @property
    def width(self) -> int:
        """Pixels as displayed, after rotation; known once a frame was delivered."""
        ...

    @property
    def height(self) -> int: ...

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """The frames (H, W, C) uint8 at strictly ascending presentation indices, one at a time."""
        ...

    def close(self) -> None: ...


def _open_decord(path: str, spec: ClipSpec) -> Video:
    from vidpipe.decode.peers import DecordVideo

    return DecordVideo(path, spec)


def _open_torchcodec(path: str, spec: ClipSpec) -> Video:
    from vidpipe.decode.peers import TorchcodecVideo

    _load_torchcodec()
    return TorchcodecVideo(path, spec)


# The peers are imported when asked for: torchcodec brings torch, which takes seconds and 750 MB.
DECODERS: dict[str, Callable[[Any, ClipSpec], Video]] = {
    "pyav": PyavVideo,
    "decord": _open_decord,
    "torchcodec": _open_torchcodec,
}


def open_video(source: Source, spec: ClipSpec) -> closing[Video]:
    """Open a local file with the decoder that `spec` names; raises DecodeError.

    Of a RangeFile, which only `pyav` reads, raises IndexMismatch where it has to be fetched whole first.
    """
    return closing(DECODERS[spec.decoder](source, spec))


def check_decoder(name: str) -> None:
    """Raise UsageError, with the way out, when a decoder's library does not load on this machine."""
    try:
        if name == "decord":
            import decord  # noqa: F401
        elif name == "torchcodec":
            _load_torchcodec()
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"decoder {name} does not load here ({reason}); torchcodec needs FFmpeg's shared libraries on the system "
            f"(apt-get install ffmpeg), decord an x86-64 Linux wheel; or use --decoder pyav, which brings its own"
        ) from None


def _load_torchcodec() -> None:
    """Raise ImportError, or what torchcodec raises, when it lacks its libraries: no video is to blame for that."""
    import torchcodec.decoders

    # Since 0.16 it loads without FFmpeg, for pictures, and fails at the first video.
    if getattr(torchcodec, "ffmpeg_major_version", "older") is None:
        raise ImportError("torchcodec finds no FFmpeg libraries")


def decoder_versions(name: str) -> dict[str, str]:
    """Versions of a decoder's library and of the FFmpeg in it, as far as it tells."""
    from importlib.metadata import version

    if name != "pyav":
        return {name: version(name)}
    import av

    libraries = {library: ".".join(map(str, number)) for library, number in av.library_versions.items()}
    return {"pyav": av.__version__, **libraries}
