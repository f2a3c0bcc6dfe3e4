"""Nothing that a file names is opened, whatever the file looks like and whichever decoder gets it.

Each script is tried in some of its disguises; in all of them, with all names, by hand:

    VIDPIPE_ALL_DISGUISES=1 python -m pytest tests/unit/test_scripts_in_disguise.py
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
from loadable import loadable
from scripts_in_disguise import DISGUISES, HIDING_PLACES, SCRIPTS, TEXTS
from small_videos import write_pictures

from vidpipe.decode import DECODERS, open_video
from vidpipe.decode.packets import IndexMismatch
from vidpipe.decode.pyav import PyavVideo
from vidpipe.errors import DecodeError
from vidpipe.guard import Clip, Guard
from vidpipe.spec import ClipSpec

IS_COMPLETE = "VIDPIPE_ALL_DISGUISES" in os.environ
NAMES = ["clip.mp4", "clip.avi", "clip.mkv", "clip.ts", "clip.m3u8", "clip.mpd", "clip.txt"]
TARGETS = ["file:///etc/passwd", "{url}/next.mp4", "{url}/next.ts", "next.mp4", "next.ts", "{folder}/next.mp4"]
REFUSED = {"forbidden", "not_a_video", "corrupt"}
# What only looks like a container from outside may also seem to have lost its end or its pictures.
UNPLAYABLE = REFUSED | {"truncated", "no_video_stream", "unsupported"}


@dataclass
class Trap:
    """A web server and a folder with a red video. Nobody may ask for either."""

    url: str
    folder: Path
    hits: list[str] = field(default_factory=list)

    def targets(self) -> list[str]:
        return [target.format(url=self.url, folder=self.folder) for target in TARGETS]


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    folder = tmp_path_factory.mktemp("trap")
    red = np.zeros((64, 96, 3), np.uint8)
    red[..., 0] = 255
    write_pictures(folder / "next.mp4", [red] * 24)
    write_pictures(folder / "next.ts", [red] * 24)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / self.path.strip("/")
            self.send_response(200 if path.is_file() else 404)
            self.end_headers()
            self.wfile.write(path.read_bytes() if path.is_file() else b"")

        def log_message(self, *arguments: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def verify_request(self, request: object, client_address: object) -> bool:
            trap.hits.append(str(client_address))  # a connection is enough
            return True

    with Server(("127.0.0.1", 0), Handler) as server:
        trap = Trap(f"http://127.0.0.1:{server.server_port}", folder)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield trap
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module", params=DECODERS)
def spec(request: pytest.FixtureRequest) -> ClipSpec:
    return ClipSpec(decoder=loadable(request.param), size="32", num_frames=4)


@pytest.fixture(scope="module")
def guard(spec: ClipSpec) -> Iterator[Guard]:
    with Guard(spec, time_limit_s=60, memory_limit_bytes=2 << 30) as guard:
        yield guard


@cache
def script(name: str, target: str) -> bytes:
    return SCRIPTS[name](target)


@cache
def hidden(place: str, name: str, target: str) -> bytes:
    return HIDING_PLACES[place](script(name, target))


def by_guard(guard: Guard, path: Path) -> tuple[str, list[np.ndarray]]:
    """`ok` or the error's code, and the frames."""
    frames = []
    try:
        for event in guard.decode(str(path), path.name):
            if isinstance(event, Clip):
                frames += list(np.frombuffer(event.payload, np.uint8).reshape(guard.spec.shape))
    except DecodeError as error:
        return error.code, frames
    return "ok", frames


def directly(spec: ClipSpec, path: Path) -> tuple[str, list[np.ndarray]]:
    """The same without a guard, which counts the pictures where the packets promise others."""
    try:
        try:
            with open_video(str(path), spec) as video:
                return "ok", list(video.frames(range(len(video.times_s))))
        except IndexMismatch:
            with closing(PyavVideo(str(path), spec, count=True)) as video:
                return "ok", list(video.frames(range(len(video.times_s))))
    except DecodeError as error:
        return error.code, []


def some(cases: list[tuple[str, ...]], number: int) -> list[tuple[str, ...]]:
    """All of them, or every so-manieth, others for each `number`."""
    return cases if IS_COMPLETE else cases[number % 17 :: 17]


def is_red(frame: np.ndarray) -> bool:
    red, green, blue = frame.mean((0, 1))
    return red > 150 and green < 80 and blue < 80


def check(path: Path, content: bytes, spec: ClipSpec, guard: Guard, trap: Trap, allowed: set[str]) -> None:
    path.write_bytes(content)
    trap.hits.clear()
    for code, frames in (directly(spec, path), by_guard(guard, path)):
        assert code in allowed, path.name
        assert not any(map(is_red, frames))
    assert trap.hits == []


def test_the_trap_works(trap):
    """Without protection, the other file's pictures are shown and the server is asked."""
    path = trap.folder / "live.m3u8"
    path.write_bytes(SCRIPTS["ffconcat"]("next.mp4"))
    with av.open(str(path)) as container:
        assert is_red(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    path.write_bytes(SCRIPTS["hls"](f"{trap.url}/next.ts"))
    with path.open("rb") as file, av.open(file) as container:
        assert is_red(next(container.decode(video=0)).to_ndarray(format="rgb24"))
    assert trap.hits


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_refused_in_any_disguise(name, spec, guard, trap):
    cases = some(list(product(trap.targets(), DISGUISES, NAMES)), list(SCRIPTS).index(name))
    for target, disguise, file_name in cases:
        content = DISGUISES[disguise](script(name, target))
        allowed = REFUSED if name in TEXTS and disguise not in SHELLS else UNPLAYABLE
        check(trap.folder / file_name, content, spec, guard, trap, allowed)


SHELLS = {"after ftyp", "in a free box", "after a RIFF header", "after an EBML header"}


@pytest.mark.parametrize("name", TEXTS)
def test_a_video_with_a_script_inside_is_refused_or_shows_its_own_pictures(name, spec, guard, trap):
    cases = some(list(product(trap.targets(), HIDING_PLACES, NAMES)), list(TEXTS).index(name))
    for target, place, file_name in cases:
        check(trap.folder / file_name, hidden(place, name, target), spec, guard, trap, UNPLAYABLE | {"ok"})
