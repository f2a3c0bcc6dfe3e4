"""What every job shares: flags from a dataclass, logging, the connection to Ray, exit codes.

Exit codes: 0 done, 1 something broke, 2 the command cannot work as given, 3 too many videos failed,
4 another run is at work on the same output, 130 interrupted.
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NoReturn, TypeVar, get_args, get_type_hints

import tyro

from vidpipe.descendants import adopt_orphans, end_descendants
from vidpipe.errors import FailureRateError, OutputInUseError, UsageError
from vidpipe.flags import POSITIONAL, settings_from_flags
from vidpipe.interrupts import EXIT_CODE, MESSAGE, ignore_interrupts, interruptible, watch_keyboard
from vidpipe.plain_text import (
    LogFormatter,
    StderrHandler,
    WithoutColors,
    forget_reader,
    holds_secret,
    say,
    say_traceback,
)

ANSWER_LIMIT_S = 20.0  # of a head that is being started
LEAVE_LIMIT_S = 20.0  # for Ray's processes to end after Ctrl-C
# A machine that vanishes does not even say that it is gone; a connection to it ends when what was sent was not
# acknowledged for so long (TCP_USER_TIMEOUT). With Ray's own 120 s a run stood still for 135 s, with this for 39 s
# (tests/e2e/test_cut_off.py). A process reads it when it loads Ray. More frequent pings are no way out: servers refuse
# more than one in 5 minutes ("Too many pings").
RAY_PATIENCE = {"RAY_grpc_client_keepalive_timeout_ms": "20000"}
# Ray calls it an error, of each of its own pools of actors, that an argument of an actor lies in the object store.
NO_ERROR = "has constructor arguments in the object store and max_restarts > 0"
# Traced by Abseil when a process ends with a lock taken.
TRACE = r"\[mutex\.cc : \d+\] RAW: (Lock (blocking|returning)|Unlock) 0x"
# The driver shows no line of another process that matches; a process reads it when it loads Ray. A Ray of our own lets
# its workers be until the end: one that it ended as idle in mid-run aborted now and then (8 of 146 sessions).
RAY_SETTINGS = {
    **RAY_PATIENCE,
    "RAY_DEDUP_LOGS_SKIP_REGEX": f"{NO_ERROR}|{TRACE}",
    "RAY_kill_idle_workers_interval_ms": "0",
}

_, *WITHOUT_PREFIX = get_args(tyro.conf.OmitArgPrefixes[int])

logger = logging.getLogger(__name__)
Config = TypeVar("Config")

# Lines of Ray's that are no news to anybody: plans of datasets, bars that we draw ourselves, authentication being on, a
# dashboard that is off, a start on a busy machine.
CHATTER = {
    "ray.data._internal.execution.streaming_executor": logging.WARNING,
    "ray.data._internal.progress": logging.ERROR,
    "ray._private.authentication.authentication_token_setup": logging.ERROR,
    "ray.train.v2._internal.execution.controller.placement_group_cleaner": logging.ERROR,
    # A coordinator that has not started within 5 s is asked again; one that never does ends the run at its start limit.
    "ray.train.v2._internal.execution.scaling_policy.autoscaling_coordinator_client": logging.ERROR,
}


def parse(config_class: type[Config]) -> Config:
    """The job's settings from its command line; a wrong one ends the process with status 2 and the way out."""
    watch_keyboard()
    for name, value in RAY_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        check_no_secrets(sys.argv[1:])
        try:
            return settings_from_flags(config_class)
        finally:
            sys.stdout.flush()  # of --help, before Python itself does it where nothing can be caught
    except BrokenPipeError:  # it was help, or what is wrong with a flag
        for stream in (sys.stdout, sys.stderr):
            forget_reader(stream)
        sys.exit(0 if {"-h", "--help"} & {*sys.argv} else 2)
    except UsageError as error:
        fail(error, config_class)


def check_no_secrets(arguments: list[str]) -> None:
    """A command line is seen by every user of the machine, kept by Ray with the job, and written to run.json."""
    for argument in arguments:
        if holds_secret(argument.partition("=")[2] if argument.startswith("--") else argument):
            raise UsageError(
                f"{argument} holds a password or a signature, and a command line is no place for one; name the object "
                "itself (s3://bucket/key) with credentials in the environment, or copy it to this machine first"
            )


def run(stage: Callable[[Config], object], config: Config) -> NoReturn:
    """Run one stage and end the process with the exit code that says how it went."""
    for name in ("stdout", "stderr"):
        if not getattr(sys, name).isatty():
            setattr(sys, name, WithoutColors(getattr(sys, name)))
    setup_logging()
    sys.excepthook = say_traceback
    try:
        with interruptible():
            stage(config)
    except FailureRateError as error:
        say(f"error: {error}", file=sys.stderr)
        sys.exit(3)
    except OutputInUseError as error:
        say(f"error: {error}", file=sys.stderr)
        sys.exit(4)
    except KeyboardInterrupt:
        leave()
    except UsageError as error:
        if type(error).__module__.startswith("ray."):  # what a worker raises is no mistake of the user's
            raise
        fail(error, type(config))
    sys.exit(0)


