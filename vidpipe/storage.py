"""Files and objects on any fsspec URL: list, fetch, write whole. Knows nothing about videos.

Credentials and endpoints come from the environment that the URL's own library reads: for s3:// the ordinary
AWS variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AWS_PROFILE`, …), for gs:// Google's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from vidpipe.errors import UsageError

MISSING = "missing"  # the version of a file that is not there

# Waits of 0.1 s that grow by 1.7 to 15 s (s3fs): 4 s in all until a storage has answered once, since its address may be
# wrong, and a minute from then on. The last error flies.
FIRST_TRIES, TRIES = 6, 12

# s3fs tries again by itself; with botocore's own five tries below that, a storage that never answers takes 7 minutes.
OPTIONS: dict[str, dict[str, Any]] = {
    # As many connections as there are ranges under way for a video, most of the time; botocore has 10.
    "s3": {"config_kwargs": {"retries": {"mode": "standard", "total_max_attempts": 1}, "max_pool_connections": 32}},
}


@dataclass(frozen=True)
class FileInfo:
    """One object as a listing shows it; `version` changes whenever its content is replaced."""

    url: str
    size_bytes: int
    version: str


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL or local path, and the path within it.

    A "::" belongs to the name: `url_to_fs` would cut `a::b.mp4` down to `a`, another file. A local path comes out
    absolute and without "..", so that a video has the same URL, and so the same id, however its folder was spelled.
    """
    protocol, _ = fsspec.core.split_protocol(url)
    kind = fsspec.get_filesystem_class(protocol or "file")
    options = {**kind._get_kwargs_from_urls(url), **OPTIONS.get(protocol or "file", {})}
    fs, path = fsspec.filesystem(protocol or "file", **options), kind._strip_protocol(url)
    if "s3" in fs.protocol:
        _retry_what_passes()
        fs.retries = _tries
        if fs.session is None:
            fs.session = _session(fs.kwargs)
    return fs, os.path.abspath(path) if isinstance(fs, LocalFileSystem) else path


def _session(options: dict[str, Any]) -> Any:
    """What s3fs would make itself, but for how it reads times: of a listing, dateutil takes most of the CPU time."""
    from aiobotocore.session import AioSession

    session = AioSession(**options)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_time)
    return session


def _time(value: Any) -> Any:
    if isinstance(value, str) and value[10:11] == "T" and value.endswith("Z"):  # 2026-11-21T23:30:00.000Z
        with suppress(ValueError):
            return datetime.fromisoformat(f"{value[:-1]}+00:00")
    from botocore.utils import parse_timestamp

    return parse_timestamp(value)


_tries = FIRST_TRIES


def be_patient() -> None:
    """From now on this process waits a minute for a storage that is away; called once it has answered."""
    global _tries
    _tries = TRIES


@cache
def _retry_what_passes() -> None:
    """Besides what s3fs tries again by itself: its other client errors, and answers that say "later"."""
    import s3fs

    s3fs.core.set_custom_error_handler(is_passing)


def is_passing(error: BaseException) -> bool:
    """Whether the same request may succeed in a while: the storage is away, overloaded or broken."""
    status = status_code(error)
    if status is not None:
        return (status >= 500 and status != 501) or status in (408, 429)
    return any(kind.__name__ in _PASSING for kind in type(error).__mro__)


def status_code(error: BaseException) -> int | None:
    """The HTTP status that a storage answered with, of an error of botocore's, also as s3fs translates it."""
    return _answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode")


def error_code(error: BaseException) -> str | None:
    """S3's own word for what is wrong, such as AccessDenied."""
    return _answer(error).get("Error", {}).get("Code")


def _answer(error: BaseException) -> dict[str, Any]:
    answer = getattr(error, "response", None) or getattr(error.__cause__, "response", None)
    return answer if isinstance(answer, dict) else {}


def wait_s(num_waits: int) -> float:
    """How long to wait after so many waits, as s3fs does."""
    return min(0.1 * 1.7**num_waits, 15.0)


_PASSING = {"ConnectionError", "HTTPClientError", "ClientConnectionError", "ClientPayloadError", "TimeoutError"}


