"""Progress of long work that reads well in a terminal, in JupyterLab and in a log file.

A line a step, with the time left, and never more often than every few seconds: no widget state in notebooks, no
carriage returns in logs.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

import threadpoolctl

from .errors import DuetError


class Progress:
    """``with Progress("corpus", 8000, show) as report: ... report(1, "note")``."""

    def __init__(self, label: str, total: int, show: bool = True, every: float = 5.0):
        self.label, self.total, self.show, self.every = label, total, show, every
        self.done, self.started, self.printed = 0, time.monotonic(), 0.0

    def __enter__(self) -> Progress:
        return self

    def __call__(self, steps: int, note: str = "", force: bool = False) -> None:
        """Count ``steps``; print when enough time has gone by, at the end, or when forced."""
        self.done += steps
        now = time.monotonic()
        if self.show and (force or self.done >= self.total or now - self.printed >= self.every):
            self.printed = now
            spent = now - self.started
            left = spent / self.done * (self.total - self.done) if self.done else 0.0
            counts = f"{self.done}/{self.total} in {clock(spent)}, {clock(left)} left"
            print(f"{self.label}: {counts}{'  ' + note if note else ''}", file=sys.stdout, flush=True)

    def __exit__(self, *_) -> None:
        pass


def in_parallel(
    function: Callable, jobs: Sequence, label: str, workers: int | None = None, show: bool = False
) -> Iterator:
    """Results of the jobs in their order, computed by a process per core it may use; a few are done right here.

    Each process calculates on one thread.  The first error ends it.
    """
    workers = workers or _cores()
    with Progress(label, len(jobs), show) as report:
        if workers == 1 or len(jobs) < 4:
            for job in jobs:
                yield function(job)
                report(1)
            return
        try:
            with ProcessPoolExecutor(workers, initializer=_start_worker, initargs=(os.getpid(),)) as pool:
                # few jobs may be long ones, and the longest may come first
                for result in pool.map(function, jobs, chunksize=min(4, max(1, len(jobs) // (8 * workers)))):
                    yield result
                    report(1)
        except BrokenProcessPool:
            raise DuetError(
                f"{label}: a worker process was killed", remedy="start again with more memory or on fewer cores"
            ) from None


def _cores() -> int:
    """A cluster's job may have a few of many, which not every system can tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(parent: int) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # for what is loaded from here on
    threadpoolctl.threadpool_limits(1)  # for what is loaded already

    def end_with_parent() -> None:  # who was killed cannot end its workers, and they would wait for ever
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def clock(seconds: float) -> str:
    """``75.2 -> "1:15"``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
