"""Ctrl-C in a job: one message and exit code 130, however many signals come and whoever swallows them.

    imports     nothing is held yet: the message, and out
    work        KeyboardInterrupt in the main thread, and again each second until it is on its way out; what it runs
                through on that way (`finally`, `__exit__`: commits, the lease) no further signal disturbs
    over        the result is written, or the message is out: a signal changes nothing

A process that ignores SIGINT from its beginning, as a shell starts one with &, goes on doing so.
Knows nothing of Ray or of what is interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from vidpipe.errors import OutputInUseError

MESSAGE = "interrupted: what is recorded stays; the same command goes on from there"
EXIT_CODE = 130  # 128 + SIGINT, as a shell has it
AGAIN_S = 1.0

_phase: Literal["imports", "work", "over"] = "imports"
_was_interrupted = False


def watch_keyboard() -> None:
    """Take Ctrl-C over from Python, before anything slow is imported."""
    global _phase, _was_interrupted
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        _phase, _was_interrupted = "imports", False
        signal.signal(signal.SIGINT, _on_signal)
        signal.signal(signal.SIGALRM, _on_signal)
        sys.unraisablehook = _say_unraisable


@contextmanager
def interruptible() -> Iterator[None]:
    """A block that Ctrl-C ends with KeyboardInterrupt, also where a library has made another error of it, or none."""
    global _phase
    if _is_watching():
        _phase = "work"
    try:
        yield
        if _was_interrupted:
            raise KeyboardInterrupt
    except OutputInUseError:  # the lease interrupts the work by the same signal
        raise
    except BaseException as error:
        if _was_interrupted and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise
    finally:
        ignore_interrupts()


def ignore_interrupts() -> None:
    """From here on Ctrl-C changes nothing: the result is written, or the end is near for another reason."""
    global _phase
    if _is_watching():
        _phase = "over"
        signal.setitimer(signal.ITIMER_REAL, 0)
        # Python gives a handler of its own back to the system before it ends, and that would end the process.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_watching() -> bool:
    """Whether Ctrl-C is ours: no job, or one in the background, has it otherwise."""
    return signal.getsignal(signal.SIGINT) is _on_signal


def _on_signal(signum: int, frame: object) -> None:
    global _was_interrupted
    if _phase == "imports":
        # An import makes what it likes of a KeyboardInterrupt, often an ImportError.
        os.write(2, f"{MESSAGE}\n".encode())
        os._exit(EXIT_CODE)
    if _phase == "work":
        _was_interrupted = True
        if not _is_on_its_way(sys.exc_info()[1]):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S, AGAIN_S)
            raise KeyboardInterrupt


def _is_on_its_way(handled: BaseException | None) -> bool:
    """Whether the error that is being handled, here or in a caller, came of a KeyboardInterrupt."""
    while handled is not None and not isinstance(handled, KeyboardInterrupt):
        handled = handled.__context__
    return handled is not None


def _say_unraisable(unraisable: Any) -> None:
    """A KeyboardInterrupt that hit a destructor or a callback comes again; it is no news."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(unraisable)
