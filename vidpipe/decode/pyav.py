"""The exact decoder: frame i is the i-th frame that a full sequential FFmpeg decode shows, bit for bit.

What need not be decoded is not: groups of pictures without a wanted one, what follows the last wanted one, and inside a
group the pictures that no other one refers to, or of AV1 all that no wanted one depends on. Where the packets do not
tell which pictures there are, the pictures are counted by decoding them all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, pairwise

import av
import numpy as np

from vidpipe.decode.by_range.feed import RangeFeed
from vidpipe.decode.by_range.file import RangeFile, Source
from vidpipe.decode.container import check_whole
from vidpipe.decode.feed import Feed
from vidpipe.decode.packets import HOLD_BYTES, IndexMismatch, is_packed
from vidpipe.decode.pictures import know_pictures
from vidpipe.decode.plan import Pictures, Run, damaged, frame_costs, plan_runs
from vidpipe.decode.resize import Resizer
from vidpipe.decode.skipping import SKIP_CHECKS, checked
from vidpipe.decode.trimming import trimmed
from vidpipe.errors import DecodeError
from vidpipe.spec import ClipSpec

# Decoders whose skip_frame="NONREF" leaves every picture that is decoded bit-identical.
NONREF_CODECS = frozenset(
    ("h264", "hevc", "mpeg4", "mpeg2video", "mpeg1video", "vp8", "h263", "msmpeg4v3", "vc1", "wmv3")
)
# Decoders that else pass over an error: MJPEG shows what the memory happens to hold there, HEVC leaves pictures out.
LENIENT_CODECS = frozenset(("mjpeg", "hevc"))
# Packets looked at, then decoded, in one go: taking turns, both find the caches full of the other's code and data,
# which takes 3 % of a small video's decode.
BATCH_PACKETS = 64
FIELD_ORDER_UNKNOWN, FIELD_ORDER_PROGRESSIVE = 0, 1  # AVFieldOrder


class PyavVideo:
    """A video decoded with PyAV; see `vidpipe.decode.Video`.

    `count=True` counts the pictures by decoding them all, whatever the packets say.
    """

    def __init__(self, source: Source, spec: ClipSpec, *, count: bool = False) -> None:
        self._spec = spec
        self._resize = Resizer(spec)
        self._keeps_damaged = spec.on_damage == "keep"
        self._damage: list[int] = []
        self._kept: list[av.VideoFrame] | None = None
        self._feed: Feed | RangeFeed = (
            RangeFeed(source, spec) if isinstance(source, RangeFile) else Feed(source, unpacks=not count)
        )
        try:
            self._is_broken_off = self._breaks_off(source)
            self.codec = self._feed.codec
            # In a transport stream the mark says that a counter jumped, as it does where two recordings are joined.
            self._believes_marks = self._feed.container.format.name != "mpegts"
            self._seen_damaged = set(self._feed.index.damaged if self._believes_marks else ())
            context = self._feed.stream.codec_context
            self._skip_check = SKIP_CHECKS[self.codec](context.extradata or b"") if self.codec in SKIP_CHECKS else None
            self._pictures = None if count else self._know_pictures()
            if (
                self._pictures is None
                and isinstance(source, str)
                and is_packed(self._feed.container, self._feed.stream)
            ):
                self._feed.close()  # what unpacking makes of damage is not what a decoder does
                self._feed = Feed(source, unpacks=False)
            self.times_s = self._count_pictures() if self._pictures is None else self._planned_times_s(self._pictures)
            # To count the pictures, all of them are decoded: then each costs the same.
            self.costs = frame_costs(self._pictures) if spec.tolerance_s and self._pictures is not None else None
        except BaseException:
            self._feed.close()
            raise

    @property
    def num_damaged(self) -> int:
        """See `Video.num_damaged`; the missing rest of a file that breaks off counts as one."""
        return len(self._seen_damaged - self._before_first_key()) + self._is_broken_off

    @property
    def width(self) -> int:
        return self._resize.width

    @property
    def height(self) -> int:
        return self._resize.height

    def close(self) -> None:
        self._kept = None
        self._feed.close()

    def frames(self, indices: Sequence[int] | np.ndarray) -> Iterator[np.ndarray]:
        """See `Video.frames`. Raises DecodeError `corrupt` when a wanted picture is damaged, and IndexMismatch."""
        if self._pictures is None:
            return self._frames_by_count([int(index) for index in indices])
        return self._frames_by_plan(self._pictures, self._pictures.in_order[np.asarray(indices)])

    def _know_pictures(self) -> Pictures | None:
        context = self._feed.stream.codec_context
        is_interlaced = context.field_order not in (FIELD_ORDER_UNKNOWN, FIELD_ORDER_PROGRESSIVE)
        return know_pictures(
            self._feed.index,
            format_name=self._feed.container.format.name,
            codec=self.codec,
            is_interlaced=is_interlaced,
            may_reorder=context.has_b_frames,
        )

    def _planned_times_s(self, pictures: Pictures) -> np.ndarray:
        if pictures.is_stamped:
            return self._seconds(pictures.stamp[pictures.in_order])
        return self._unstamped_times_s(int(pictures.is_shown.sum()))

    def _unstamped_times_s(self, num_pictures: int) -> np.ndarray:
        """Times where pictures carry none: those of the packets, one a picture, else a constant rate."""
        index = self._feed.index
        for times in (index.pts, index.dts):
            known = sorted({time for time in times if time is not None})
            if len(known) == len(index) == num_pictures:
                return self._seconds(np.array(known, np.int64))
        return np.arange(num_pictures) / float(self._feed.stream.average_rate or 25)

    def _seconds(self, stamps: np.ndarray) -> np.ndarray:
        return (stamps - stamps[0]) * float(self._feed.stream.time_base or 1)

    def _frames_by_plan(self, pictures: Pictures, positions: np.ndarray) -> Iterator[np.ndarray]:
        remaining = iter(pictures.stamp[positions].tolist())
        stamp = next(remaining, None)
        targets = set(positions.tolist())
        runs = plan_runs(pictures, sorted(targets))
        self._feed.plan(runs)
        for run in runs:
            self._damage = []
            shown = None
            for picture in self._decode_run(run, pictures, targets):
                time = picture.pts
                if time is None:
                    continue
                if shown is not None and time < shown:
                    raise IndexMismatch(f"picture at timestamp {time} shown after that at {shown}")
                shown = time
                if picture.is_corrupt:
                    for position in np.flatnonzero(pictures.stamp == time).tolist():
                        self._note_damage(position)
                if time == stamp:
                    yield self._resize(picture)
                    stamp = next(remaining, None)
            if self._damage and not self._keeps_damaged:
                wanted = [target for target in sorted(targets) if run.start <= target < run.stop]
                hit = damaged(pictures, wanted, self._damage)
                if hit:
                    raise DecodeError("corrupt", f"{len(hit)} of {len(wanted)} frames wanted there cannot be decoded")
        if stamp is not None:
            raise IndexMismatch(f"no picture at timestamp {stamp}")

    def _frames_by_count(self, wanted: list[int]) -> Iterator[np.ndarray]:
        if wanted[-1] >= self._num_sound:
            raise DecodeError("corrupt", f"the pictures from {self._num_sound} on cannot be decoded")
        pictures = self._decode_whole() if self._kept is None else iter(self._kept)
        chosen = set(wanted)
        for number, picture in enumerate(pictures):
            if number in chosen:
                yield self._resize(picture)
            if number == wanted[-1]:
                return

    def _count_pictures(self) -> np.ndarray:
        """Times of all pictures, from decoding them all; keeps the pictures when they fit into memory."""
        pts: list[int | None] = []
        kept: list[av.VideoFrame] | None = []
        num_bytes = 0
        num_sound: int | None = None  # pictures before the first damaged one
        harmless = self._before_first_key()
        position_of = {time: position for position, time in enumerate(self._feed.index.pts) if position not in harmless}
        for picture in self._decode_whole():
            if picture.is_corrupt:  # it counts by its packet, or where that is unknown, by itself
                self._note_damage(position_of.get(picture.pts, ~len(pts)))
            self._damage = [position for position in self._damage if position not in harmless]
            if num_sound is None and (self._damage or picture.is_corrupt):
                num_sound = len(pts)
            pts.append(picture.pts)
            if kept is not None:
                kept.append(picture)
                num_bytes += sum(plane.buffer_size for plane in picture.planes)
                if num_bytes > HOLD_BYTES:
                    kept = None
        if not pts:
            raise DecodeError("corrupt", f"none of the {len(self._feed.index)} packets gives a picture")
        if num_sound is None and self._damage:  # the end is missing, and how much of it nobody knows
            num_sound = 0
        self._num_sound = len(pts) if num_sound is None or self._keeps_damaged else num_sound
        self._kept = kept
        stamps = [time for time in pts if time is not None]
        if len(stamps) == len(pts) and all(before < after for before, after in pairwise(stamps)):
            return self._seconds(np.array(stamps, np.int64))
        return self._unstamped_times_s(len(pts))

    def _before_first_key(self) -> set[int]:
        """Positions before the first key frame, in the stream or in time.

        A recording may begin in the middle of another one; what cannot be decoded of its beginning is no damage.
        """
        index = self._feed.index
        first_key = next(iter(np.flatnonzero(index.is_key).tolist()), 0)
        first = index.pts[first_key]
        leading = (position for position, time in enumerate(index.pts) if first is not None and (time or 0) < first)
        return {*range(first_key), *leading}

    def _decode_whole(self) -> Iterator[av.VideoFrame]:
        """All pictures that a sequential decode shows."""
        self._damage = []
        packets = self._feed.whole()
        self._begin()
        for position, packet in packets:
            yield from self._decode(packet, position)
        yield from self._decode(None, len(self._feed.index))

    def _decode_run(self, run: Run, pictures: Pictures, targets: set[int]) -> Iterator[av.VideoFrame]:
        """The pictures of one run; those that are not wanted may be missing."""
        skips = self.codec in NONREF_CODECS
        is_begun, skips_now = False, None
        packets = checked(self._packets(run, targets), self._skip_check, run, pictures, self._feed.index)
        while batch := list(islice(packets, BATCH_PACKETS)):
            if not is_begun:  # a file that is read again has a decoder of its own
                self._begin()
                is_begun = True
            for position, packet, can_be_skipped in batch:
                # Told to skip, the H.264 decoder keeps quiet about other pictures that it cannot decode.
                skips_this = skips and can_be_skipped and position not in targets
                if skips_this is not skips_now:
                    self._feed.stream.codec_context.skip_frame = "NONREF" if skips_this else "DEFAULT"
                    skips_now = skips_this
                if not pictures.is_stamped:
                    packet.pts, packet.dts = int(pictures.stamp[position]), position
                yield from self._decode(packet, position)
        if skips_now:
            self._feed.stream.codec_context.skip_frame = "DEFAULT"
        yield from self._decode(None, run.stop)

    def _packets(self, run: Run, targets: set[int]) -> Iterator[tuple[int, av.Packet]]:
        """(position, packet) to feed for one run."""
        packets = self._feed.run(run)
        if self.codec != "av1":
            return packets
        return trimmed(packets, targets, self._feed.stream.codec_context.extradata or b"")

    def _begin(self) -> None:
        """Make the decoder ready for packets that do not continue the last ones."""
        context = self._feed.stream.codec_context
        if context.is_open:
            context.flush_buffers()
        else:
            context.thread_count = 1  # many videos at once, one thread each; skip_frame needs it, too
            options = {"err_detect": "explode"} if self.codec in LENIENT_CODECS else {}
            if self._spec.skip_loop_filter:  # on key frames, where the drift ends, it costs next to nothing
                options["skip_loop_filter"] = "nokey"
            context.options = options

    def _note_damage(self, position: int) -> None:
        self._damage.append(position)
        self._seen_damaged.add(position)

    def _decode(self, packet: av.Packet | None, position: int) -> list[av.VideoFrame]:
        """The pictures that come out for one packet; `_damage` notes the positions of those that fail."""
        if packet is not None and packet.is_corrupt and self._believes_marks:
            self._note_damage(position)
        try:
            return self._feed.stream.codec_context.decode(packet)
        except av.error.MemoryError as error:
            raise DecodeError("out_of_memory", f"the decoder ran out of memory: {error}") from None
        except (av.error.DecoderNotFoundError, av.error.PatchWelcomeError, av.error.NotImplementedError) as error:
            raise DecodeError("unsupported", f"{self.codec}: {error.strerror}") from None
        except av.error.FFmpegError:
            self._note_damage(position)
            return []

    def _breaks_off(self, source: Source) -> bool:
        """True for a file that ends too early and is kept; one that is not, or holds nothing, is a DecodeError."""
        try:
            check_whole(source, self._feed.index)
        except DecodeError:
            if not self._keeps_damaged or not len(self._feed.index):
                raise
            if isinstance(source, RangeFile):
                raise IndexMismatch("the file is read whole to see what is there of it") from None
            return True
        return False
