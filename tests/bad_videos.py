"""Bad and hostile videos, made on the spot, each with the answers that are right for it.

    for name, (write, answers) in BAD_VIDEOS.items():
        write(tmp_path / name, np.random.default_rng(0))

The key is the file name; the same generator state gives the same bytes. The answers are one or several of
`vidpipe.errors.ERROR_CODES`; "ok" stands among them where all frames are there and only a header lies.

A cut file is "truncated" even at 90 %: frames are sampled uniformly over the whole video, so some lie past the cut.
Someone who wants early frames only may get them from a file with its index first.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np
from PIL import Image

from vidpipe.synthetic import ENCODINGS, Encoding, render, write_video

Writer = Callable[[Path, np.random.Generator], None]
Maker = Callable[[np.random.Generator], bytes]

FASTSTART = replace(ENCODINGS["h264_mp4"], container_options={"movflags": "faststart"})
PNG_MOV = Encoding("png", "rgb24", ".mov")
HUGE = 65_500  # past what FFmpeg accepts: it takes (width + 128) * (height + 128) up to 2^28
ALLOCATED = 16_000  # within it: a decoder that trusts the header asks for 384 to 768 MB a frame

HTML = """<!DOCTYPE html>
<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1><p>The clip is no longer here.</p></body></html>
"""
HLS = """#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:10
#EXTINF:10.0,
file:///etc/passwd
#EXT-X-ENDLIST
"""
FFCONCAT = """ffconcat version 1.0
file neighbour.avi
"""
SDP = """v=0
o=- 0 0 IN IP4 127.0.0.1
s=clip
c=IN IP4 127.0.0.1
t=0 0
m=video 5004 RTP/AVP 96
a=rtpmap:96 H264/90000
"""
DASH = """<?xml version="1.0" encoding="utf-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S" minBufferTime="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000">
<BaseURL>file:///etc/passwd</BaseURL></Representation></AdaptationSet></Period></MPD>
"""
GIF_HEADER = b"GIF89a" + struct.pack("<HHBBB", 128, 96, 0x80, 0, 0) + bytes(6)  # screen size, a palette of two colours


def good_video(rng: np.random.Generator, encoding: Encoding) -> bytes:
    """A good video of three seconds, by way of a file: faststart reads again what it wrote."""
    frames = render("left", rng, num_frames=75, height=120, width=160)
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"good{encoding.suffix}"
        write_video(path, frames, encoding=encoding)
        return path.read_bytes()


def box(whole: bytes, name: bytes) -> tuple[int, int]:
    """Where the first MP4 box of that name starts, and its size."""
    start = whole.index(name) - 4
    return start, int.from_bytes(whole[start : start + 4], "big")


def patched(whole: bytes, offset: int, replacement: bytes) -> bytes:
    return whole[:offset] + replacement + whole[offset + len(replacement) :]


def just(content: str | bytes) -> Maker:
    return lambda rng: content.encode() if isinstance(content, str) else content


def changed(encoding: Encoding, change: Callable[[bytes], bytes]) -> Maker:
    return lambda rng: change(good_video(rng, encoding))


def truncated(encoding: Encoding, percent: int) -> Maker:
    return changed(encoding, lambda whole: whole[: len(whole) * percent // 100])


def zero_second_fragment(whole: bytes) -> bytes:
    return patched(whole, whole.index(b"moof", whole.index(b"moof") + 4) - 4, bytes(64))


def zero_middle(whole: bytes) -> bytes:
    """Zeros from 40 to 60 % of the media data."""
    start, size = box(whole, b"mdat")
    return patched(whole, start + size * 2 // 5, bytes(size // 5))


def without_moov(whole: bytes) -> bytes:
    start, size = box(whole, b"moov")
    return whole[:start] + whole[start + size :]


def endless_stts(whole: bytes) -> bytes:
    """The table of frame durations claims 2^31 frames in its first entry."""
    start, _ = box(whole, b"stts")
    return patched(whole, start + 16, struct.pack(">I", 2**31))


def huge_mp4_header(whole: bytes) -> bytes:
    """Track header and sample entry declare a huge picture; the H.264 stream inside knows better."""
    tkhd, size = box(whole, b"tkhd")
    avc1 = whole.index(b"avc1", whole.index(b"stsd")) - 4  # "avc1" also is a brand in ftyp
    whole = patched(whole, tkhd + size - 8, struct.pack(">II", HUGE << 16, HUGE << 16))
    return patched(whole, avc1 + 32, struct.pack(">HH", HUGE, HUGE))


def huge_avi_header(whole: bytes) -> bytes:
    """Main header and bitmap header declare a huge picture; the MPEG-4 stream inside knows better."""
    whole = patched(whole, whole.index(b"avih") + 8 + 32, struct.pack("<II", HUGE, HUGE))
    return patched(whole, whole.index(b"strf") + 8 + 4, struct.pack("<II", HUGE, HUGE))


def huge_jpeg(whole: bytes) -> bytes:
    """Every JPEG frame header (SOF0) declares a huge picture."""
    marker, before = bytes.fromhex("ffc0001108"), struct.pack(">HH", 120, 160)
    return whole.replace(marker + before, marker + struct.pack(">HH", HUGE, HUGE))


def huge_vp8(whole: bytes) -> bytes:
    """Every VP8 key frame header declares 16000x16000."""
    start_code, before = bytes.fromhex("9d012a"), struct.pack("<HH", 160, 120)
    return whole.replace(start_code + before, start_code + struct.pack("<HH", ALLOCATED, ALLOCATED))


def huge_png(whole: bytes) -> bytes:
    """Every PNG frame declares 16000x16000, with the right checksum."""
    before = b"IHDR" + struct.pack(">II", 160, 120) + bytes.fromhex("0802000000")
    after = before[:4] + struct.pack(">II", ALLOCATED, ALLOCATED) + before[12:]
    return whole.replace(before + struct.pack(">I", zlib.crc32(before)), after + struct.pack(">I", zlib.crc32(after)))


def audio_only(codec: str, container_format: str) -> Maker:
    """Two seconds of noise."""

    def make(rng: np.random.Generator) -> bytes:
        file = io.BytesIO()
        with av.open(file, "w", format=container_format, container_options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream(codec, rate=44_100, layout="mono", options={"flags": "+bitexact"})
            samples = (rng.normal(0, 0.05, size=(1, 88_200)) * 2**15).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = 44_100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return file.getvalue()

    return make


def png_image(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rng.integers(256, size=(96, 128, 3), dtype=np.uint8)).save(file, format="png")
    return file.getvalue()


def zip_archive(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo("clip.txt"), rng.bytes(5_000))
    return file.getvalue()


def random_bytes(rng: np.random.Generator) -> bytes:
    return rng.bytes(20_000)


def write_made(make: Maker, path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(make(rng))


MADE: dict[str, tuple[Maker, str | set[str]]] = {
    "empty.mp4": (just(b""), {"not_a_video", "truncated"}),
    "text.mp4": (just("Please find the video attached.\n" * 40), "not_a_video"),
    "html.mp4": (just(HTML), "not_a_video"),
    "random_bytes.mp4": (random_bytes, "not_a_video"),
    "zip.mkv": (zip_archive, "not_a_video"),
    "image_png.mp4": (png_image, "not_a_video"),
    # The index comes first: all frames are announced, those past the cut are missing.
    "faststart_10.mp4": (truncated(FASTSTART, 10), "truncated"),
    "faststart_50.mp4": (truncated(FASTSTART, 50), "truncated"),
    "faststart_90.mp4": (truncated(FASTSTART, 90), "truncated"),
    # The index comes last and is lost: not one frame can be found.
    "moov_last_10.mp4": (truncated(ENCODINGS["h264_mp4"], 10), "truncated"),
    "moov_last_50.mp4": (truncated(ENCODINGS["h264_mp4"], 50), "truncated"),
    "moov_last_90.mp4": (truncated(ENCODINGS["h264_mp4"], 90), "truncated"),
    # The index (idx1, Cues) is lost and the packets just end: RIFF and Segment sizes tell.
    "avi_10.avi": (truncated(ENCODINGS["mpeg4_avi"], 10), "truncated"),
    "avi_50.avi": (truncated(ENCODINGS["mpeg4_avi"], 50), "truncated"),
    "avi_90.avi": (truncated(ENCODINGS["mpeg4_avi"], 90), "truncated"),
    "mkv_10.mkv": (truncated(ENCODINGS["h264_mkv"], 10), "truncated"),
    "mkv_50.mkv": (truncated(ENCODINGS["h264_mkv"], 50), "truncated"),
    "mkv_90.mkv": (truncated(ENCODINGS["h264_mkv"], 90), "truncated"),
    "zeroed_middle.mp4": (changed(ENCODINGS["h264_mp4"], zero_middle), "corrupt"),
    # FFmpeg ends such a file at the fragment that is lost, without an error.
    "lost_fragment.mp4": (changed(ENCODINGS["h264_fragmented_mp4"], zero_second_fragment), "corrupt"),
    # An upload that broke off, or a writer that was killed, looks the same.
    "no_moov.mp4": (changed(FASTSTART, without_moov), {"truncated", "corrupt"}),
    "audio_aac.mp4": (audio_only("aac", "mp4"), "no_video_stream"),
    "audio_mp3.mp4": (audio_only("libmp3lame", "mp4"), "no_video_stream"),
    "audio_mp2.mpg": (audio_only("mp2", "mpeg"), "no_video_stream"),
    # The header alone lies; FFmpeg believes the stream inside, which decodes to 160x120.
    "huge_header.mp4": (changed(ENCODINGS["h264_mp4"], huge_mp4_header), {"too_large", "ok"}),
    "huge_header.avi": (changed(ENCODINGS["mpeg4_avi"], huge_avi_header), {"too_large", "ok"}),
    # The frames themselves lie. FFmpeg refuses the first at each frame and decodes the second, all gray, with 1.5 GB;
    # for the third it takes 0.8 GB, then finds too few bytes.
    "huge_jpeg.avi": (changed(ENCODINGS["mjpeg_avi"], huge_jpeg), {"too_large", "corrupt"}),
    "huge_vp8.webm": (changed(ENCODINGS["vp8_webm"], huge_vp8), {"too_large", "out_of_memory"}),
    "huge_png.mov": (changed(PNG_MOV, huge_png), {"too_large", "out_of_memory", "corrupt"}),
    # The sample sizes in stsz are right, so all frames can be found.
    "endless_stts.mp4": (changed(ENCODINGS["h264_mp4"], endless_stts), {"corrupt", "too_large", "ok"}),
    "hls_playlist.mp4": (just(HLS), {"forbidden", "not_a_video"}),
    "ffconcat.avi": (just(FFCONCAT), {"forbidden", "not_a_video"}),
    "sdp.mp4": (just(SDP), {"forbidden", "not_a_video"}),
    "dash_mpd.mp4": (just(DASH), {"forbidden", "not_a_video"}),
    "gif_header_only.gif": (just(GIF_HEADER), {"truncated", "corrupt"}),
    "gif_no_frames.gif": (just(GIF_HEADER + b";"), {"truncated", "corrupt", "no_video_stream"}),
}
BAD_VIDEOS: dict[str, tuple[Writer, str | set[str]]] = {
    name: (partial(write_made, make), answers) for name, (make, answers) in MADE.items()
}
