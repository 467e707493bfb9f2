"""Progress of long work that reads well in a terminal, in JupyterLab and in a log file.

A line a step, with the time left, and never more often than every few seconds: no widget state in notebooks, no
carriage returns in logs.
"""

from __future__ import annotations

import sys
import time


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


def clock(seconds: float) -> str:
    """``75.2 -> "1:15"``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
