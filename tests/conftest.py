"""Tests and notebooks start cold and leave nothing: results and caches lie in a folder of this session."""

import importlib.util
import os
import shutil
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


@pytest.fixture(params=["fluidsynth", "tinysoundfont"])
def engine(request, monkeypatch):
    """Each synthesiser in turn; the name of its SoundFont is timgm6mb, which comes with pretty_midi."""
    if request.param == "fluidsynth" and not shutil.which("fluidsynth"):
        pytest.skip("FluidSynth is not installed")
    if request.param == "tinysoundfont" and not importlib.util.find_spec("tinysoundfont"):
        pytest.skip("tinysoundfont is not installed")
    monkeypatch.setattr("duet.synthesis.engine", lambda: request.param)
    return request.param
