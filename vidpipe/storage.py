"""Files and objects on any fsspec URL: list, fetch, write whole. Knows nothing about videos.

Credentials and endpoints come from the environment that the URL's own library reads: for s3:// the ordinary
AWS variables (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AWS_PROFILE`, …), for gs:// Google's.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import fsspec


@dataclass(frozen=True)
class FileInfo:
    """One object as a listing shows it; `version` changes whenever its content is replaced."""

    url: str
    size_bytes: int
    version: str


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL or local path, and the path within it."""
    fs, path = fsspec.core.url_to_fs(url)
    return fs, path
