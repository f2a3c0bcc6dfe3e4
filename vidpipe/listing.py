"""List every file below a folder, bucket or prefix, in parallel and in bounded memory. Knows nothing about videos."""

from __future__ import annotations

import os
import posixpath
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from vidpipe.storage import (
    FileInfo,
    be_patient,
    file_info,
    filesystem,
    listed_version,
    local_file,
    public_url,
    storage_errors,
)

NUM_LISTERS = 32
# With this many folders to list, threads have work enough: S3 lists each of them with all below it in one go.
ENOUGH_FOLDERS = 8

# One step of a listing: the files it saw that are wanted, how many it saw, and the steps that it leads to.
_Step = tuple[list[FileInfo], int, list[Any]]


def list_files(
    url: str, *, suffixes: frozenset[str], on_progress: Callable[[int], None] | None = None
) -> Iterator[FileInfo]:
    """Every file below a folder, bucket or prefix whose lower-case suffix is in `suffixes`, in no order.

    Folders are listed by threads at the same time; no request is made for a single object. Names that start with "."
    are hidden and passed over, with all below. A local link whose target is gone is listed with version `MISSING`.
    `on_progress` is told how many files were seen so far, of any suffix. A UsageError says why `url` cannot be listed,
    before the first file.
    """
    with storage_errors(url):
        fs, path = filesystem(url)
        fs.invalidate_cache()
        if fs.info(path)["type"] == "file":
            only = file_info(url)
            return iter([only] if _suffix(path) in suffixes else [])
    be_patient()
    fs, path = filesystem(url)
    if isinstance(fs, LocalFileSystem):
        return _walk(url, _list_local, (path, frozenset([os.path.realpath(path)])), suffixes, on_progress)
    if "s3" in fs.protocol:
        bucket, key, _ = fs.split_path(path)
        request = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", "Delimiter": "/"}
        return _walk(url, partial(_list_s3, fs, len(request["Prefix"])), request, suffixes, on_progress)
    return _walk(url, partial(_list_folder, fs), path, suffixes, on_progress)


def _walk(
    url: str,
    list_step: Callable[[Any, frozenset[str], bool], _Step],
    first: Any,
    suffixes: frozenset[str],
    on_progress: Callable[[int], None] | None,
) -> Iterator[FileInfo]:
    """Breadth first from `first`; at most `NUM_LISTERS` steps are under way or held in memory."""
    todo: deque[Any] = deque([first])
    running: set[Future[_Step]] = set()
    num_seen = 0
    with ThreadPoolExecutor(NUM_LISTERS) as pool:
        while todo or running:
            while todo and len(running) < NUM_LISTERS:
                busy = len(todo) + len(running) >= ENOUGH_FOLDERS
                running.add(pool.submit(list_step, todo.popleft(), suffixes, busy))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for step in done:
                with storage_errors(url):
                    files, num_files, more = step.result()
                todo.extend(more)
                num_seen += num_files
                yield from files
            if on_progress:
                on_progress(num_seen)


def _list_local(folder: tuple[str, frozenset[str]], suffixes: frozenset[str], busy: bool) -> _Step:
    """`folder`: its path, and the real paths of the links that led to it, so that a loop of links ends."""
    path, ways = folder
    files: list[FileInfo] = []
    folders: list[tuple[str, frozenset[str]]] = []
    num_files = 0
    with os.scandir(path) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                real = os.path.realpath(entry.path) if entry.is_symlink() else None
                if real is None:
                    folders.append((entry.path, ways))
                elif real not in ways and not os.path.realpath(path).startswith(real + os.sep):
                    folders.append((entry.path, ways | {real}))
                continue
            num_files += 1
            if _suffix(entry.name) in suffixes:
                files.append(local_file(entry.path))
    return files, num_files, folders


def _list_s3(fs: Any, root_chars: int, request: dict[str, str], suffixes: frozenset[str], busy: bool) -> _Step:
    """One `list_objects_v2`, of a folder or, without "Delimiter", of all objects below a prefix.

    Folders are opened one by one only until there are `ENOUGH_FOLDERS`, and never in a folder of more than one page:
    a bucket with a million one-video folders takes about a thousand requests, not a million.
    """
    flat = {name: value for name, value in request.items() if name != "Delimiter"}
    request = flat if busy else request
    page = fs.call_s3("list_objects_v2", **request)
    truncated = page.get("IsTruncated", False)
    if truncated and "Delimiter" in request:
        return [], 0, [flat]
    objects = [
        found
        for found in page.get("Contents", [])
        if not found["Key"].endswith("/") and "/." not in "/" + found["Key"][root_chars:]
    ]
    files = [
        FileInfo(public_url(fs, f"{request['Bucket']}/{found['Key']}"), found["Size"], listed_version(found))
        for found in objects
        if _suffix(found["Key"]) in suffixes
    ]
    more = [
        {**request, "Prefix": folder["Prefix"]}
        for folder in page.get("CommonPrefixes", [])
        if "/." not in "/" + folder["Prefix"][root_chars:]
    ]
    if truncated:
        more.append({**request, "ContinuationToken": page["NextContinuationToken"]})
    return files, len(objects), more


def _list_folder(fs: Any, path: str, suffixes: frozenset[str], busy: bool) -> _Step:
    """One folder of any other file system."""
    found = [
        info
        for info in fs.ls(path, detail=True)
        if info["name"].rstrip("/") != path.rstrip("/")
        and not posixpath.basename(info["name"].rstrip("/")).startswith(".")
    ]
    # fsspec keeps each listing; a million rows of them would stay in memory.
    fs.invalidate_cache(path)
    objects = [info for info in found if info["type"] == "file" and not info["name"].endswith("/")]
    files = [
        FileInfo(public_url(fs, info["name"]), info["size"], listed_version(info))
        for info in objects
        if _suffix(info["name"]) in suffixes
    ]
    return files, len(objects), [info["name"] for info in found if info["type"] == "directory"]


def _suffix(path: str) -> str:
    return posixpath.splitext(path)[1].lower()