def leave() -> NoReturn:
    """End an interrupted process with the message and 130, whatever state it was interrupted in.

    Ray is shut down in order: its own exit handlers take the node away first, and its driver then ends the process with
    1. Neither threads that still run nor destructors of libraries have a say after that.
    """
    ignore_interrupts()
    say(MESSAGE, file=sys.stderr)

    def give_up() -> None:
        time.sleep(LEAVE_LIMIT_S)
        os._exit(EXIT_CODE)

    threading.Thread(target=give_up, daemon=True).start()
    adopt_orphans()
    with suppress(BaseException):  # half an import, half a start: there is nobody left to be told
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
    # Ray forgets the agents of a node that it had just begun to start, and they stay for minutes.
    end_descendants()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(EXIT_CODE)


def fail(error: UsageError, config_class: type) -> NoReturn:
    say(f"error: {with_flags(str(error), config_class)}", file=sys.stderr)
    sys.exit(2)


def with_flags(message: str, config_class: type) -> str:
    """The message with settings named as they are on the command line: `--batch-size`, not `batch_size`.

    Names of one word could mean anything; they count at the beginning, where messages name what is wrong.
    """
    names = set(flag_names(config_class))
    first, alone = message.split(" ", 1)[0], [name for name in names if "_" in name]
    if first in names and first not in alone:
        message = f"--{message}"
    if not alone:
        return message
    return re.sub(
        rf"(?<![\w./'-])({'|'.join(alone)})(?![\w./'=-])", lambda found: f"--{found[1].replace('_', '-')}", message
    )


def flag_names(config_class: type) -> Iterator[str]:
    """The settings that are flags without a prefix, with those of the dataclasses within."""
    for name, hint in get_type_hints(config_class, include_extras=True).items():
        inner, *marks = get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if marks == WITHOUT_PREFIX:
            yield from flag_names(inner)
        elif marks != POSITIONAL:
            yield name


def setup_logging() -> None:
    """Log lines of vidpipe on stderr, the same on the driver and on every worker."""
    for name, level in CHATTER.items():
        logging.getLogger(name).setLevel(level)
    handler = StderrHandler()
    handler.setFormatter(LogFormatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
    ours = logging.getLogger("vidpipe")
    ours.handlers = [handler]
    ours.propagate = False
    ours.setLevel(os.environ.get("VIDPIPE_LOG", "INFO").upper())


def setup_worker() -> None:
    """What each worker process of Ray begins with; it exists because the driver has reached the storage."""
    import ray

    from vidpipe.storage import be_patient

    setup_logging()
    be_patient()
    # Ray Train asks for the state of its actors, and would look for a Ray on this machine: there may be several.
    os.environ.setdefault("RAY_ADDRESS", ray.get_runtime_context().gcs_address)


def connect_ray() -> None:
    """Join the cluster of `ray job submit` or RAY_ADDRESS; without one, start Ray on this machine."""
    import ray

    if not ray.is_initialized():
        check_address(os.environ.get("RAY_ADDRESS", ""))
        ray.init(
            runtime_env={"worker_process_setup_hook": setup_worker},
            include_dashboard=False,
            logging_level=logging.WARNING,
        )


def take_no_error_for_one() -> None:
    """Have Ray say `NO_ERROR` of this process now, unheard: it says so once per process, past Python's `sys.stderr`.

    The actor that it is said of is bound to a node that is not there, so that none is ever started.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nowhere = NodeAffinitySchedulingStrategy(secrets.token_hex(28), soft=False)

    class Nobody:
        def __init__(self, argument: None) -> None: ...

    actor_class: Any = ray.remote(num_cpus=0, max_restarts=1)(Nobody)
    nobody, argument = actor_class.options(scheduling_strategy=nowhere), ray.put(None)
    stderr = os.dup(2)
    with open(os.devnull, "wb") as unheard:
        os.dup2(unheard.fileno(), 2)
        try:
            nobody.remote(argument)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def check_address(address: str) -> None:
    """Raise UsageError for a host:port at which nobody answers: ray.init would try for ever."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    deadline_s = time.monotonic() + ANSWER_LIMIT_S
    while colon and port.isdigit():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline_s:
                raise UsageError(
                    f"no Ray answers at RAY_ADDRESS={address} ({error}); start it, give the address of one that runs, "
                    "or unset RAY_ADDRESS for a Ray on this machine"
                ) from error
        time.sleep(1)
