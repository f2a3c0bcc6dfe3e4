"""Odd but valid videos, made on the spot with the encoders of PyAV's wheel, to hold a decoder against.

    for name, write in ODD_VIDEOS.items():
        write(folder / name)

    python tests/odd_videos.py FOLDER       # all of them, to compare decoders: benchmarks/decode.py --videos FOLDER

The key is the file name. What an encoder cannot be asked for (packed B-frames, recordings joined in the middle, starts
without a key frame) is made of encoded packets by hand.
"""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from film import Writer, by_command, cut_ts, film, joined, packed, remuxed

from vidpipe.synthetic import encode

X264_PYRAMID = {"preset": "veryfast", "bf": "5", "g": "24", "x264-params": "b-pyramid=normal:b-adapt=0:scenecut=0"}
X264_OPEN = {"preset": "veryfast", "bf": "3", "g": "18", "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0"}
X264_PLAIN = {"preset": "veryfast", "bf": "2", "g": "12"}
X264_MBAFF = {"preset": "veryfast", "bf": "2", "g": "18", "x264-params": "tff=1:b-pyramid=normal"}
X264_REFRESH = {"preset": "veryfast", "g": "20", "x264-params": "intra-refresh=1"}
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
FIELDS = {"flags": "+ildct+ilme", "bf": "2", "g": "12", "qmax": "6"}
VP8_ALT_REF = {
    "auto-alt-ref": "1",
    "lag-in-frames": "16",
    "b": "150k",
    "g": "40",
    "cpu-used": "4",
    "error-resilient": "0",
}
VP9_ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "12", "b": "150k", "g": "30", "cpu-used": "6", "row-mt": "0"}


def x265(params: str) -> dict[str, str]:
    return {"preset": "superfast", "x265-params": f"{encode.X265_PARAMS}:{params}"}


def svt(params: str) -> dict[str, str]:
    return {"preset": "12", "g": "20", "svtav1-params": f"lp=1:{params}"}


IRREGULAR_MS = [40 * number + 17 * (number % 3) + 900 * (number > 20) + 3000 * (number > 40) for number in range(64)]
SHORT = partial(film, codec="libx264", options=X264_PLAIN, num=30)


def made(codec: str, options: dict[str, str] | None = None, **settings: Any) -> Writer:
    return partial(film, codec=codec, options=options, **settings)


def copied(codec: str, options: dict[str, str], **settings: Any) -> Writer:
    return partial(remuxed, codec=codec, options=options, **settings)


