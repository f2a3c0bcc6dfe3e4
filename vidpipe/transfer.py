"""Whole files to and from any fsspec URL: a file is there whole, or it is not there.

Local files are written beside their target and renamed; objects appear when their upload is complete.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from fsspec.asyn import sync
from fsspec.implementations.local import LocalFileSystem

from vidpipe.errors import DecodeError
from vidpipe.ranges import FROM_BYTES, HEAD_BYTES, RangeCopy
from vidpipe.storage import be_patient, error_code, file_info, filesystem, is_passing, status_code, wait_s

NUM_REMOVERS = 8  # a request takes tens of milliseconds, and a long run leaves thousands of small files to merge


def join(folder: str, *names: str) -> str:
    return "/".join([folder.rstrip("/"), *names])


@dataclass(frozen=True)
class VideoFile:
    """A video as a local file: itself, or a copy that the caller removes, whole or of some ranges."""

    path: Path
    is_copy: bool
    ranges: RangeCopy | None = None
    is_checked: bool = False
    """Whether this is known to be the object of the listing."""
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
        """Requests so far, with the one of `check_version` that follows where it is needed."""
        if not self.is_copy:
            return 0
        return (self.ranges.num_requests if self.ranges else 1) + (not self.is_checked)


def read_buffer(url: str) -> pa.Buffer:
    """The file at `url` in Arrow's own memory."""
    fs, path = filesystem(url)
    return arrow_buffer(fs.cat_file(path))


def read_head(url: str, num_bytes: int) -> bytes:
    """The first bytes of the file at `url`, as far as there are any."""
    fs, path = filesystem(url)
    size = min(num_bytes, fs.size(path))
    return fs.cat_file(path, start=0, end=size) if size else b""


def arrow_buffer(data: bytes | memoryview) -> pa.Buffer:
    """A copy in Arrow's own memory.

    Of Python's memory (`pa.py_buffer`, `io.BytesIO`) the last holder may be a thread of Arrow's, which then asks for
    the interpreter's lock: a process that exits at that moment aborts ("terminate called without an active exception").
    """
    sink = pa.BufferOutputStream()
    sink.write(data)
    return sink.getvalue()


def fetch_video(url: str, folder: Path, *, size_bytes: int, version: str, by_range: bool) -> VideoFile:
    """The file at `url` itself, or a copy in `folder`; of a large object only the beginning, if `by_range`.

    Raises DecodeError, see `video_errors`, and when a whole object on S3 is no longer of that `version`; whatever else
    was read has to pass `check_version` afterwards, unless `is_checked`.
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
        if "s3" in fs.protocol and _ETAG.fullmatch(version):
            target.write_bytes(sync(fs.loop, _get_object, fs, path, version))
            return VideoFile(target, is_copy=True, is_checked=True)
        fs.get_file(path, str(target))
        return VideoFile(target, is_copy=True)


async def _get_object(fs: Any, path: str, etag: str) -> bytes:
    """An object on S3, provided that it still is the listed one: asking afterwards would be a second request.

    `get_file` has no such condition, and goes on in the middle after a lost connection, maybe in another object.
    """
    bucket, key, _ = fs.split_path(path)
    num_waits = 0
    while True:
        try:  # which tries again by itself until there is an answer; its body may break off, or never come
            answer = await fs._call_s3("get_object", Bucket=bucket, Key=key, IfMatch=f'"{etag}"')
        except OSError as error:
            if status_code(error) == 412:
                raise _replaced(etag, "another") from None
            raise
        try:
            async with answer["Body"] as body:
                return await body.read()
        except Exception as error:
            if num_waits + 1 >= fs.retries or not is_passing(error):
                raise
            await asyncio.sleep(wait_s(num_waits))
            num_waits += 1


def check_version(url: str, version: str) -> None:
    """Raise DecodeError when what was read is not, or not all, of the object that was listed.

    A version of the user's own (a column of their table) says nothing that could be compared, and is taken as it is.
    """
    with video_errors():
        now = file_info(url).version
    if now != version and _OF_STORAGE.fullmatch(version):
        raise _replaced(version, now)


# As `storage.listed_version` gives them: of S3 (with parts, or without), a hash of Google's, size and time in seconds.
_ETAG = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")
_OF_STORAGE = re.compile(rf"{_ETAG.pattern}|[0-9A-Za-z+/]{{22}}==|[0-9]+-[0-9]{{9,}}[0-9.]*")


def _replaced(version: str, now: str) -> DecodeError:
    return DecodeError(
        "not_found", f"replaced since it was listed (version {version}, now {now}); the next run reads the new one"
    )


@contextmanager
def video_errors() -> Iterator[None]:
    """Raise DecodeError `not_found` and `forbidden`; a fault of the storage, or of the credentials, flies."""
    try:
        yield
    except FileNotFoundError:
        raise DecodeError("not_found", "the file is not there (any more)") from None
    except PermissionError as error:
        if error_code(error) in _OF_CREDENTIALS:
            raise
        raise DecodeError("forbidden", f"these credentials may not read it: {error.strerror or error}") from None


# What S3 says when it does not know who asks; the video is not to blame, and the next one would fare no better.
_OF_CREDENTIALS = {
    *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "RequestTimeTooSkewed"),
    *("SignatureDoesNotMatch", "TokenRefreshRequired"),
}


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
        entries = fs.ls(path, detail=True)
    except FileNotFoundError:
        return []
    # Some storages keep an object named like the folder itself when it has become empty.
    return [entry for entry in entries if entry["name"].rstrip("/") != path.rstrip("/")]


def remove_files(folder: str, names: list[str]) -> None:
    """Remove these files, as far as they are there."""
    fs, path = filesystem(folder)

    def remove(name: str) -> None:
        with suppress(FileNotFoundError):
            fs.rm_file(f"{path}/{name}")

    if len(names) == 1:  # as at the very end of a process, which starts no thread any more
        remove(names[0])
        return
    with ThreadPoolExecutor(NUM_REMOVERS) as pool:
        list(pool.map(remove, names))


def check_writable(folder: str) -> None:
    """Write and remove a small file, so that a lack of rights shows before any work."""
    name = f".vidpipe-write-test-{uuid.uuid4().hex}"
    put_bytes(b"", join(folder, name))
    remove_files(folder, [name])
    be_patient()
