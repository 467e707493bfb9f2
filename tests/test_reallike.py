"""Performances as if recorded: onsets where the notes say, another sound than the plain synthesis."""

import librosa
import numpy as np
import pytest

from duet import DuetError, synthesis
from duet.corpora import reallike, samples, sheets
from duet.corpora.reallike import ASYNCHRONY, instrument, real_like
from duet.corpora.samples import Voice
from duet.synthesis import SAMPLE_RATE, Played


def rng(seed=0):
    return np.random.default_rng(seed)


def table(velocity=64):
    """Chords of three notes every 0.4 to 0.7 s, the last at about 8 s."""
    onsets = 0.3 + np.cumsum(np.tile([0.4, 0.55, 0.7], 5))
    rows = [
        (onset, pitch, 0.35, velocity, 0)
        for n, onset in enumerate(onsets)
        for pitch in (40 + n % 5, 64 + (5 * n) % 7, 72 + (3 * n) % 11)
    ]
    return np.array(rows, float)


@pytest.fixture(scope="module")
def recording():
    return real_like(table(), rng(2), instrument())


def test_the_instrument_is_heard_nowhere_else(monkeypatch):
    for fonts in (("fluidr3", "timgm6mb", "musescore"), ("timgm6mb",), ("musescore", "timgm6mb")):
        for sampled in (True, False):
            monkeypatch.setattr(synthesis, "installed", lambda font, fonts=fonts: font in fonts)
            monkeypatch.setattr(samples, "available", lambda name, sampled=sampled: sampled)
            training, test = sheets.voices()
            assert instrument() not in (*training, test) and instrument().font in fonts


def test_onsets_are_where_the_notes_say():
    """At 5 ms a frame, the strongest rise within 150 ms of each chord; in two rooms."""
    for seed in (2, 3):
        audio = real_like(table(), rng(seed), instrument())
        strength = librosa.onset.onset_strength(y=audio, sr=SAMPLE_RATE, hop_length=110, n_fft=1024)
        times = librosa.frames_to_time(np.arange(len(strength)), sr=SAMPLE_RATE, hop_length=110)
        late = []
        for onset in np.unique(table()[:, 0]):
            near = np.flatnonzero(np.abs(times - onset) < 0.15)
            late.append(times[near[strength[near].argmax()]] - onset)
        assert np.abs(late).max() < 0.06


def test_level_and_length(recording):
    assert recording.dtype == np.float32 and np.isfinite(recording).all()
    assert 10 ** (-6 / 20) - 1e-3 < np.abs(recording).max() < 10 ** (-0.5 / 20) + 1e-3
    last = (table()[:, 0] + table()[:, 2]).max()
    assert last + 1 < len(recording) / SAMPLE_RATE < last + 4


def test_it_can_be_repeated_and_is_drawn_anew(recording):
    assert np.array_equal(recording, real_like(table(), rng(2), instrument()))
    other = real_like(table(), rng(3), instrument())
    size = min(len(other), len(recording))
    assert np.abs(np.corrcoef(recording[:size], other[:size])[0, 1]) < 0.9


def test_it_differs_from_the_plain_synthesis(recording):
    plain = samples.sound([Played(*row[[0, 2]], int(row[1]), 64) for row in table()], instrument(), 1.5)
    size = min(len(plain), len(recording))
    assert np.abs(np.corrcoef(recording[:size], plain[:size])[0, 1]) < 0.9
    silence = slice(0, round(0.5 * SAMPLE_RATE))  # before the first note there is noise, but not much
    noise, plain_noise, music = (np.sqrt(np.square(x).mean()) for x in (recording[silence], plain[silence], recording))
    assert 4 * plain_noise < noise < 0.3 * music


# -- touch -------------------------------------------------------------------------------------------------------------


def test_strict_velocities_swell_and_played_ones_stay():
    notes = table()
    strict = np.array([n.velocity for n in reallike._touched(notes, rng())])
    assert strict.std() > 5 and 1 <= strict.min() and strict.max() <= 127
    notes[:, 3] = np.tile([40, 50, 60, 70, 80], 9)
    played = np.array([n.velocity for n in reallike._touched(notes, rng())])
    assert np.corrcoef(played, notes[:, 3])[0, 1] > 0.85


def test_chords_are_not_quite_together_and_the_top_leads():
    notes = table()
    early = []
    for seed in range(20):
        played = np.array([n.onset for n in reallike._touched(notes, rng(seed))]).reshape(-1, 3)
        moved = played - notes[:, 0].reshape(-1, 3)
        assert 0 < np.abs(moved).max() <= ASYNCHRONY + 1e-9
        early.append(moved[:, 2].mean() - moved[:, :2].mean())
    assert np.mean(early) < -0.005


def test_the_pedal_changes_with_bass_notes():
    notes = table()[np.arange(45) % 9 > 1]  # of every third chord only the top note
    bass = notes[notes[:, 1] < 50, 0]
    for seed in range(10):
        spans = np.array(reallike._pedalling(notes, rng(seed)))
        assert len(spans) > 1 and (spans[:, 1] > spans[:, 0]).all()
        assert all(0.02 < np.min(down - bass[bass < down]) < 0.16 for down in spans[spans[:, 0] > 0.2, 0])


def test_what_is_no_table_of_notes():
    bad = table()
    bad[3, 0] = np.nan
    for wrong in (bad, table()[:0], table()[:, :4], table() - [1, 0, 0, 0, 0], table() + [0, 90, 0, 0, 0]):
        with pytest.raises(DuetError, match="no table of notes"):
            real_like(wrong, rng(), Voice("timgm6mb", 0))
