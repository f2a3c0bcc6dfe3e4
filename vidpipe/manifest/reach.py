"""Which videos a listing may name.

A table in a bucket is written by whoever may write there, and read by somebody who may read more: it names videos of
that bucket only, unless the command says otherwise. A table on this machine is the user's own word.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
from fsspec.implementations.local import LocalFileSystem

from vidpipe.errors import UsageError
from vidpipe.plain_text import holds_secret, without_secrets
from vidpipe.storage import absolute_url, filesystem, public_url

_HOME = re.compile(r"[\w+.-]+:///?[^/]+/")  # s3://bucket/, https://host/
_ODD = re.compile(r"%|\\|[\t\r\n]|/\.\.?(/|$)")


@dataclass(frozen=True)
class Reach:
    """The folders whose videos one listing may name; any, where `prefixes` is None."""

    source: str
    prefixes: tuple[str, ...] | None

    def check(self, urls: Iterable[str]) -> None:
        """Raise UsageError for the first URL that may not be named, before anything is asked of its storage."""
        for row, url in enumerate(urls, start=1):
            if "\0" in url:
                raise UsageError(f"{self.source}: row {row} names {url!r}, and no file's name holds a null; correct it")
            if holds_secret(url):
                raise UsageError(
                    f"{self.source}: row {row} names a URL with a password or a signature ({without_secrets(url)}); "
                    "tables keep the URLs of videos, and a new signature would be a new video: name the object itself "
                    "(s3://bucket/key), with credentials in the environment"
                )
            if not self.allows(url):
                raise UsageError(f"{self.source}: row {row} names {url}, {self.rule}")

    def allows(self, url: str) -> bool:
        """Whether a URL may be read; nothing is asked of its storage."""
        if self.prefixes is None:
            return True
        is_local = url.startswith(("file://", "local://")) or not ("://" in url or url.startswith("/"))
        named = absolute_url(url) if is_local and "::" not in url else url
        return any(is_below(named, prefix) for prefix in self.prefixes)

    @property
    def rule(self) -> str:
        return (
            f"and this table may name what is below {' '.join(self.prefixes or ())} only; where you trust it to name "
            "others, allow them with --allow-url-prefix s3://bucket/folder"
        )


def reach_of(source: str, allowed: tuple[str, ...], root: str | None = None) -> Reach:
    """What a listing at `source` may name: of a local one everything, of a remote one its bucket or host.

    `allowed` (--allow-url-prefix) adds to a remote one and limits a local one; `root` is where relative paths start.
    """
    for prefix in allowed:
        if not prefix.split("://")[-1].strip() or _ODD.search(prefix) or "::" in prefix:
            raise UsageError(
                "allow_url_prefix must be a bucket or a folder such as s3://bucket/folder, without .. and %, "
                f"got {prefix!r}"
            )
    home = None if isinstance(filesystem(source)[0], LocalFileSystem) else _HOME.match(absolute_url(source))
    if home is None and not allowed:
        return Reach(source, None)
    own = [*([home[0]] if home else []), *([absolute_url(root)] if root is not None else [])]
    return Reach(source, tuple(_folder(prefix) for prefix in [*own, *map(absolute_url, allowed)]))


def check_outside(urls: pa.ChunkedArray, output: str, folders: tuple[str, ...]) -> None:
    """Raise UsageError for a video that lies in one of the folders that an output keeps for itself; links are followed.

    The output itself may lie inside the source.
    """
    # Each folder is looked at once: millions of videos lie in a few.
    lying_in = pc.unique(pc.replace_substring_regex(urls, r"[^/]*$", ""))
    fs, _ = filesystem(output)
    is_local = isinstance(fs, LocalFileSystem)
    protocols = "|".join([fs.protocol] if isinstance(fs.protocol, str) else fs.protocol)
    same_storage = rf"^({protocols})://" + ("|^/|^[^:]*$" if is_local else "")
    lying_in = lying_in.filter(pc.match_substring_regex(lying_in, same_storage))

    def real_folder(url: str) -> str:
        within = fs._strip_protocol(url)
        return _folder(os.path.realpath(within) if is_local else within)

    own = {name: real_folder(f"{output.rstrip('/')}/{name}") for name in folders}
    for folder in lying_in.to_pylist():
        real = real_folder(folder)
        for name, place in own.items():
            if real.startswith(place):
                first = urls.filter(pc.starts_with(urls, folder))[0].as_py()
                raise UsageError(
                    f"{first} lies in {public_url(fs, place)}, where {output} keeps its {name}; give an --output whose "
                    "folders hold no videos, or move the videos"
                )


def is_below(url: str, folder: str) -> bool:
    """Whether a URL lies in a folder (with its slash), as written and as any server or proxy may understand it."""
    if not url.startswith(folder):
        return False
    if not _ODD.search(url):
        return True
    _, mark, path = url.partition("://")
    path = unquote(unquote(path if mark else url)).replace("\\", "/")
    path = re.sub("[\t\r\n]", "", path).partition("?")[0]
    # Of more than two slashes at the beginning normpath keeps two: none of them matters here.
    path = posixpath.normpath("/" + path.lstrip("/"))
    beginning = "/" + folder.partition("://")[2].lstrip("/") if mark else folder
    return f"{path}/".startswith(beginning)


def _folder(url: str) -> str:
    return f"{url.rstrip('/')}/"