def absolute_url(url: str) -> str:
    """The one spelling of a URL that `list_files` uses; a local path becomes absolute, without `file://`."""
    return public_url(*filesystem(url))


def public_url(fs: Any, path: str) -> str:
    """How messages and tables spell a path within `fs`."""
    return path if isinstance(fs, LocalFileSystem) else str(fs.unstrip_protocol(path))


_NOT_THERE = "is not there: check the spelling of the bucket, folder or file"
_CREDENTIALS = (
    "needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE (s3://), "
    "or GOOGLE_APPLICATION_CREDENTIALS (gs://)"
)
_DENIED = (
    "refuses access: check the credentials (for s3:// AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY); "
    "they need the right to list and read, and for an output to write and delete"
)
_UNREACHABLE = "cannot be reached: check the network and, for a storage of your own, AWS_ENDPOINT_URL"
_WAYS_OUT = {
    "FileNotFoundError": _NOT_THERE,
    "NotADirectoryError": _NOT_THERE,
    "FileExistsError": "is a file, and a folder is needed; give another name",
    "NoCredentialsError": _CREDENTIALS,
    "PartialCredentialsError": _CREDENTIALS,
    "ProfileNotFound": _CREDENTIALS,
    "DefaultCredentialsError": _CREDENTIALS,
    "PermissionError": _DENIED,
    "ConnectionError": _UNREACHABLE,
    "HTTPClientError": _UNREACHABLE,
    "ClientConnectionError": _UNREACHABLE,
    "TimeoutError": _UNREACHABLE,
    "ParamValidationError": "is no address: write s3://bucket/folder",
    "NotImplementedError": "is on a storage that lists no folders: use a local path, s3:// or gs://",
    "ImportError": "needs a Python package that is not installed",
}


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn what a storage says when `url` cannot be used as given into a UsageError with the way out.

    Errors are told apart by class name, so that no cloud's package is imported for a local folder.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and "Protocol not known" in str(error):
            raise UsageError(
                f"{url}: fsspec knows no storage of this kind; use a local path, s3:// or gs://"
            ) from error
        if isinstance(error, ValueError) and "Invalid endpoint" in str(error):
            raise UsageError(f"{error}; write AWS_ENDPOINT_URL as http://host:port or https://host") from error
        names = [kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _WAYS_OUT]
        if not names:
            raise
        raise UsageError(f"{url} {_WAYS_OUT[names[0]]} ({error})") from error


def file_info(url: str) -> FileInfo:
    """One file's size and version, as `list_files` gives them; version `MISSING` when it is not there."""
    fs, path = filesystem(url)
    try:
        if isinstance(fs, LocalFileSystem):
            return local_file(path)
        info = fs.info(path)
    except FileNotFoundError:
        return FileInfo(public_url(fs, path), 0, MISSING)
    return FileInfo(public_url(fs, path), info["size"], listed_version(info))


def local_file(path: str) -> FileInfo:
    """Size and time of change; links are followed."""
    if not path.isascii():
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{path!r}: a file's name must be valid UTF-8; rename it") from error
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return FileInfo(path, 0, MISSING)
    return FileInfo(path, status.st_size, f"{status.st_size}-{status.st_mtime_ns}")


def listed_version(info: dict[str, Any]) -> str:
    """A hash of the content where the storage keeps one (S3 ETag, Google's md5Hash), else size and time of change."""
    tag = info.get("ETag") or info.get("md5Hash") or info.get("etag")
    if tag:
        return str(tag).strip('"')
    size = info.get("size", info.get("Size"))
    changed = info.get("LastModified") or info.get("mtime") or info.get("updated") or info.get("created")
    # Some file systems give one file's time as a date in `info` and as seconds in `ls`.
    return f"{size}-{changed.timestamp() if isinstance(changed, datetime) else changed}"


def listed_time(info: dict[str, Any]) -> float | None:
    """When a file was last changed, in seconds by the storage's clock; None where the storage does not say."""
    changed = info.get("LastModified") or info.get("mtime")
    return changed.timestamp() if isinstance(changed, datetime) else changed
