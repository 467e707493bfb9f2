"""Performances as if recorded: a stand-in for real recordings where they may not be passed on.

An instrument that neither training nor the plain test has, a player's touch, a room, a microphone and its noise.  The
expressive timing is the notes' own: the open corpora have a performance with a bent tempo for every piece.  Stands in
for the recordings of Carvalho & Widmer, ISMIR 2023, Table 2, which are not distributed.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import performance, synthesis
from ..errors import DuetError
from ..performance import Acoustics
from ..synthesis import SAMPLE_RATE, Played
from . import samples
from .samples import Voice

#: Seconds by which a note begins earlier or later than it is said to, at most.
ASYNCHRONY = 0.035
_TOGETHER = 0.02  # seconds within which notes are one chord
_TAIL = 1.5  # seconds after the last note, as in the open corpora


def instrument() -> Voice:
    """The instrument: FluidR3's electric grand, or timgm6mb's harp where FluidR3 is not installed.

    Their samples are in no voice of :func:`duet.corpora.sheets.voices`.
    """
    return Voice("fluidr3", 2) if synthesis.installed("fluidr3") else Voice("timgm6mb", 46)


def real_like(notes: np.ndarray, rng: np.random.Generator, voice: Voice) -> np.ndarray:
    """(samples,) float32 at 22,050 Hz of a performance's ``notes``, (N, 5) as :meth:`duet.corpora.msmd.Msmd.notes`.

    Where all velocities are equal, phrases swell and chords are accented; upper voices are brought out and lead, bass
    notes change the pedal.  No onset moves by more than :data:`ASYNCHRONY`, so that the performance's seconds of
    noteheads hold.  The peak is 0.5 to 6 dB below full scale.
    Raises DuetError for damaged notes, and where the voice is not installed.
    """
    usable = notes.ndim == 2 and notes.shape[1] == 5 and len(notes) and np.isfinite(notes).all()
    if not (usable and notes[:, 0].min() >= 0 and 0 <= notes[:, 1].min() <= notes[:, 1].max() <= 127):
        raise DuetError("is no table of notes, (N, 5) with seconds and MIDI pitches", remedy="build the piece again")
    played = performance.rescaled(_touched(notes, rng), rng.uniform(58, 84), rng.uniform(0.8, 1.3))
    played = performance.pedal(played, _pedalling(notes, rng) if rng.uniform() < 0.75 else ())
    audio = samples.sound(played, voice, _TAIL, float(np.clip(rng.normal(0, 10), -30, 30)))
    acoustics = replace(Acoustics.draw(rng), peak=float(-rng.uniform(0.5, 6)))  # published recordings are not soft
    return performance.heard(audio, SAMPLE_RATE, acoustics, rng)


def _chords(notes: np.ndarray) -> list[list[int]]:
    """Indices of the notes that begin together, lowest first, in time's order."""
    chords: list[list[int]] = []
    for index in np.argsort(notes[:, 0], kind="stable"):
        if chords and notes[index, 0] - notes[chords[-1][0], 0] <= _TOGETHER:
            chords[-1].append(int(index))
        else:
            chords.append([int(index)])
    return [sorted(chord, key=lambda n: notes[n, 1]) for chord in chords]


def _touched(notes: np.ndarray, rng: np.random.Generator) -> list[Played]:
    """Notes as fingers play them: none of a chord's begin at quite the same time, and none are equally loud."""
    places = np.arange(0, notes[:, 0].max() + 4, 2.0)
    swell = np.interp(notes[:, 0], places, rng.normal(0, 9, len(places)))
    strict = np.ptp(notes[:, 3]) == 0
    lead, unevenness = rng.uniform(0, 0.02), rng.uniform(0.003, 0.01)
    played = []
    for chord in _chords(notes):
        accent = 4 * min(len(chord) - 1, 3)
        for index in chord:
            onset, pitch, duration, velocity, _ = notes[index]
            top = len(chord) > 1 and index == chord[-1]
            late = rng.normal(0, unevenness) - (lead if top else 0)
            loud = velocity + (swell[index] + accent if strict else 0) + (7 if top else 0) + rng.normal(0, 4)
            start = max(0.0, onset + np.clip(late, -ASYNCHRONY, ASYNCHRONY))
            length = max(duration * rng.uniform(0.85, 1.1), 0.03)
            played.append(Played(float(start), float(length), int(pitch), int(np.clip(round(loud), 1, 127))))
    return played


def _pedalling(notes: np.ndarray, rng: np.random.Generator) -> Sequence[tuple[float, float]]:
    """(down, up) in seconds: changed a little after bass notes, when about a second has passed, or left out."""
    bass = np.median(notes[:, 1])
    changes = [0.0]
    for chord in _chords(notes):
        onset, lowest = notes[chord[0], :2]
        if lowest < bass and onset > changes[-1] + rng.uniform(0.6, 1.6):
            changes.append(float(onset))
    changes.append(float((notes[:, 0] + notes[:, 2]).max()))
    spans = [
        (down + rng.uniform(0.03, 0.15), up + rng.uniform(-0.04, 0.06)) for down, up in itertools.pairwise(changes)
    ]
    return [span for span in spans if span[1] > span[0] + 0.15 and rng.uniform() < 0.88]
