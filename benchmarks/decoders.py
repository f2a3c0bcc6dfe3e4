"""One decoder in a process of its own: `python benchmarks/decoders.py NAME`, asked by `decode.py` on stdin.

    -> {"path", "indices", "output"}     frames at these indices as 112 x 112 RGB, into `output` (.npy) unless null;
       "large": decoded at full size and shrunk then
    <- {"cpu_s", "bytes_read"}           or {"error"}

`full decode` is no contender: it answers with the time of every frame, and without indices writes a small gray picture
of each.
Each decoder is used as its users use it at its best: one thread, and its own resize where it has one.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

SIZE_PX, THUMBNAIL_PX = 112, 56
Indices = list[int]


# --- vidpipe ----------------------------------------------------------------------------------------------------------


def vidpipe_frames(path: str, indices: Indices) -> np.ndarray:
    from vidpipe.decode import open_video
    from vidpipe.decode.pyav import IndexMismatch, PyavVideo

    frames = np.empty((len(indices), SIZE_PX, SIZE_PX, 3), np.uint8)
    try:
        with open_video(path, rgb_spec()) as video:
            for number, frame in enumerate(video.frames(indices)):
                frames[number] = frame
    except IndexMismatch:
        with closing(PyavVideo(path, rgb_spec(), count=True)) as video:
            for number, frame in enumerate(video.frames(indices)):
                frames[number] = frame
    return frames


def rgb_spec() -> Any:
    from vidpipe.spec import ClipSpec

    return ClipSpec(size=str(SIZE_PX), resize="squash")


class NeededPackets:
    """The floor: the packets of vidpipe's plan through a bare codec context; no file is opened, and no plan made.

    With `resizes`, the wanted pictures become frames, which is part of the task, too.
    """

    def __init__(self, *, resizes: bool) -> None:
        self._resizes = resizes
        self._stamps: set[int] = set()
        self._key: tuple[str, Indices] | None = None
        self._runs: list[list[tuple[Any, str]]] = []

    def __call__(self, path: str, indices: Indices) -> None:
        import av

        from vidpipe.decode.resize import Resizer

        resize = Resizer(rgb_spec())
        context = av.CodecContext.create(self._codec, "r")
        context.extradata = self._extradata
        context.thread_count = 1
        for run in self._runs:
            if context.is_open:
                context.flush_buffers()
            for packet, skip in [*run, (None, "DEFAULT")]:
                context.skip_frame = skip
                for picture in context.decode(packet):
                    if self._resizes and picture.pts in self._stamps:
                        resize(picture)

    def prepare(self, path: str, indices: Indices) -> None:
        """Off the clock: the plan, and its packets in memory."""
        from vidpipe.decode.plan import plan_runs
        from vidpipe.decode.pyav import NONREF_CODECS, PyavVideo

        if self._key == (path, indices):
            return
        with closing(PyavVideo(path, rgb_spec())) as video:
            context, pictures = video._feed.stream.codec_context, video._pictures
            self._codec, self._extradata = context.codec, context.extradata
            if pictures is None:
                raise ValueError("no plan: the pictures of this file are counted")
            targets = set(pictures.in_order[indices].tolist())
            self._stamps = set(pictures.stamp[sorted(targets)].tolist())
            self._runs = []
            for run in plan_runs(pictures, sorted(targets)):
                packets = []
                for position, packet in video._packets(run, targets):
                    if not pictures.is_stamped:
                        packet.pts, packet.dts = int(pictures.stamp[position]), position
                    skips = video.codec in NONREF_CODECS and position not in targets
                    packets.append((packet, "NONREF" if skips else "DEFAULT"))
                self._runs.append(packets)
        self._key = path, indices


# --- what people use instead ------------------------------------------------------------------------------------------


def decord_frames(path: str, indices: Indices) -> np.ndarray:
    import decord

    reader = decord.VideoReader(path, width=SIZE_PX, height=SIZE_PX, num_threads=1)
    return reader.get_batch(indices).asnumpy()


def torchcodec_frames(path: str, indices: Indices, seek_mode: str = "exact") -> np.ndarray:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(
        path,
        dimension_order="NHWC",
        num_ffmpeg_threads=1,
        seek_mode=seek_mode,
        transforms=[Resize((SIZE_PX, SIZE_PX))],
    )
    return decoder.get_frames_at(indices).data.numpy()


def torchcodec_approximate_frames(path: str, indices: Indices) -> np.ndarray:
    return torchcodec_frames(path, indices, "approximate")


def decord_large_frames(path: str, indices: Indices) -> np.ndarray:
    import decord

    reader = decord.VideoReader(path, num_threads=1)
    return np.stack([shrunk(reader[index].asnumpy()) for index in indices])


def torchcodec_large_frames(path: str, indices: Indices, seek_mode: str = "exact") -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode=seek_mode)
    return np.stack([shrunk(decoder.get_frame_at(index).data.numpy()) for index in indices])


def torchcodec_approximate_large_frames(path: str, indices: Indices) -> np.ndarray:
    return torchcodec_large_frames(path, indices, "approximate")


def shrunk(image: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(image[..., :3], (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)


def opencv_frames(path: str, indices: Indices) -> np.ndarray:
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    frames = []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        is_read, image = capture.read()
        if not is_read:
            raise ValueError(f"frame {index} cannot be read")
        small = cv2.resize(image, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_AREA)
        frames.append(cv2.cvtColor(small, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(frames)


def pyav_all_frames(path: str, indices: Indices) -> np.ndarray:
    """Decode from the beginning to the last wanted frame; the same FFmpeg and the same resize as vidpipe's."""
    from vidpipe.decode.resize import Resizer

    resize, wanted = Resizer(rgb_spec()), set(indices)
    frames = []
    with open_plainly(path) as (container, stream):
        for number, picture in enumerate(container.decode(stream)):
            if number in wanted:
                frames.append(resize(picture))
            if number == indices[-1]:
                break
    return np.stack(frames)


