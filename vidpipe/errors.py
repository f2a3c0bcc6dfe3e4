"""The user's mistake is a `UsageError`, a bad video a `DecodeError`; everything else propagates with its traceback."""

from __future__ import annotations

from typing import Literal, get_args

from vidpipe.plain_text import without_secrets

MAX_MESSAGE = 4_000  # characters

ErrorCode = Literal[
    "not_found",  # the object is not there (any more)
    "not_a_video",  # no demuxer knows these bytes
    "no_video_stream",  # a container without pictures: audio only
    "truncated",  # the file ends before a frame that was needed
    "corrupt",  # a frame that was needed cannot be decoded
    "unsupported",  # a codec, or a feature, that the chosen decoder lacks
    "too_large",  # declared sizes past the limits
    "timeout",  # the decode ran past its time limit and was killed
    "crash",  # the decoder took its process down
    "out_of_memory",  # the decode asked for more than its memory limit
    "forbidden",  # storage refuses to hand it out, or the file refers to other files or hosts
]
ERROR_CODES: tuple[str, ...] = get_args(ErrorCode)


class DecodeError(Exception):
    """One video cannot be delivered; `code` is one of `ERROR_CODES`, the message says what was seen."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        # It is kept in the status table, and some come from storages or from a decoder taken over by its file.
        super().__init__(without_secrets(message)[:MAX_MESSAGE])
        self.code = code

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return DecodeError, (self.code, str(self))


class UsageError(ValueError):
    """The command cannot work as given; the message says the value, the rule and the way out. Exit code 2.

    A ValueError that is none, of numpy, of pyarrow or of a bug, propagates with its traceback.
    """


class DamagedFileError(Exception):
    """A file that vidpipe wrote cannot be read any more; the message names it, with the way out. Exit code 1.

    No mistake of the command's: a storage may show a file before it is whole, and the next try may read it.
    """


class MissingGpuError(RuntimeError):
    """A node has no GPU that works, though Ray promised one: not the user's mistake, and the same at the next try."""


class FailureRateError(Exception):
    """More videos failed than --max-failure-rate allows; all results are written. Exit code 3."""


class OutputInUseError(Exception):
    """Another run is at work on the same output. Exit code 4."""
