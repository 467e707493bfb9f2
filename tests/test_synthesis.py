"""Sound: the right pitches at the right times, twice the same, from either synthesiser."""

import importlib.util
import shutil
import subprocess
import sys

import librosa
import numpy as np
import pytest

from duet import DuetError, features, synthesis
from duet.synthesis import SAMPLE_RATE, Played

MELODY = [Played(0.5 * i, 0.5, pitch) for i, pitch in enumerate((60, 64, 67, 72, 71, 66, 61, 61))]
FAST = [Played(0.3 + i / 8, 1 / 8, 60 + i % 5) for i in range(12)]


def synthesise(notes, **settings):
    return synthesis.synthesise(notes, "timgm6mb", **settings)


ANOTHER_PROCESS = """
import ctypes, hashlib, sys
c = ctypes.CDLL(None)
for _ in range(int(sys.argv[1])):
    c.rand()  # as some other library might, before FluidSynth fills its dither table from the same generator
from duet import synthesis
audio = synthesis.synthesise([synthesis.Played(0, 0.5, 60)], "timgm6mb")
print(hashlib.sha256(audio.tobytes()).hexdigest())
"""


def test_every_process_plays_the_same_samples():
    command = [sys.executable, "-c", ANOTHER_PROCESS]
    said = [subprocess.check_output([*command, draws], text=True) for draws in ("0", "1000")]
    assert said[0] == said[1] and said[0].strip()


DECODED = """
import hashlib, importlib, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
from duet import synthesis
notes = [synthesis.Played(0.2 * k, 0.3, 36 + 5 * k, 64) for k in range(12)]
print(hashlib.sha256(synthesis.synthesise(notes, "musescore").tobytes()).hexdigest())
"""


@pytest.mark.skipif(not synthesis.installed("musescore"), reason="the SoundFont is not installed")
def test_a_compressed_soundfont_is_decoded_alike_whatever_is_imported_first():
    """By the system's libsndfile: that of the package soundfile has another decoder."""
    orders = (["duet.synthesis"], ["duet.player"], ["duet", "soundfile", "pretty_midi"])
    said = {subprocess.check_output([sys.executable, "-c", DECODED, *names], text=True) for names in orders}
    assert len(said) == 1


def test_the_same_notes_are_the_same_samples(engine):
    first = synthesise(MELODY)
    synthesise(FAST)  # leaves nothing behind
    assert np.array_equal(synthesise(MELODY), first)
    assert first.dtype == np.float32 and first.ndim == 1
    assert len(first) == 4.5 * SAMPLE_RATE  # four seconds and the tail
    assert np.abs(first).max() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("notes", [MELODY, FAST])
def test_notes_begin_when_they_should(engine, notes):
    """Energy rises at each onset and nowhere before the first."""
    audio = synthesise([Played(n.onset + 0.25, n.duration * 0.6, n.pitch) for n in notes])
    first = round((notes[0].onset + 0.25) * SAMPLE_RATE)
    assert np.abs(audio[: first - 64]).max() < 1e-3  # FluidSynth's dither
    found = librosa.onset.onset_detect(y=audio, sr=SAMPLE_RATE, hop_length=64, units="time")
    for note in notes:
        # the detector joins notes that follow faster than it can tell
        assert notes is FAST or np.abs(found - (note.onset + 0.25)).min() < 0.06, note
        start = round((note.onset + 0.25) * SAMPLE_RATE)
        before, after = (np.abs(audio[start + a : start + b]).max() for a, b in ((-330, -110), (110, 880)))
        assert after > 1.5 * before


def test_notes_end_when_they_should(engine):
    audio = synthesise([Played(0, 0.5, 72)], tail=1.5)
    sounding, released = (np.abs(audio[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)]).max()
                          for a, b in ((0.3, 0.5), (1.0, 2.0)))  # fmt: skip
    assert released < 0.05 * sounding


@pytest.mark.parametrize("pitch", [36, 48, 60, 69, 81, 93])
def test_pitches_are_equal_tempered(engine, pitch):
    """The strongest peak within a quarter tone of the fundamental or of the octave above is where it should be."""
    audio = synthesise([Played(0.0, 1.5, pitch)])[SAMPLE_RATE // 10 : SAMPLE_RATE]
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 18))
    frequencies = np.fft.rfftfreq(1 << 18, 1 / SAMPLE_RATE)
    strengths = {}
    for shift in range(-7, 8):  # in semitones: the note is stronger than any neighbour
        centre = librosa.midi_to_hz(pitch + shift)
        near = np.abs(frequencies / centre - 1) < 0.029
        strengths[shift] = spectrum[near].max()
        if shift == 0:
            peak = frequencies[near][spectrum[near].argmax()]
    assert max(strengths, key=strengths.get) == 0
    assert abs(1200 * np.log2(peak / librosa.midi_to_hz(pitch))) < 12  # cents; sampled pianos are stretched a little


