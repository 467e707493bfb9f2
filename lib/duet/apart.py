"""Other people's parsers on other people's files: in a process of their own, which may crash, hang or fill up."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import resource
import select
import signal
import time
import warnings
from collections.abc import Callable
from typing import Any

from .errors import DuetError

_MEMORY = 4 << 30  # bytes that the process may take
_PATIENCE = 20  # times as long by the clock: other work may share the machine


def apart(function: Callable, *arguments: Any, seconds: float, remedy: str) -> Any:
    """What the function returns, computed in a forked process.

    Raises the DuetError that it raises, and one where the process crashes, needs more than 4 GiB of memory or
    calculates for more than ``seconds``.  What it changes in memory is lost.  Any other error of it is raised as
    RuntimeError.
    """
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # of threads that the child has not: it calls a parser and nothing that waits for them
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _compute(writing, function, arguments, seconds)
    os.close(writing)
    received, end, status = [], time.monotonic() + _PATIENCE * seconds, None
    try:
        while select.select([reading], [], [], max(0.0, end - time.monotonic()))[0]:
            if not (part := os.read(reading, 1 << 20)):
                break
            received.append(part)
    finally:
        os.close(reading)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        done, result = pickle.loads(b"".join(received))  # our own child's
    except (EOFError, pickle.UnpicklingError):
        slow = -status in (signal.SIGXCPU, signal.SIGKILL)
        how = f"takes the reader more than {seconds:.0f} s" if slow else "makes the reader crash"
        raise DuetError(f"{how}: it is damaged or not what its name says", remedy=remedy) from None
    if done:
        return result
    raise result


def _compute(writing: int, function: Callable, arguments: tuple, seconds: float) -> None:
    try:
        with contextlib.suppress(OSError), open("/proc/self/statm") as handle:
            held = int(handle.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, _lower(resource.RLIMIT_AS, held + _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, _lower(resource.RLIMIT_CPU, int(seconds) + 1))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what a parser says as it dies, and Python of it
        faulthandler.disable()
        try:
            answer = True, function(*arguments)
        except DuetError as error:
            answer = False, error
        except MemoryError:
            answer = False, DuetError("needs more memory than a score may take", remedy="check the file")
        except BaseException as error:
            answer = False, RuntimeError(f"{type(error).__name__}: {error}")
        content = pickle.dumps(answer)
        while content:
            content = content[os.write(writing, content[: 1 << 20]) :]
    finally:
        os._exit(0)


def _lower(kind: int, wanted: int) -> tuple[int, int]:
    """A limit that is not above one that the process has already."""
    hard = resource.getrlimit(kind)[1]
    return (wanted, hard) if hard == resource.RLIM_INFINITY else (min(wanted, hard), hard)