@contextmanager
def open_plainly(path: str) -> Iterator[tuple[Any, Any]]:
    """A container and its best video stream with one thread; of vidpipe only the white list of formats."""
    import av

    from vidpipe.decode.container import OPEN_OPTIONS

    with av.open(path, options=OPEN_OPTIONS) as container:
        stream = container.streams.best("video")
        if stream is None:
            raise ValueError("no video stream")
        stream.thread_count, stream.thread_type = 1, "NONE"
        yield container, stream


VIDPIPE, DECODE_ALL = "vidpipe", "PyAV, decode all"
PACKETS, PACKETS_RESIZED = FLOORS = "packets alone", "packets, resized"
DECODERS: dict[str, Callable[[str, Indices], np.ndarray | None]] = {
    VIDPIPE: vidpipe_frames,
    PACKETS: NeededPackets(resizes=False),
    PACKETS_RESIZED: NeededPackets(resizes=True),
    "decord": decord_frames,
    "torchcodec exact": torchcodec_frames,
    "torchcodec approximate": torchcodec_approximate_frames,
    "OpenCV, POS_FRAMES": opencv_frames,
    DECODE_ALL: pyav_all_frames,
}
# To judge frames by their looks: decoded at full size and shrunk by averaging. A resize that leaves pixels out may make
# a frame of a nearly still scene look more like its neighbour.
LARGE: dict[str, Callable[[str, Indices], np.ndarray | None]] = {
    "decord": decord_large_frames,
    "torchcodec exact": torchcodec_large_frames,
    "torchcodec approximate": torchcodec_approximate_large_frames,
}
FULL_DECODE = "full decode"


# --- answering --------------------------------------------------------------------------------------------------------


def full_decode(path: str, indices: Indices | None, output: str) -> dict[str, Any]:
    """The full sequential decode: times of all frames; into `output` their thumbnails, or the frames at `indices`."""
    from vidpipe.decode.resize import Resizer
    from vidpipe.spec import ClipSpec

    spec = ClipSpec(size=str(THUMBNAIL_PX), resize="squash", color="gray") if indices is None else rgb_spec()
    resize, wanted = Resizer(spec), set(indices or ())
    pts, images = [], []
    with open_plainly(path) as (container, stream):
        kind = f"{stream.codec_context.name} {Path(path).suffix} {stream.codec_context.height}p"
        rate, time_base = float(stream.average_rate or 25), float(stream.time_base or 1)
        for number, picture in enumerate(all_pictures(container, stream)):
            pts.append(picture.pts)
            if indices is None or number in wanted:
                images.append(resize(picture))
    np.save(output, np.stack(images)[..., 0] if indices is None else np.stack(images))
    is_ordered = None not in pts and all(before < after for before, after in pairwise(pts))
    times_s = [(time - pts[0]) * time_base if is_ordered else number / rate for number, time in enumerate(pts)]
    return {"times_s": times_s, "kind": kind}


def all_pictures(container: Any, stream: Any) -> Iterator[Any]:
    """What cannot be decoded, as the pictures before the first key frame of a cut recording, is left out."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def run(decoder: Callable[[str, Indices], np.ndarray | None], request: dict[str, Any]) -> dict[str, Any]:
    path, indices = request["path"], request["indices"]
    if isinstance(decoder, NeededPackets):
        decoder.prepare(path, indices)
    start_bytes, start_s = bytes_read(), time.process_time()
    frames = decoder(path, indices)
    cpu_s = time.process_time() - start_s
    num_bytes = bytes_read() - start_bytes
    if request["output"] and frames is not None:
        np.save(request["output"], frames)
    return {"cpu_s": cpu_s, "bytes_read": num_bytes}


def bytes_read() -> int:
    """What this process has read so far, from the page cache or not (Linux)."""
    with open("/proc/self/io") as file:
        return int(file.readline().split()[1])


def main(name: str) -> None:
    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if name == FULL_DECODE:
            return full_decode(request["path"], request["indices"], request["output"])
        return run((LARGE if request.get("large") else {}).get(name, DECODERS[name]), request)

    serve(answer)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer requests on stdin, one JSON object a line, until it closes."""
    # Libraries print to stdout; the answers go to what stdout was.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        try:
            result = answer(json.loads(line))
        except Exception as error:  # noqa: BLE001 - whatever a library raises is its answer to this file
            result = {"error": f"{type(error).__name__}: {error}".partition("\n")[0][:200]}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
