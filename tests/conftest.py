"""Tests and notebooks start cold and leave nothing: results and caches lie in a folder of this session."""

import os
import tempfile

import pytest

_session = tempfile.TemporaryDirectory(prefix="duet-tests-")
os.environ["DUET_RESULTS"] = os.path.join(_session.name, "results")
os.environ["DUET_CACHE"] = os.path.join(_session.name, "cache")


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A results and a cache folder of this test alone."""
    monkeypatch.setenv("DUET_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("DUET_CACHE", str(tmp_path / "cache"))
    return tmp_path
