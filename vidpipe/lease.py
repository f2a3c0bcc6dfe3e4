"""One run at a time works on an output: a lease, kept in the output itself, with a sign of life every few seconds.

Each run keeps a claim of its own, `OUT/lease/<id>.json`, and looks at those of the others:

    write a claim "waiting" → list → nobody else lives       → write "holding", and work
                                   → another one is holding  → watch: it gives a sign of life → leave; none → it is dead
                                   → another one is waiting  → the smaller id goes first, the other leaves

This asks of the storage only that a listing shows what was written before it began (S3, Google, any file system), not
that a write can be conditional. Of two runs that begin at the same moment at least one sees the other's claim.
A claim is dead when its process is gone (same machine), or when its file has not changed for `LIMIT_S`: by the
storage's own clock, which also dates the claim that was just written, or by the time for which this run has watched.
Knows nothing of what a run does with its output.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from vidpipe.errors import OutputInUseError
from vidpipe.file_errors import NO_FACTS, own_file
from vidpipe.storage import filesystem, listed_time, listed_version
from vidpipe.transfer import join, list_folder, put_bytes, remove_files

logger = logging.getLogger(__name__)

FOLDER = "lease"
NAME = r"[0-9a-f]{32}\.json"
BEAT_S = 5.0
LIMIT_S = 30.0
POLL_S = 0.5


@dataclass(frozen=True)
class Claim:
    """What a run says of itself in its file."""

    id: str
    command: str
    host: str
    pid: int
    process: str
    """The process among all that ever ran on its machine; see `process_name`."""
    since: str
    state: Literal["waiting", "holding"] = "waiting"
    num_beats: int = 0

    def __str__(self) -> str:
        return f"{self.command} (process {self.pid} on {self.host}, since {self.since})"


class Lease:
    """A run's claim on an output: `take`, then `beat` now and then, `check` before anything is written, `give_back`."""

    def __init__(self, output: str, command: str, *, limit_s: float = LIMIT_S, poll_s: float = POLL_S) -> None:
        self.output, self.limit_s, self._poll_s = output, limit_s, poll_s
        self.folder = join(output, FOLDER)
        since = datetime.now().astimezone().isoformat(timespec="seconds")
        process = process_name(os.getpid()) or ""
        self._claim = Claim(uuid.uuid4().hex, command, socket.gethostname(), os.getpid(), process, since)
        self._written_s = -math.inf
        self._seen: dict[str, Sighting] = {}
        self._lock = threading.Lock()  # for the thread that gives signs of life and the one that checks

    def take(self) -> None:
        """Hold the output; raises OutputInUseError when another run does, which may take `limit_s` to find out."""
        self._write()
        try:
            while rivals := self._living_rivals():
                for rival, is_beating in rivals:
                    is_first = rival.state == "waiting" and rival.id < self._claim.id
                    if is_first or (is_beating and rival.state == "holding"):
                        raise self._in_use(rival)
                time.sleep(self._poll_s)
            self._claim = replace(self._claim, state="holding")
            self._write()
            self._leave_to_holders()  # one that was taken for dead may have woken up
        except BaseException:
            self.give_back()
            raise

    def beat(self) -> None:
        """Give a sign of life; raises OutputInUseError when another run has taken this one for dead."""
        with self._lock:
            is_late = self._silence_s() > self.limit_s
            if self._name not in self._files():
                raise OutputInUseError(
                    f"{self.output} was taken over by another run, since this one gave no sign of life for "
                    f"{self.limit_s:g} s; what it recorded until then counts, and the other goes on from there"
                )
            self._write()
            if is_late:
                self._leave_to_holders()

    def check(self) -> None:
        """Raise OutputInUseError unless this run holds the output; asks the storage only when a sign of life is due."""
        if self._silence_s() > self.limit_s / 2:
            self.beat()

    def give_back(self) -> None:
        remove_files(self.folder, [self._name])

    @property
    def _name(self) -> str:
        return f"{self._claim.id}.json"

    def _silence_s(self) -> float:
        return time.monotonic() - self._written_s

    def _write(self) -> None:
        self._claim = replace(self._claim, num_beats=self._claim.num_beats + 1)
        put_bytes(json.dumps(asdict(self._claim)).encode(), join(self.folder, self._name))
        self._written_s = time.monotonic()

    def _files(self) -> dict[str, dict[str, Any]]:
        """The storage's entries of all claims, by name."""
        entries = {entry["name"].rsplit("/", 1)[-1]: entry for entry in list_folder(self.folder)}
        return {name: entry for name, entry in entries.items() if re.fullmatch(NAME, name)}

    def _living_rivals(self) -> list[tuple[Claim, bool]]:
        """Claims of other runs, with whether each was seen to give a sign of life; those of dead ones are removed."""
        files = self._files()
        # The storage's own clock: it dated the claim that this run wrote `_silence_s` ago.
        mine_s = listed_time(files.pop(self._name, {}))
        living = []
        for name, entry in files.items():
            claim = self._read(name)
            if claim is None:
                continue
            seen = self._seen[name] = sighting(self._seen.get(name), listed_version(entry))
            silent_s, changed_s = time.monotonic() - seen.since_s, listed_time(entry)
            if mine_s is not None and changed_s is not None:
                silent_s = max(silent_s, mine_s + self._silence_s() - changed_s)
            if process_is_gone(claim) or silent_s > self.limit_s:
                logger.info("%s: %s ended without a word; this run takes over", self.output, claim)
                remove_files(self.folder, [name])
            else:
                living.append((claim, seen.is_beating))
        return living

    def _read(self, name: str) -> Claim | None:
        url = join(self.folder, name)
        fs, path = filesystem(url)
        try:
            text = fs.cat_file(path)
        except FileNotFoundError:  # given back since it was listed
            return None
        with own_file(url, "remove it once no run is at work on this output", NO_FACTS):
            content = json.loads(text)
        is_claim = isinstance(content, dict) and content.keys() == {field.name for field in fields(Claim)}
        return Claim(**content) if is_claim else None  # what is none was put there by somebody else

    def _leave_to_holders(self) -> None:
        for rival, _ in self._living_rivals():
            if rival.state == "holding":
                raise self._in_use(rival)

    def _in_use(self, rival: Claim) -> OutputInUseError:
        return OutputInUseError(
            f"{self.output} is in use by {rival}; wait until it has ended, or give another --output "
            f"(a run that died is replaced after {self.limit_s:g} s without a sign of life)"
        )