H264: dict[str, Writer] = {
    **{
        f"h264_pyramid{suffix}": made("libx264", X264_PYRAMID)
        for suffix in (".mp4", ".mkv", ".ts", ".avi", ".flv", ".h264", ".mpg", ".nut")
    },
    **{f"h264_open_gop{suffix}": made("libx264", X264_OPEN) for suffix in (".mp4", ".mkv", ".ts", ".avi", ".h264")},
    **{f"h264_intra_refresh{suffix}": made("libx264", X264_REFRESH) for suffix in (".mp4", ".ts", ".avi")},
    **{f"h264_mbaff{suffix}": made("libx264", X264_MBAFF) for suffix in (".mp4", ".mkv", ".ts", ".avi")},
    "h264_no_b.avi": made("libx264", {"preset": "veryfast", "bf": "0", "g": "12"}),
    "h264_one_key.mp4": made("libx264", {"preset": "veryfast", "g": "999", "x264-params": "scenecut=0"}),
    "h264_every_frame_key.mp4": made("libx264", {"preset": "veryfast", "g": "1"}),
    "h264_slices.mp4": made("libx264", X264_PLAIN | {"x264-params": "slices=4"}),
    "h264_10bit.mp4": made("libx264", X264_PLAIN, pixel_format="yuv420p10le"),
    "h264_444.mp4": made("libx264", X264_PLAIN, pixel_format="yuv444p"),
    "h264_gray.mp4": made("libx264", X264_PLAIN, pixel_format="gray"),
    "h264_odd_size.mp4": made("libx264", X264_PLAIN, pixel_format="yuv444p", size=(63, 95)),
    "h264_open_gop_fragmented.mp4": made("libx264", X264_OPEN, container_options=FRAGMENTED),
    "h264_fragment_a_frame.mp4": made(
        "libx264", X264_PYRAMID, container_options={"movflags": "frag_every_frame+empty_moov"}
    ),
    "h264_delayed_moov.mp4": made("libx264", X264_PYRAMID, container_options={"movflags": "frag_keyframe+delay_moov"}),
    "h264_faststart.mov": made("libx264", X264_PYRAMID, container_options={"movflags": "faststart"}),
    "h264_upside_down.mp4": made("libx264", X264_PLAIN, rotation=180),
    "h264_one_frame.mp4": made("libx264", X264_PLAIN, num=1),
    "h264_one_frame.ts": made("libx264", X264_PLAIN, num=1),
    "h264_two_frames.avi": made("libx264", X264_PLAIN, num=2),
    **{
        f"h264_and_sound{suffix}": made("libx264", X264_PYRAMID, beside="mp2" if suffix == ".mpg" else "aac")
        for suffix in (".mp4", ".mkv", ".ts", ".mpg")
    },
    "two_videos.mp4": made("libx264", X264_PYRAMID, beside="libx264"),
    "two_videos.mkv": made("libx264", X264_OPEN, beside="libx264"),
}
TIMES: dict[str, Writer] = {
    "vfr.mp4": made("libx264", X264_PYRAMID, stamps_ms=IRREGULAR_MS),
    "vfr.mkv": made("libx264", X264_PYRAMID, stamps_ms=IRREGULAR_MS),
    "too_fast_for_milliseconds.mkv": made("libx264", X264_PLAIN, fps=3000),
    "an_hour_between_frames.mp4": made(
        "libx264", X264_PLAIN, num=8, stamps_ms=[3_600_000 * number for number in range(8)]
    ),
    **{f"late{suffix}": copied("libx264", X264_PYRAMID, shift_s=10) for suffix in (".mp4", ".mkv", ".ts")},
    "trimmed.mp4": copied("libx264", X264_PYRAMID, first=24, shift_s=-1.2),
    "trimmed_open_gop.mp4": copied("libx264", X264_OPEN, first_key=1, shift_s=-1.3),
    "trimmed_by_an_edit_list.mp4": copied("libx264", X264_PYRAMID, shift_s=-1.5),
    "trimmed_by_an_edit_list.mov": copied("libx265", x265("keyint=12"), shift_s=-1.5),
    "begins_with_leading_pictures.mov": copied("libx264", X264_OPEN, first_key=1),
    "begins_without_a_key.mp4": copied("libx264", X264_PYRAMID, first=5),
    "begins_without_a_key.mkv": copied("libx264", X264_PYRAMID, first=5),
    "begins_without_a_key.ts": copied("libx264", X264_PYRAMID, first=7),
    "begins_without_a_key_hevc.mkv": copied("libx265", x265("keyint=16:open-gop=1"), first=5),
    "begins_with_leading_pictures.mp4": copied("libx265", x265("keyint=16:open-gop=1"), first_key=1),
    "begins_with_leading_pictures.mkv": copied("libx265", x265("keyint=16:open-gop=1"), first_key=1),
    "begins_in_the_middle.ts": partial(cut_ts, options=X264_PYRAMID),
    "clock_wraps.ts": copied("libx264", X264_PYRAMID, shift_s=2**33 / 90_000 - 2),
    "joined_of_two_sizes.ts": partial(joined, films=[SHORT, made("libx264", X264_PLAIN, num=30, size=(48, 64))]),
    "joined_of_two_sizes.h264": partial(joined, films=[SHORT, made("libx264", X264_PLAIN, num=30, size=(48, 64))]),
    "joined.ts": partial(joined, films=[SHORT, SHORT]),
    "joined.mpg": partial(joined, films=[made("mpeg2video", {"bf": "2", "g": "12"}, num=30)] * 2),
}
OTHER_CODECS: dict[str, Writer] = {
    **{
        f"hevc_open_gop{suffix}": made("libx265", x265("keyint=16:open-gop=1:bframes=4"))
        for suffix in (".mp4", ".mkv", ".ts", ".hevc")
    },
    "hevc_closed_gop.mp4": made("libx265", x265("keyint=16:no-open-gop=1:bframes=4")),
    "hevc_radl.mp4": made("libx265", x265("keyint=16:no-open-gop=1:radl=2:bframes=3")),
    "hevc_intra_refresh.mp4": made("libx265", x265("keyint=20:intra-refresh=1")),
    "hevc_temporal_layers.mp4": made("libx265", x265("keyint=16:temporal-layers=3:bframes=4:b-pyramid=1")),
    "hevc_reference_sets.mp4": made("libx265", x265("keyint=32:ref=5:bframes=3:opt-ref-list-length-pps=1:opt-rps=1")),
    "hevc_10bit.mp4": made("libx265", x265("keyint=16"), pixel_format="yuv420p10le"),
    "hevc_444.mkv": made("libx265", x265("keyint=16"), pixel_format="yuv444p"),
    "mpeg4_b.avi": made("mpeg4", {"bf": "2", "g": "12", "qmax": "6"}),
    "mpeg4_packed_b.avi": copied("mpeg4", {"bf": "1", "g": "12", "qmax": "6"}, change=packed),
    "mpeg4_packed_two_b.avi": copied("mpeg4", {"bf": "2", "g": "12", "qmax": "6"}, change=packed),
    **{
        f"mpeg4_b{suffix}": made("mpeg4", {"bf": "2", "g": "12", "qmax": "6"})
        for suffix in (".mp4", ".mkv", ".ts", ".m4v")
    },
    "mpeg4_interlaced.avi": made("mpeg4", FIELDS),
    "mpeg4_quarter_pixel.avi": made("mpeg4", {"flags": "+qpel", "bf": "1", "g": "12"}),
    **{
        f"mpeg2_fields{suffix}": made("mpeg2video", FIELDS)
        for suffix in (".ts", ".mpg", ".mkv", ".mp4", ".m2v", ".vob")
    },
    "mpeg2_closed_gop.ts": made("mpeg2video", {"flags": "+cgop", "bf": "2", "g": "12", "sc_threshold": "1000000000"}),
    "mpeg1.mpg": made("mpeg1video", {"bf": "2", "g": "12"}),
    "mpeg1_and_sound.mpg": made("mpeg1video", {"bf": "2", "g": "12"}, beside="mp2"),
    **{f"vp8_alt_ref{suffix}": made("libvpx", VP8_ALT_REF) for suffix in (".webm", ".mkv", ".ivf", ".avi")},
    **{f"vp9_alt_ref{suffix}": made("libvpx-vp9", VP9_ALT_REF) for suffix in (".webm", ".mp4", ".ivf")},
    "vp9_odd_size.webm": made("libvpx-vp9", VP9_ALT_REF, size=(63, 95)),
    **{f"av1{suffix}": made("libsvtav1", svt("scd=0")) for suffix in (".mp4", ".mkv", ".webm", ".ivf", ".obu")},
    "av1_low_delay.mp4": made("libsvtav1", svt("pred-struct=1")),
    "av1_open_gop.mp4": made("libsvtav1", svt("irefresh-type=1")),
    "av1_10bit.mp4": made("libsvtav1", svt("scd=0"), pixel_format="yuv420p10le"),
    "wmv2.wmv": made("wmv2", {"g": "12"}),
    "wmv1.avi": made("wmv1", {"g": "12"}),
    "msmpeg4v3.avi": made("msmpeg4", {"g": "12"}),
    "msmpeg4v2.wmv": made("msmpeg4v2", {"g": "12"}),
    "flv1.flv": made("flv", {"g": "12"}),
    "h263.3gp": made("h263", {"g": "12"}, size=(96, 128)),
    "h263_plus.avi": made("h263p", {"g": "12"}, size=(96, 128)),
    "rv20.rm": made("rv20", {"g": "12"}, size=(96, 128)),
    "svq1.mov": made("svq1", {"g": "12"}, pixel_format="yuv410p"),
    "cinepak.avi": made("cinepak", {"g": "12"}, pixel_format="rgb24", num=16),
    "rle.mov": made("qtrle", {"g": "12"}, pixel_format="rgb24"),
    "zmbv.avi": made("zmbv", {"g": "12"}, pixel_format="bgr0"),
    "flash_screen.flv": made("flashsv", {"g": "12"}, pixel_format="bgr24"),
    "gif.gif": made("gif", {"g": "12"}, pixel_format="rgb8"),
    "apng.apng": made("apng", {"g": "12"}, pixel_format="rgb24"),
    "mjpeg.avi": made("mjpeg", pixel_format="yuvj420p"),
    "mjpeg.mov": made("mjpeg", pixel_format="yuvj422p"),
    "mjpeg.mkv": made("mjpeg", pixel_format="yuvj444p", stamps_ms=IRREGULAR_MS),
    "mjpeg.mjpeg": made("mjpeg", pixel_format="yuvj420p"),
    "prores.mov": made("prores_ks", pixel_format="yuv422p10le"),
    "dnxhd.mov": made("dnxhd", {"profile": "dnxhr_lb"}, pixel_format="yuv422p", size=(128, 256), num=16),
    "ffv1_long_gop.mkv": made("ffv1", {"g": "12", "level": "1"}),
    "ffv1_long_gop.avi": made("ffv1", {"g": "12", "level": "1", "context": "1"}),
    "ffvhuff_context.avi": made("ffvhuff", {"context": "1"}),
    "huffyuv.avi": made("huffyuv", pixel_format="yuv422p"),
    "raw.avi": made("rawvideo"),
    "raw.mov": made("rawvideo", pixel_format="uyvy422"),
    "png.mov": made("png", pixel_format="rgb24"),
    "utvideo.avi": made("utvideo"),
    "cfhd.mov": made("cfhd", pixel_format="yuv422p10le"),
    "jpeg2000.mov": made("jpeg2000", num=16),
}
BY_COMMAND: dict[str, Writer] = {
    name: partial(by_command, arguments=arguments)
    for name, arguments in {
        "aom.mkv": "-c:v libaom-av1 -cpu-used 8 -g 20 -lag-in-frames 19 -b:v 100k -auto-alt-ref 1",
        "aom.mp4": "-c:v libaom-av1 -cpu-used 8 -g 20 -usage realtime -b:v 100k",
        "aom_error_resilient.webm": "-c:v libaom-av1 -cpu-used 8 -g 30 -lag-in-frames 8 -b:v 100k -error-resilience 1",
        "rav1e.mkv": "-c:v librav1e -speed 10 -g 20 -qp 120",
        "rav1e.mp4": "-c:v librav1e -speed 10 -g 20 -qp 120 -rav1e-params low_latency=true",
        "xvid_packed.avi": "-c:v libxvid -bf 2 -g 12 -q:v 4 -pix_fmt yuv420p",
        "theora.ogv": "-c:v libtheora -g 12 -q:v 5 -pix_fmt yuv420p",
        "theora.mkv": "-c:v libtheora -g 12 -q:v 5 -pix_fmt yuv420p",
        "vp8_alt_ref.ogv": "-c:v libvpx -auto-alt-ref 1 -lag-in-frames 16 -g 40 -b:v 150k",
        "vp9_lossless.mkv": "-c:v libvpx-vp9 -lossless 1 -cpu-used 6 -g 20",
        "vp9_realtime.webm": "-c:v libvpx-vp9 -error-resilient 1 -lag-in-frames 0 -deadline realtime -b:v 150k",
        "h264.asf": "-c:v libx264 -preset veryfast -bf 3 -g 18",
        "h264_open_gop.mxf": "-c:v libx264 -preset veryfast -bf 2 -g 12 -x264-params open-gop=1",
        "h264_two_references.ts": "-c:v libx264 -preset slow -refs 6 -bf 4 -g 24 -x264-params weightp=2:open-gop=1",
        "h264_fake_interlaced.mp4": "-c:v libx264 -preset veryfast -g 18 -x264-params fake-interlaced=1",
        "h264_blu_ray.ts": "-c:v libx264 -x264-params bluray-compat=1:b-pyramid=strict:open-gop=1:slices=4",
        "h264_baseline.mp4": "-c:v libx264 -profile:v baseline -g 24 -pix_fmt yuv420p",
        "h264_lossless.mkv": "-c:v libx264 -qp 0 -g 24 -bf 2",
        "hevc_12bit.mkv": "-c:v libx265 -preset superfast -pix_fmt yuv420p12le -x265-params log-level=none:keyint=16",
        "hevc_gray.mp4": "-c:v libx265 -preset superfast -pix_fmt gray -x265-params log-level=none:keyint=16",
        "hevc_fields.mp4": "-c:v libx265 -preset superfast -x265-params log-level=none:keyint=16:interlace=tff",
        "mpeg2.mxf": "-c:v mpeg2video -bf 2 -g 12 -pix_fmt yuv420p",
        "mpeg2_422_fields.ts": "-c:v mpeg2video -pix_fmt yuv422p -bf 2 -g 12 -flags +ildct+ilme",
        "mpeg2_low_delay.mpg": "-c:v mpeg2video -pix_fmt yuv420p -flags low_delay -g 12",
        "mpeg2.asf": "-c:v mpeg2video -pix_fmt yuv420p -bf 2 -g 12",
        "mpeg2.wtv": "-c:v mpeg2video -pix_fmt yuv420p -bf 2 -g 12",
        "mpeg1_b.mkv": "-c:v mpeg1video -pix_fmt yuv420p -bf 2 -g 12",
        "mpeg4_data_partitions.mp4": "-c:v mpeg4 -pix_fmt yuv420p -data_partitioning 1 -bf 2 -g 12",
        "dv.avi": "-vf scale=720:576 -pix_fmt yuv420p -frames:v 12 -c:v dvvideo",
        "dv.dv": "-vf scale=720:576 -pix_fmt yuv420p -frames:v 12 -c:v dvvideo",
        "prores.mkv": "-c:v prores_ks -profile:v 0 -pix_fmt yuv422p10le",
        "magicyuv.avi": "-c:v magicyuv -pix_fmt yuv420p",
        "snow.avi": "-c:v snow -pix_fmt yuv420p -strict -2",
        "speedhq.mov": "-c:v speedhq -pix_fmt yuv420p -tag:v SHQ0",
        "cut_by_copy.mp4": "-c:v libx264 -preset veryfast -bf 3 -g 18 -output_ts_offset -0.9",
    }.items()
}  # fmt: skip
ODD_VIDEOS: dict[str, Writer] = H264 | TIMES | OTHER_CODECS | (BY_COMMAND if shutil.which("ffmpeg") else {})


def write_odd_videos(folder: Path) -> dict[str, Path]:
    """All of them, by their names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {name: folder / name for name in ODD_VIDEOS}
    for name, path in paths.items():
        ODD_VIDEOS[name](path)
    return paths


if __name__ == "__main__":
    write_odd_videos(Path(sys.argv[1]))
