"""Tests and notebooks start cold and leave nothing: results and caches lie in a folder of this session."""

import importlib.util
import os
import shutil
import tempfile

import numpy as np
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


LOW, STEP = 50, 3  # the toy's lowest pitch; rows a semitone


def _toy_piece(root, name, seed, takes):
    """Two systems of twenty notes each; ``takes``: performance -> seconds of the notes (40,)."""
    from duet.corpora import msmd  # here: the folders above are set by now
    from duet.engraving import Notehead, Sheet, System

    rng = np.random.default_rng(seed)
    pitches = LOW + rng.integers(0, 24, 40)
    image = np.full((1181, 835), 255, np.uint8)
    heads, systems = [], []
    for number in range(2):
        top = 100 + 300 * number
        systems.append(System(0, top, 20, top + 80, 800, 2))
        for k in range(20):
            left, row = 50 + 37 * k, top + 75 - STEP * (int(pitches[20 * number + k]) - LOW)
            image[row : row + 8, left : left + 10] = 0
            head = (0, number, 0, row, left, row + 8, left + 10, 1.0 * k, 1.0, int(pitches[20 * number + k]))
            heads.append(Notehead(*head, False, False))
    seconds = {}
    for take, onsets in takes.items():
        take = f"{name}_{take}"
        ends = np.append(onsets[1:], onsets[-1] + 0.4)
        notes = np.column_stack([onsets, pitches, ends - onsets, np.full(40, 64), np.zeros(40)])
        time = np.arange(int(22_050 * (ends[-1] + 0.5))) / 22_050
        audio = np.zeros(len(time), np.float32)
        for onset, pitch, length, _, _ in notes:
            on = (time >= onset) & (time < onset + length)
            audio[on] = 0.3 * np.sin(2 * np.pi * 440 * 2 ** ((pitch - 69) / 12) * time[on])
        msmd.write_performance(root, name, take, notes, audio)
        seconds[take] = onsets
    msmd.write_sheet(root, name, Sheet((image,), tuple(systems), tuple(heads), (0.0,), ()), seconds)


def _rubato(rng):
    """Seconds of 40 notes that get faster and slower by up to a half, a quarter of a second each on average."""
    steps = 0.25 * np.exp(0.4 * np.sin(np.linspace(0, 3 * np.pi, 40) + rng.uniform(0, 6)))
    return np.cumsum(steps) - steps[0]


@pytest.fixture(scope="session")
def toy_sheets(tmp_path_factory):
    """Fourteen pieces in MSMD layout, ten by A for training and validation, four by B for the test.

    A note is a black bar in the strip, the higher the higher it sounds, and a sine: pictures and sounds have nothing
    else, so that a small network learns them in seconds.
    """
    from duet.corpora import msmd

    root = tmp_path_factory.mktemp("toy")
    strict, rng = 0.25 * np.arange(40), np.random.default_rng(5)
    split = {"train": [], "valid": [], "test": []}
    for number in range(14):
        part = "train" if number < 9 else "valid" if number == 9 else "test"
        name = f"{'A' if part != 'test' else 'B'}__w{number}__m"
        split[part].append(name)
        takes = {"tempo-1000_one": strict, "tempo-1000_one-rubato": _rubato(rng)}
        if part == "train":
            takes |= {"tempo-1100_one": 1.1 * strict, "tempo-1000_two": strict, "tempo-900_two": 0.9 * strict}
        _toy_piece(root, name, number, takes)
    msmd.write_split(root, split)
    return root
