"""Whole files to and from any fsspec URL: a file is there whole, or it is not there.

Local files are written beside their target and renamed; objects appear when their upload is complete.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from vidpipe.errors import DecodeError
from vidpipe.ranges import FROM_BYTES, HEAD_BYTES, RangeCopy
from vidpipe.storage import file_info, filesystem


def join(folder: str, *names: str) -> str:
    return "/".join([folder.rstrip("/"), *names])


@dataclass(frozen=True)
class VideoFile:
    """A video as a local file: itself, or a copy that the caller removes, whole or of some ranges."""

    path: Path
    is_copy: bool
    ranges: RangeCopy | None = None
    by_range: bool = False
    """Whether the decoder asks for what it needs; else everything is here."""

    @property
    def source(self) -> str | RangeCopy:
        return self.ranges if self.ranges and self.by_range else str(self.path)

    @property
    def num_bytes(self) -> int:
        """Bytes read from the storage so far."""
        return self.ranges.num_bytes if self.ranges else self.path.stat().st_size

    @property
    def num_requests(self) -> int:
        """Requests so far, with the one of `check_version` that follows reading by ranges."""
        return self.ranges.num_requests + self.by_range if self.ranges else int(self.is_copy)


def read_buffer(url: str) -> pa.Buffer:
    """The file at `url` in Arrow's own memory."""
    fs, path = filesystem(url)
    return arrow_buffer(fs.cat_file(path))


def arrow_buffer(data: bytes | memoryview) -> pa.Buffer:
    """A copy in Arrow's own memory.

    Of Python's memory (`pa.py_buffer`, `io.BytesIO`) the last holder may be a thread of Arrow's, which then asks for
    the interpreter's lock: a process that exits at that moment aborts ("terminate called without an active exception").
    """
    sink = pa.BufferOutputStream()
    sink.write(data)
    return sink.getvalue()


def fetch_video(url: str, folder: Path, *, size_bytes: int, by_range: bool) -> VideoFile:
    """The file at `url` itself, or a copy in `folder`; of a large object only the beginning, if `by_range`.

    Raises DecodeError, see `video_errors`.
    """
    fs, path = filesystem(url)
    with video_errors():
        if isinstance(fs, LocalFileSystem):
            os.close(os.open(path, os.O_RDONLY))
            if os.path.isdir(path):
                raise DecodeError("not_found", "a folder, not a file")
            return VideoFile(Path(path), is_copy=False)
        target = folder / os.urandom(8).hex()
        if size_bytes >= FROM_BYTES:
            ranges = RangeCopy(url, size_bytes, target)
            if not by_range and size_bytes > HEAD_BYTES:  # not `get_file`, which holds hundreds of MB in memory
                ranges.fetch([(HEAD_BYTES, size_bytes)])
            return VideoFile(target, is_copy=True, ranges=ranges, by_range=by_range)
        fs.get_file(path, str(target))
        return VideoFile(target, is_copy=True)


def check_version(url: str, version: str) -> None:
    """Raise DecodeError when the ranges that were read may be of two objects, one of which replaced the other."""
    with video_errors():
        now = file_info(url).version
    if now != version:
        raise DecodeError(
            "not_found", f"replaced while it was read (version {version}, now {now}); the next run reads the new one"
        )


@contextmanager
def video_errors() -> Iterator[None]:
    """Raise DecodeError `not_found` and `forbidden`; a fault of the storage flies, it is not the video's."""
    try:
        yield
    except FileNotFoundError:
        raise DecodeError("not_found", "the file is not there (any more)") from None
    except PermissionError as error:
        raise DecodeError("forbidden", f"these credentials may not read it: {error.strerror or error}") from None


def put_file(local: Path, url: str) -> None:
    """Move a finished local file to `url`, where it appears whole."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        with open(local, "rb") as file:
            os.fsync(file.fileno())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        beside = Path(path).with_name(f".{os.path.basename(path)}.{os.getpid()}")
        shutil.move(local, beside)
        os.replace(beside, path)
    else:
        fs.put_file(str(local), path)
        local.unlink()


def put_bytes(data: bytes, url: str) -> None:
    """Write a small file whole."""
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        beside = Path(path).with_name(f".{os.path.basename(path)}.{os.getpid()}")
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    else:
        fs.pipe_file(path, data)


def file_names(folder: str) -> list[str]:
    """Names of the files in a folder, sorted; none when the folder is not there."""
    return sorted(file_sizes(folder))


def file_sizes(folder: str) -> dict[str, int]:
    """Bytes of each file in a folder, by its name; none when the folder is not there."""
    entries = list_folder(folder)
    return {entry["name"].rsplit("/", 1)[-1]: entry["size"] for entry in entries if entry["type"] == "file"}


def list_folder(folder: str) -> list[dict[str, Any]]:
    """What a folder holds now, as fsspec lists it; nothing when it is not there."""
    fs, path = filesystem(folder)
    fs.invalidate_cache(path)
    try:
        return fs.ls(path, detail=True)
    except FileNotFoundError:
        return []


def remove_files(folder: str, names: list[str]) -> None:
    fs, path = filesystem(folder)
    for name in names:
        try:
            fs.rm_file(f"{path}/{name}")
        except FileNotFoundError:
            continue


def check_writable(folder: str) -> None:
    """Write and remove a small file, so that a lack of rights shows before any work."""
    put_bytes(b"", join(folder, ".write_test"))
    remove_files(folder, [".write_test"])
