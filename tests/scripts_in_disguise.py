"""Files that tell a player to open something else: playlists, scripts, references, and videos with such a thing inside.

    for name, write in SCRIPTS.items():
        write(target)     # bytes that refer to `target`: a URL, a path, or a name in the same folder
    for name, wrap in DISGUISES.items():
        wrap(content)     # the same, behind or in front of something that looks harmless
    for name, hide in HIDING_PLACES.items():
        hide(content)     # in a video that plays

FFmpeg has a demuxer that follows each of the first ones, in one version or another.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from film import film

Script = Callable[[str], bytes]
Wrap = Callable[[bytes], bytes]

PLAIN_H264 = {"preset": "ultrafast", "g": "12"}


def box(kind: bytes, *parts: bytes) -> bytes:
    payload = b"".join(parts)
    return struct.pack(">I", 8 + len(payload)) + kind + payload


def element(number: str, payload: bytes) -> bytes:
    """EBML, with a length of eight bytes."""
    return bytes.fromhex(number) + (len(payload) | 1 << 56).to_bytes(8, "big") + payload


def made(suffix: str) -> bytes:
    """A small video."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"video{suffix}"
        film(path, "libx264", PLAIN_H264, num=24)
        return path.read_bytes()


def hls(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n".encode()


def hls_master(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1280000,RESOLUTION=96x64\n{target}\n".encode()


def hls_with_key(target: str) -> bytes:
    lines = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:10\n"
    lines += f'#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXT-X-MAP:URI="{target}"\n'
    return f"{lines}#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n".encode()


def hls_by_byte_range(target: str) -> bytes:
    lines = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1.0,\n#EXT-X-BYTERANGE:9999999@0\n"
    return f"{lines}concat:{target}|{target}\n#EXT-X-ENDLIST\n".encode()


def ffconcat(target: str) -> bytes:
    return f"ffconcat version 1.0\nfile '{target}'\n".encode()


def dash(target: str) -> bytes:
    return f"""<?xml version="1.0" encoding="utf-8"?>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT10S" minBufferTime="PT1S"
 profiles="urn:mpeg:dash:profile:isoff-on-demand:2011">
<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1000">
<BaseURL>{target}</BaseURL><SegmentList duration="10"><SegmentURL media="{target}"/></SegmentList>
</Representation></AdaptationSet></Period></MPD>
""".encode()


def sdp(target: str) -> bytes:
    port = target.rpartition(":")[2].partition("/")[0] if target.startswith("http") else "5004"
    return (
        f"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns={target}\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=video {port} RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:{target}\r\n"
    ).encode()


def smil(target: str) -> bytes:
    return f'<smil><body><video src="{target}"/></body></smil>\n'.encode()


def asx(target: str) -> bytes:
    return f'<ASX version="3.0"><ENTRY><REF HREF="{target}"/></ENTRY></ASX>\n'.encode()


def xspf(target: str) -> bytes:
    track = f"<trackList><track><location>{target}</location></track></trackList>"
    return f'<?xml version="1.0"?><playlist version="1" xmlns="http://xspf.org/ns/0/">{track}</playlist>\n'.encode()


def imf(target: str) -> bytes:
    return f"""<?xml version="1.0"?>
<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"><Id>urn:uuid:0</Id>
<ContentTitle>{target}</ContentTitle><EditRate>25 1</EditRate></CompositionPlaylist>
""".encode()


def pls(target: str) -> bytes:
    return f"[playlist]\nFile1={target}\nNumberOfEntries=1\n".encode()


def wmp_reference(target: str) -> bytes:
    return f"[Reference]\nRef1={target}\n".encode()


def rtsp_text(target: str) -> bytes:
    return f"RTSPtext\nrtsptext {target}\n".encode()


def vobsub(target: str) -> bytes:
    return f"# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n# {target}\n".encode()


def image_pattern(target: str) -> bytes:
    return f"{target.rpartition('.')[0]}%03d.png\n".encode()


def filter_graph(target: str) -> bytes:
    return f"movie='{target}'\n".encode()


def avisynth(target: str) -> bytes:
    return f'FFmpegSource2("{target}")\n'.encode()


def reference_movie(target: str) -> bytes:
    """A QuickTime movie of nothing but a data reference."""
    url = target.encode() + b"\0"
    reference = box(b"rdrf", bytes(4), b"url ", struct.pack(">I", len(url)), url)
    return box(b"ftyp", b"qt  ", bytes(4), b"qt  ") + box(b"moov", box(b"rmra", box(b"rmda", reference)))


def external_data(target: str) -> bytes:
    """An MP4 whose track says that its packets are in another file, at the places that they have there."""
    whole = made(".mp4")
    start = whole.index(b"url ", whole.index(b"dref")) - 4
    old, new = whole[start : start + 12], box(b"url ", bytes(4), target.encode() + b"\0")
    assert old == box(b"url ", bytes([0, 0, 0, 1]))
    whole = whole[:start] + new + whole[start + 12 :]
    for kind in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        at = whole.index(kind) - 4
        (size,) = struct.unpack_from(">I", whole, at)
        whole = whole[:at] + struct.pack(">I", size + len(new) - len(old)) + whole[at + 4 :]
    at = whole.index(b"mdat") - 4
    (size,) = struct.unpack_from(">I", whole, at)
    return whole[: at + 8] + bytes(size - 8) + whole[at + size :]


def linked_segments(target: str) -> bytes:
    """A Matroska segment without pictures that names another file as the one that follows, and attaches one."""
    name = target.encode()
    head = element("1A45DFA3", element("4282", b"matroska"))
    info = element("1549A966", element("3EB923", bytes(16)) + element("3E83BB", name) + element("73A4", bytes(16)))
    file = element("466E", name) + element("4660", b"video/mp4") + element("465C", name) + element("46AE", b"\1")
    return head + element("18538067", info + element("1941A469", element("61A7", file)))


TEXTS: dict[str, Script] = {
    "hls": hls, "hls_master": hls_master, "hls_with_key": hls_with_key, "hls_by_byte_range": hls_by_byte_range,
    "ffconcat": ffconcat, "dash": dash, "sdp": sdp, "smil": smil, "asx": asx, "xspf": xspf, "imf": imf, "pls": pls,
    "wmp_reference": wmp_reference, "rtsp_text": rtsp_text, "vobsub": vobsub, "image_pattern": image_pattern,
    "filter_graph": filter_graph, "avisynth": avisynth,
}  # fmt: skip
CONTAINERS: dict[str, Script] = {
    "reference_movie": reference_movie,
    "external_data": external_data,
    "linked_segments": linked_segments,
}
SCRIPTS = TEXTS | CONTAINERS


def after_id3(content: bytes) -> bytes:
    """FFmpeg looks at what comes after an ID3 tag, however long."""
    num_bytes = 2000
    return b"ID3\3\0\0" + bytes([0, 0, num_bytes >> 7, num_bytes & 127]) + bytes(num_bytes) + content


DISGUISES: dict[str, Wrap] = {
    "as it is": lambda content: content,
    "after a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
    "after whitespace": lambda content: b" \t\r\n\n" + content,
    "after zeros": lambda content: bytes(64) + content,
    "after an ID3 tag": after_id3,
    "after two ID3 tags": lambda content: after_id3(after_id3(content)),
    "after ftyp": lambda content: box(b"ftyp", b"isom", bytes(4), b"isom") + content,
    "in a free box": lambda content: box(b"free", content) + box(b"wide"),
    "after a RIFF header": lambda content: b"RIFF" + struct.pack("<I", len(content) + 4) + b"AVI " + content,
    "after an EBML header": lambda content: element("1A45DFA3", element("4282", b"matroska")) + content,
    "in UTF-16": lambda content: content.decode("latin-1").encode("utf-16"),
    "before zeros": lambda content: content + bytes(5000),
}


def hidden_in_mp4(content: bytes) -> bytes:
    """Between boxes: a demuxer skips what it does not know."""
    whole = made(".mp4")
    end_of_ftyp = int.from_bytes(whole[:4], "big")
    free = box(b"free", content)
    # The sample table says where packets begin.
    at = whole.index(b"stco") + 8
    (count,) = struct.unpack_from(">I", whole, at)
    offsets = struct.unpack_from(f">{count}I", whole, at + 4)
    moved = struct.pack(f">{count}I", *(offset + len(free) for offset in offsets))
    whole = whole[: at + 4] + moved + whole[at + 4 + len(moved) :]
    return whole[:end_of_ftyp] + free + whole[end_of_ftyp:]


def moved_to_the_front(content: bytes) -> bytes:
    """A MOV that begins with a free box, which some versions of FFmpeg take for less of a MOV than a playlist."""
    whole = hidden_in_mp4(content)
    size = int.from_bytes(whole[:4], "big")
    return whole[size : size + len(content) + 8] + whole[:size] + whole[size + len(content) + 8 :]


HIDING_PLACES: dict[str, Wrap] = {
    "before a transport stream": lambda content: content + made(".ts"),
    "after an ID3 tag, before a transport stream": lambda content: after_id3(content) + made(".ts"),
    "after a transport stream": lambda content: made(".ts") + content,
    "before raw H.264": lambda content: content + made(".h264"),
    "in a box of an MP4": hidden_in_mp4,
    "in the first box of an MP4": moved_to_the_front,
    "after an MP4": lambda content: made(".mp4") + content,
}
