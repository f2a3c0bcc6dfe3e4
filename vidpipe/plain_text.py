"""Text from outside made fit for a terminal, a log or run.json: no control characters, and no secrets.

A file's name may hold a line break that forges a log line, or an escape sequence that rewrites the screen; an address
or a storage's error may hold a password or a signature. Tables keep names as they are; what people read goes
through here.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from types import TracebackType
from typing import Any, TextIO

HIDDEN = "REDACTED"
_COLOR = re.compile(r"\x1b\[[0-9;]*m")

# user:password@ of an address; no bucket or host may hold an "@".
_USER = re.compile(r"(?<=://)[^/?#\s'\"<>]*@")
# Presigned addresses have many dialects (X-Amz-Signature, sig, token, Policy, hash, ...): none of a query is shown.
_QUERY = re.compile(r"(?i)(https?://[^\s?#'\"<>]*)[?#][^\s'\"<>]*")
_NAMES = (
    r"x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid|googleaccessid|signature|sig|hdnea|hdnts"
    r"|[\w.-]*(?:token|secret|passw(?:or)?d|api_?key)[\w.-]*"
)
_PARAMETER = re.compile(rf"(?i)(?<=[?&;#])({_NAMES})=[^&\s'\"<>]+")
# As a library prints its settings or a request: NAME=value, 'name': 'value', Credential=..., Signature=...
_SETTING = re.compile(rf"(?i)(?<![\w.-])({_NAMES}|credential)(['\"]?\s*[=:]\s*['\"]|=)(?!['\"])[^\s'\",;&)}}]+")
_BEARER = re.compile(r"(?i)\b(bearer) [\w.~+/=-]{8,}")
_SECRET_VARIABLE = re.compile(r"(?i)(secret|token|passw|api_?key|credential)")
_SHORTEST_SECRET = 8  # a shorter value is a word that may be anywhere


def printable(text: str) -> str:
    """One line: what would break it, move the cursor, or turn or hide what follows is written as an escape."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def without_secrets(text: str) -> str:
    """The text without passwords, signatures and tokens, whichever library wrote it."""
    text = _USER.sub(f"{HIDDEN}@", text)
    text = _QUERY.sub(rf"\1?{HIDDEN}", text)
    text = _PARAMETER.sub(rf"\1={HIDDEN}", text)
    text = _SETTING.sub(rf"\1\2{HIDDEN}", text)
    text = _BEARER.sub(rf"\1 {HIDDEN}", text)
    for name, value in os.environ.items():
        if len(value) >= _SHORTEST_SECRET and value in text and _SECRET_VARIABLE.search(name) and not _is_file(value):
            text = text.replace(value, HIDDEN)
    return text


def _is_file(value: str) -> bool:
    """A path to a secret (AWS_WEB_IDENTITY_TOKEN_FILE, GOOGLE_APPLICATION_CREDENTIALS) is no secret."""
    return value.startswith(("/", "~", "."))


def holds_secret(url: str) -> bool:
    """Whether an address holds a password or is signed; in the name of a file or object a "?" is a letter."""
    return bool(_USER.search(url) or (url.startswith(("http://", "https://")) and _PARAMETER.search(url)))


def shown(text: object) -> str:
    """For a terminal or a log."""
    return printable(without_secrets(str(text)))


def say(*lines: str, file: TextIO | None = None) -> None:
    """What a job prints: one line each."""
    for line in lines:
        try:
            print(shown(line), file=file, flush=True)
        except BrokenPipeError:
            forget_reader(file or sys.stdout)


def forget_reader(file: TextIO) -> None:
    """Have the rest of a stream go nowhere: whoever read it (`| head`) has seen enough, and work goes on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, file.fileno())
    os.close(nowhere)


def redacted(value: Any) -> Any:
    """The same JSON value without secrets in its texts."""
    if isinstance(value, dict):
        return {name: redacted(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(each) for each in value]
    return without_secrets(value) if isinstance(value, str) else value


class WithoutColors:
    """A stream that is no terminal: colors, which Ray gives to lines of its workers, are left out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_COLOR.sub("", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class StderrHandler(logging.StreamHandler):
    """Writes to what `sys.stderr` is at the time: while a bar is on the terminal, to the lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


class LogFormatter(logging.Formatter):
    """A log line is one line; a traceback keeps its own lines, and nothing else of what they hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        return shown(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return _each_line(super().formatException(ei))


def say_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """As `sys.excepthook`: what flies is as full of names and addresses as what is caught."""
    print(_each_line("".join(traceback.format_exception(kind, error, trace)).rstrip("\n")), file=sys.stderr)


def _each_line(text: str) -> str:
    return "\n".join(map(shown, text.split("\n")))
