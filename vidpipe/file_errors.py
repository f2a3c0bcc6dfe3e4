"""Files that cannot be read are named, with the way out: what a user gave is a UsageError, what vidpipe wrote itself a
DamagedFileError.

    with given_file(url, "correct the file"):
        content = json.loads(text)

The block holds what a library makes of the file's bytes, and as little else as can be.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from vidpipe.errors import DamagedFileError, UsageError

_UNREADABLE = (
    *(pa.ArrowInvalid, pa.ArrowKeyError, pa.ArrowNotImplementedError, pa.ArrowTypeError),
    *(json.JSONDecodeError, UnicodeDecodeError, RecursionError),
)


# Raised by facts that lack fields, have others, or values of another kind: another version's, or nobody's.
NO_FACTS = (KeyError, TypeError, AttributeError, UsageError)


def is_unreadable(error: Exception) -> bool:
    """Whether a library says of a file's bytes that they are not what they should be; its storage is not to blame."""
    if isinstance(error, _UNREADABLE):
        return True
    if type(error) is OSError:  # Arrow's for a damaged page; an error of a storage has a number, or a class of its own
        return error.errno is None
    return type(error) is ValueError and "integer string conversion" in str(error)  # of json: past 4,300 digits


@contextmanager
def given_file(url: str, way_out: str, what: str = "cannot be read") -> Iterator[None]:
    """Raise UsageError, which names the file, where a user's file cannot be read."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{url}: {error}") from error
    except Exception as error:
        if not is_unreadable(error):
            raise
        raise UsageError(f"{url} {what} ({_said(error)}); {way_out}") from error


@contextmanager
def own_file(url: str, way_out: str, also: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Raise DamagedFileError, which names the file, where one that vidpipe wrote cannot be read; `also` are errors that
    mean the same where facts are made of it."""
    try:
        yield
    except Exception as error:
        if not is_unreadable(error) and not isinstance(error, also):
            raise
        raise DamagedFileError(f"{url} is damaged ({_said(error)}): restore it from a copy, or {way_out}") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:300]}"