@dataclass(frozen=True)
class Sighting:
    """The version in which a claim was last seen, since when, and whether it had another one before."""

    version: str
    since_s: float
    is_beating: bool


def sighting(before: Sighting | None, version: str) -> Sighting:
    if before and before.version == version:
        return before
    return Sighting(version, time.monotonic(), is_beating=before is not None)


@contextmanager
def hold(output: str, command: str, *, beat_s: float = BEAT_S, limit_s: float = LIMIT_S) -> Iterator[Lease]:
    """The lease on an output, for a block of the main thread, which is interrupted when another run takes it over."""
    lease = Lease(output, command, limit_s=limit_s)
    lease.take()
    is_over, lost = threading.Event(), []

    def keep() -> None:
        while not is_over.wait(beat_s):
            try:
                lease.beat()
            except OutputInUseError as error:
                lost.append(error)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return
            except Exception as error:  # noqa: BLE001 - whatever the storage says: it may be back at the next one
                logger.warning("%s: no sign of life could be written (%s); trying again", output, error)

    def interrupt(signum: int, frame: object) -> None:
        if lost:
            raise KeyboardInterrupt

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    # A shell that starts a command with & has it ignore Ctrl-C; this interruption is none of the keyboard's.
    is_deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    if is_deaf:
        signal.signal(signal.SIGINT, interrupt)
    keeper.start()
    try:
        yield lease
    except BaseException:  # an import may have made something else of the KeyboardInterrupt
        if lost:
            raise lost[0] from None
        raise
    finally:
        is_over.set()
        keeper.join()
        if is_deaf:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        lease.give_back()


def process_name(pid: int) -> str | None:
    """A name that no other process ever has, of one that runs on this machine; None without one, or without /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    if stat[0] in "ZX":  # ended, and nobody has asked how
        return None
    return f"{machine_name()}/{pid}/{stat[19]}"  # proc(5): field 22, when it started


def machine_name() -> str:
    """This boot of this machine, and the container: in another one the same number is another process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def process_is_gone(claim: Claim) -> bool:
    """Whether the process of a claim is known to have ended; of another machine's nothing is known."""
    machine = machine_name()
    if not machine or not claim.process.startswith(f"{machine}/"):
        return False
    try:
        os.kill(claim.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # somebody else's, and /proc may hide it
        return False
    return process_name(claim.pid) != claim.process
