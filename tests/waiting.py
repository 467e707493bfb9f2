"""Waiting for what other programs do."""

import time

import pytest


def wait_for(found, what, seconds=1800):
    """The first value of ``found()`` that is true; fails the test after ``seconds``."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.5)
    pytest.fail(f"waited {seconds} s in vain: {what}")
