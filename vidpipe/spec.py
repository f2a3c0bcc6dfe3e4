"""What a clip is: which frames, which size, which encoding. One frozen value that travels with every artifact."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar, Literal

from vidpipe.errors import UsageError

SamplingMode = Literal["uniform", "dense", "fps", "windows"]

# The fields a sampling mode uses, with their defaults; the others stay None, so that equal clips have equal specs.
SAMPLING_FIELDS: dict[str, dict[str, Any]] = {
    "uniform": {"num_frames": 16},
    "dense": {"num_frames": 16, "frame_stride": 4, "num_clips": 1, "seed": None},
    "fps": {"num_frames": 1, "rate_fps": 1.0},
    "windows": {"num_frames": 16, "window_s": 10.0, "hop_s": None, "window_end": "shifted"},
}
MAX_SIDE_PX = 8192
# Settings that give up exactness, with the values that keep it. They came later: only where they give it up, they count
# for the key, so that what was made before keeps its key.
EXACT_VALUES = {"tolerance_s": 0.0, "skip_loop_filter": False, "on_damage": "fail"}
# Rules that came later, with what was done before: a stored spec without the field means that, and that counts neither
# for the key nor for a checkpoint's id.
EARLIER_RULES = {"window_end": "repeat"}


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Settings that decide the bytes of a clip; two equal specs give equal clips of the same video."""

    sampling: SamplingMode = "uniform"
    """uniform: num_frames equally spaced over the whole video. dense: num_frames at frame_stride, num_clips of them.
    fps: frames at a fixed rate. windows: a clip of num_frames from every window_s seconds, for long videos."""
    num_frames: int | None = None
    """Frames in a clip (default 16; fps: 1, each frame a clip)."""
    frame_stride: int | None = None
    """dense: source frames from one sampled frame to the next (default 4)."""
    num_clips: int | None = None
    """dense: clips a video, spread evenly (default 1, from the middle)."""
    seed: int | None = None
    """dense: start the clips at random places drawn from this seed, instead of evenly."""
    rate_fps: float | None = None
    """fps: sampled frames a second (default 1)."""
    window_s: float | None = None
    """windows: seconds a clip spans (default 10)."""
    hop_s: float | None = None
    """windows: seconds from one clip's start to the next (default: window_s)."""
    window_end: Literal["shifted", "repeat"] | None = None
    """windows: shifted moves the last one back to end with the video, and windows count by the seconds they cover.
    repeat: it may reach past the end, where the last frame repeats (default: as the output has it, else shifted)."""
    size: str = "112"
    """Frame size in pixels: 112 (square) or HEIGHTxWIDTH, such as 128x171."""
    resize: Literal["crop", "squash", "letterbox"] = "crop"
    """crop: scale the short side, cut the centre. squash: ignore the aspect ratio. letterbox: fit, pad with black."""
    color: Literal["rgb", "gray"] = "rgb"
    """Channels of a frame: 3 or 1."""
    encoding: Literal["raw", "jpeg"] = "raw"
    """raw: exact pixels. jpeg: 2 to 3 times smaller, lossy (4:4:4)."""
    jpeg_quality: int | None = None
    """jpeg: quality from 1 to 100 (default 95)."""
    decoder: Literal["pyav", "decord", "torchcodec"] = "pyav"
    """pyav delivers the exact frames; the others are for comparison (README: decoders)."""
    tolerance_s: float = 0.0
    """Seconds by which a wanted time may move to a frame that costs less to decode: a key frame, else one that needs
    fewer packets (0: exact). frame_pts_s holds the true times, max_shift_s how far a clip's frames were moved."""
    skip_loop_filter: bool = False
    """Leave out the loop filter on all but key frames: of H.264, HEVC and VP8 13 to 26 % less CPU time, and pictures
    that drift from one key frame to the next (mean PSNR 41 to 45 dB, at worst 35 dB). VP9 and AV1 stay as they are."""
    on_damage: Literal["fail", "keep"] = "fail"
    """When a frame that is needed cannot be decoded, or the file ends too early. fail: the video fails. keep: frames
    are taken of what the decoder shows, gray smears and all; num_damaged in the status row counts the damage."""

    # Not a field: specs are equal however much of them was said.
    _unsaid: ClassVar[frozenset[str]] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "_unsaid", frozenset(name for name in EARLIER_RULES if getattr(self, name) is None))
        used = SAMPLING_FIELDS.get(self.sampling)
        if used is None:
            raise UsageError(f"sampling must be one of {', '.join(SAMPLING_FIELDS)}, got {self.sampling!r}")
        for name in dict.fromkeys(name for names in SAMPLING_FIELDS.values() for name in names):
            value = getattr(self, name)
            if name not in used:
                if value is not None:
                    modes = " or ".join(mode for mode, names in SAMPLING_FIELDS.items() if name in names)
                    raise UsageError(
                        f"{name} is for sampling {modes}, not {self.sampling}; drop it, or choose --sampling {modes}"
                    )
            elif value is None:
                object.__setattr__(self, name, used[name])
        if self.sampling == "windows" and self.hop_s is None:
            object.__setattr__(self, "hop_s", self.window_s)
        if self.encoding == "jpeg" and self.jpeg_quality is None:
            object.__setattr__(self, "jpeg_quality", 95)
        self._check()
        # One value has one spelling (2.0, not 2; 112, not 112x112 or 0112), or equal clips would get other keys.
        for name in ("rate_fps", "window_s", "hop_s", "tolerance_s"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, float(getattr(self, name)))
        square = self.height == self.width
        object.__setattr__(self, "size", f"{self.height}" if square else f"{self.height}x{self.width}")

    def _check(self) -> None:
        for name in ("num_frames", "frame_stride", "num_clips", "rate_fps", "window_s", "hop_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(f"{name} must be above 0, got {value}")
        if self.window_end not in (None, "shifted", "repeat"):
            raise UsageError(f"window_end must be one of shifted, repeat, got {self.window_end!r}")
        if self.seed is not None and self.seed < 0:
            raise UsageError(f"seed must be 0 or above, got {self.seed}")
        if self.encoding == "raw" and self.jpeg_quality is not None:
            raise UsageError("jpeg_quality is for encoding jpeg, not raw; drop it, or choose --encoding jpeg")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise UsageError(f"jpeg_quality must be from 1 to 100, got {self.jpeg_quality}")
        for name, choices in (
            ("resize", ("crop", "squash", "letterbox")),
            ("color", ("rgb", "gray")),
            ("encoding", ("raw", "jpeg")),
            ("decoder", ("pyav", "decord", "torchcodec")),
            ("on_damage", ("fail", "keep")),
        ):
            if getattr(self, name) not in choices:
                raise UsageError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        if not re.fullmatch(r"\d{1,6}(x\d{1,6})?", self.size):
            raise UsageError(f"size must be pixels such as 112, or HEIGHTxWIDTH such as 128x171, got {self.size!r}")
        if not all(1 <= side <= MAX_SIDE_PX for side in (self.height, self.width)):
            raise UsageError(f"size must be from 1 to {MAX_SIDE_PX} pixels a side, got {self.size!r}")
        self._check_inexact()
        if self.num_bytes_raw > 1 << 30:
            raise UsageError(
                f"a clip of shape {self.shape} takes {self.num_bytes_raw / 2**30:.1f} GiB, the limit is 1 GiB; "
                "take fewer frames or a smaller size"
            )

    def _check_inexact(self) -> None:
        if not 0 <= self.tolerance_s < float("inf"):
            raise UsageError(f"tolerance_s must be 0 (exact) or above, got {self.tolerance_s}")
        if self.tolerance_s and self.sampling == "dense":
            raise UsageError(
                f"tolerance_s is not for sampling dense, which asks for neighbouring frames, got {self.tolerance_s}; "
                "drop it, or choose --sampling fps, windows or uniform"
            )
        for name in self._inexact:
            if self.decoder != "pyav":
                value = getattr(self, name)
                raise UsageError(
                    f"{name} {value} is for decoder pyav, not {self.decoder}; drop it, or choose --decoder pyav"
                )

    @property
    def _inexact(self) -> list[str]:
        return [name for name, exact in EXACT_VALUES.items() if getattr(self, name) != exact]

    @property
    def is_exact(self) -> bool:
        """Every frame is the picture on screen at the time that was wanted, as a full sequential decode shows it.

        Where damage is kept, that cannot be said of all clips; `num_damaged` in the status rows tells of which.
        """
        return self.decoder == "pyav" and not self._inexact

    @property
    def height(self) -> int:
        return int(self.size.split("x")[0])

    @property
    def width(self) -> int:
        return int(self.size.split("x")[-1])

    @property
    def num_channels(self) -> int:
        return 3 if self.color == "rgb" else 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of a clip's frames: (T, H, W, C)."""
        assert self.num_frames is not None
        return self.num_frames, self.height, self.width, self.num_channels

    @property
    def num_bytes_raw(self) -> int:
        """Bytes of one clip as raw uint8."""
        num_frames, height, width, num_channels = self.shape
        return num_frames * height * width * num_channels

    def to_json(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> ClipSpec:
        return cls.from_stored(json.loads(text))

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any]) -> ClipSpec:
        """A spec as it was stored, perhaps by an earlier release: what it lacks was done by the rules of that time."""
        earlier = EARLIER_RULES if stored.get("sampling") == "windows" else {}
        return cls(**{**earlier, **stored})

    def following(self, stored: ClipSpec) -> ClipSpec:
        """This spec for an output whose clips were made as `stored`: its rules, where nobody asked for others."""
        if self.sampling != stored.sampling:
            return self
        return replace(self, **{name: getattr(stored, name) for name in self._unsaid})

    @property
    def key(self) -> str:
        """16 hex digits that are equal for equal specs: part of the name of everything made with them."""
        unused = EXACT_VALUES.keys() - self._inexact
        counted = {name: value for name, value in self.without_earlier_rules.items() if name not in unused}
        return hashlib.blake2b(json.dumps(counted, sort_keys=True).encode(), digest_size=8).hexdigest()

    @property
    def without_earlier_rules(self) -> dict[str, Any]:
        """The fields, but for those of `EARLIER_RULES` where they hold (or do not apply): as they were before these."""
        earlier = {name for name, rule in EARLIER_RULES.items() if getattr(self, name) in (None, rule)}
        return {name: value for name, value in asdict(self).items() if name not in earlier}

    def differences(self, other: ClipSpec) -> list[str]:
        """The fields in which two specs differ, as `name: ours, not theirs`."""
        pairs = ((field.name, getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return [f"{name}: {ours}, not {theirs}" for name, ours, theirs in pairs if ours != theirs]
