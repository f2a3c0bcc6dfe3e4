"""decord and torchcodec behind the face of `Video`, to compare them on one's own files.

Neither can be told which formats to refuse, and both follow playlists to other files. So PyAV's white list looks at the
file first, and they get its bytes, never its path. As their FFmpeg may still see a playlist where ours sees a video,
they work while the process can open nothing. Both are asked for one thread and full-size frames.
"""

from __future__ import annotations

import io
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np

from vidpipe.decode.container import is_cut_short, open_container
from vidpipe.decode.packets import read_packets
from vidpipe.decode.resize import Resizer
from vidpipe.errors import DecodeError
from vidpipe.spec import ClipSpec

FRAMES_A_CALL = 8  # full-size frames held at once


class _PeerVideo:
    """What the peers share: a safe start, and their RGB pictures through our resize."""

    costs: np.ndarray | None = None
    num_damaged: int | None = None

    def __init__(self, path: str, spec: ClipSpec) -> None:
        container, stream = open_container(path)
        self.codec = stream.codec_context.name
        self._rate = float(stream.average_rate or 25)
        self._time_base = float(stream.time_base or 1)
        self._pts = [pts for pts in read_packets(container, stream, "", unpacks=False).pts if pts is not None]
        container.close()
        if is_cut_short(path):
            raise DecodeError("truncated", "the file ends before its content does")
        self._resize = Resizer(spec)
        self._data = Path(path).read_bytes()
        self.times_s = np.empty(0)

    @property
    def width(self) -> int:
        return self._resize.width

    @property
    def height(self) -> int:
        return self._resize.height

    def _read(self, indices: list[int]) -> np.ndarray:
        """Full-size RGB pictures (N, h, w, 3) uint8."""
        raise NotImplementedError

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        for first in range(0, len(indices), FRAMES_A_CALL):
            wanted = [int(index) for index in indices[first : first + FRAMES_A_CALL]]
            for image in self._read(wanted):
                yield self._resize(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"))

    def close(self) -> None:
        self._data = b""


class DecordVideo(_PeerVideo):
    """decord 0.6: frames by its own index, which it takes from the packets' order of time."""

    def __init__(self, path: str, spec: ClipSpec) -> None:
        super().__init__(path, spec)
        import decord

        self._errors = decord.DECORDError, RuntimeError, IndexError
        # decord writes raw bytes of bad files to stderr.
        decord.logging.set_level(decord.logging.QUIET)
        with _sealed(*self._errors):
            self._reader = decord.VideoReader(io.BytesIO(self._data), num_threads=1)
            starts_s = self._reader.get_frame_timestamp(range(len(self._reader)))[:, 0].astype(np.float64)
        self.times_s = np.maximum.accumulate(starts_s - starts_s[0])

    def _read(self, indices: list[int]) -> np.ndarray:
        with _sealed(*self._errors):
            return self._reader.get_batch(indices).asnumpy()

    def close(self) -> None:
        del self._reader
        super().close()


class TorchcodecVideo(_PeerVideo):
    """torchcodec in exact mode; it has no list of all times, so they come from the packets where the counts agree."""

    def __init__(self, path: str, spec: ClipSpec) -> None:
        super().__init__(path, spec)
        from torchcodec.decoders import VideoDecoder

        with _sealed(RuntimeError, ValueError):
            self._decoder = VideoDecoder(self._data, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
        if len(self._pts) == len(self._decoder):
            pts = np.sort(np.array(self._pts, np.float64))
            self.times_s = (pts - pts[0]) * self._time_base
        else:
            self.times_s = np.arange(len(self._decoder)) / self._rate

    def _read(self, indices: list[int]) -> np.ndarray:
        with _sealed(RuntimeError, IndexError):
            return self._decoder.get_frames_at(indices).data.numpy()

    def close(self) -> None:
        del self._decoder
        super().close()


@contextmanager
def _sealed(*errors: type[Exception]) -> Iterator[None]:
    """No file and no connection can be opened meanwhile; `errors`, a peer's for all that is wrong, are DecodeError."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    except errors as error:
        first_line = str(error).strip().partition("\n")[0][:300]
        raise DecodeError("corrupt", first_line or type(error).__name__) from None
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