def test_a_repeated_note_is_struck_again(engine):
    """Also where sums of floats make the first end a rounding error after the second begins."""
    apart = synthesise([Played(0.1, 0.5, 60), Played(0.6, 0.5, 60)])
    late = synthesise([Played(0.1, 0.5 + 1e-12, 60), Played(0.6, 0.5, 60)])
    assert np.array_equal(apart, late)
    end = round(1.05 * SAMPLE_RATE)
    assert np.abs(late[end - 1000 : end]).max() > 0.02


def test_loudness_follows_velocity(engine):
    audio = synthesise([Played(0, 0.5, 60, velocity=100), Played(1, 0.5, 60, velocity=40)])
    assert np.abs(audio[SAMPLE_RATE : 2 * SAMPLE_RATE]).max() < 0.6 * np.abs(audio[:SAMPLE_RATE]).max()


def test_both_synthesisers_play_the_same_music(monkeypatch):
    """Samples differ, for each has its own filters and rounds onsets to its own blocks; what is heard does not."""
    if not shutil.which("fluidsynth") or not importlib.util.find_spec("tinysoundfont"):
        pytest.skip("FluidSynth or tinysoundfont is not installed")
    for notes in (MELODY, FAST):
        heard = {}
        for name in ("fluidsynth", "tinysoundfont"):
            monkeypatch.setattr(synthesis, "engine", lambda name=name: name)
            heard[name] = features.constant_q(synthesise(notes))
        one, other = heard["fluidsynth"], heard["tinysoundfont"]
        assert one.shape == other.shape
        agreement = [np.corrcoef(one.ravel(), np.roll(other, lag, 1).ravel())[0, 1] for lag in range(-3, 4)]
        assert agreement[3] > 0.97
        assert np.argmax(agreement) == 3  # not one frame early or late


def test_reverb_is_asked_for(engine):
    if engine == "tinysoundfont":
        pytest.skip("tinysoundfont has no reverb")
    dry, wet = (synthesise([Played(0, 0.3, 72)], reverb=reverb) for reverb in (False, True))
    late = slice(round(0.6 * SAMPLE_RATE), round(0.8 * SAMPLE_RATE))
    assert np.square(wet[late]).sum() > 1.5 * np.square(dry[late]).sum()


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_no_notes(engine):
    with pytest.raises(DuetError, match="no notes"):
        synthesise([])


def test_notes_that_cannot_be_heard(engine):
    with pytest.raises(DuetError, match="silent"):
        synthesise([Played(0, 0.2, 60, velocity=0)])


def test_unknown_and_uninstalled_soundfonts(monkeypatch):
    with pytest.raises(DuetError, match="unknown SoundFont 'grand'.*timgm6mb"):
        synthesis.synthesise(MELODY, "grand")
    monkeypatch.setattr(synthesis, "_FOLDERS", ())
    assert synthesis.soundfont("timgm6mb").is_file()  # inside pretty_midi
    assert synthesis.available_soundfont() == "timgm6mb"
    with pytest.raises(DuetError, match="FluidR3_GM.sf2 is not installed"):
        synthesis.synthesise(MELODY, "fluidr3")
    monkeypatch.setitem(synthesis.SOUNDFONTS, "timgm6mb", "gone.sf2")
    with pytest.raises(DuetError, match="no SoundFont is installed"):
        synthesis.available_soundfont()


def test_a_damaged_soundfont(engine, monkeypatch, tmp_path):
    (tmp_path / "broken.sf2").write_bytes(synthesis.soundfont("timgm6mb").read_bytes()[:5000])
    monkeypatch.setattr(synthesis, "_FOLDERS", (tmp_path,))
    monkeypatch.setitem(synthesis.SOUNDFONTS, "timgm6mb", "broken.sf2")
    with pytest.raises(DuetError, match="broken.sf2") as caught:
        synthesise(MELODY)
    assert "\n" not in str(caught.value)


def test_an_unknown_program(engine):
    with pytest.raises(DuetError, match="program 500"):
        synthesise(MELODY, program=500)
