"""Audio to notes by way of frames: the spectrogram a transcriber reads, the labels it learns, the notes it means.

Notes are (n, 4) float64: onset and offset in seconds, MIDI pitch, velocity; see ``corpora.recordings``.  Frames are 32
ms, keys are the 88 of a piano.

Sources: Les & Wozniak, 2023, and its code (fact sheet, Sections 3, 4, 7 and 9); onset-gated notes after Hawthorne et
al., "Onsets and Frames", ISMIR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import librosa
import numpy as np
import torch
from torch import nn

from .errors import DuetError

SAMPLE_RATE = 16_000  # Hz
HOP = 512
FRAME = HOP / SAMPLE_RATE  # seconds
BINS, PER_OCTAVE = 176, 24
LOWEST, KEYS = 21, 88  # MIDI pitch of the first key, A0, and how many there are
FLOOR = 1e-5  # below any magnitude that is heard
LEVEL = 0.1  # root mean square that every recording is brought to

# -- the spectrogram ---------------------------------------------------------------------------------------------------


def spectrogram(audio: np.ndarray) -> np.ndarray:
    """(frames, 176) float32 of (samples,) at 16 kHz: natural logarithm of the constant-Q magnitude + 1e-5.

    24 bins an octave from A0 (27.5 Hz), frames of 32 ms, ``ceil(samples / 512)`` of them, each centred on its first
    sample.  Source: fact sheet, Section 3.
    """
    needed = 1 << 15  # the longest filter must fit
    padded = np.pad(audio, (0, max(0, needed - len(audio))))
    transform = librosa.cqt(
        padded,
        sr=SAMPLE_RATE,
        hop_length=HOP,
        fmin=27.5,
        n_bins=BINS,
        bins_per_octave=PER_OCTAVE,
        pad_mode="reflect",
    )
    frames = -(-len(audio) // HOP)
    return np.log(np.abs(transform[:, :frames]) + FLOOR).T.astype(np.float32)


def level(audio: np.ndarray) -> np.ndarray:
    """The audio at a root mean square of 0.1.  Silence stays as it is."""
    power = float(np.sqrt(np.square(audio, dtype=np.float64).mean()))
    return audio * np.float32(LEVEL / power) if power > 0 else audio


LOW, HIGH = math.log(1e-4), math.log(30.0)  # 110 dB: a quiet room's noise and the loudest notes lie between


def fixed_range(values: np.ndarray) -> np.ndarray:
    """Logarithmic magnitudes to [0, 1] by two fixed ends: the same sound has the same value wherever it occurs."""
    return np.clip((values - LOW) / (HIGH - LOW), 0, 1)


def chunk_range(values: np.ndarray) -> np.ndarray:
    """Logarithmic magnitudes to [0, 1] by the chunk's own minimum and maximum, as published (``imagewise``)."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


NORMALISATIONS = {"fixed": fixed_range, "chunk": chunk_range}

# -- labels ------------------------------------------------------------------------------------------------------------


def roll(notes: np.ndarray, frames: int) -> np.ndarray:
    """(frames, 88) uint8 as published: 3 an onset, 2 sounding, 1 the frame of the offset, else 0.

    Later notes overwrite earlier ones, and a note whose ends round to the same frame vanishes: both are the source's
    (fact sheet, Section 4).  Notes beyond the piano's keys are left out.
    """
    labels = np.zeros((frames, KEYS), np.uint8)
    for onset, offset, pitch, _ in notes:
        key = int(pitch) - LOWEST
        first, last = round(onset / FRAME), round(offset / FRAME)
        if 0 <= key < KEYS and first < frames:
            labels[first:last, key] = 2
            labels[first, key] = 3
            if last < frames:
                labels[last, key] = 1
    return labels


ONSET_WIDTH = 1.5  # frames from an onset to where its target is 0: both frames beside it carry where it lies


def targets(notes: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """(frames, 88) float32 each: 1 where a key sounds, and 1 at its onset, less in the frames beside it.

    No note vanishes: the shortest sounds for one frame.  Onset targets are triangles around the exact time.
    """
    sounding, onsets = np.zeros((2, frames, KEYS), np.float32)
    for onset, offset, pitch, _ in notes:
        key, time = int(pitch) - LOWEST, onset / FRAME
        first = round(time)
        if 0 <= key < KEYS and first < frames:
            sounding[first : max(round(offset / FRAME), first + 1), key] = 1
            near = np.arange(max(first - 1, 0), min(first + 2, frames))
            onsets[near, key] = np.maximum(onsets[near, key], np.clip(1 - np.abs(near - time) / ONSET_WIDTH, 0, 1))
    return sounding, onsets


# -- from frames to notes ----------------------------------------------------------------------------------------------


def frames_to_notes(sounding: np.ndarray, onsets: np.ndarray | None = None) -> np.ndarray:
    """Notes of a binary (frames, 88) roll: each begins where its key starts to sound and ends where it stops.

    With ``onsets`` (frames, 88) a note begins in the first frame of a run of onsets instead, and ends where the key
    stops or strikes again: how the source reads references from labels.  Source: fact sheet, Section 7.
    """
    sounding = sounding.astype(bool)
    begins = _rises(sounding if onsets is None else onsets.astype(bool))
    stops = _rises(~sounding) | begins
    return _note_rows([(f, _next(stops[:, k], f + 1), k) for k in range(KEYS) for f in np.flatnonzero(begins[:, k])])


def _rises(active: np.ndarray) -> np.ndarray:
    before = np.concatenate([np.zeros((1, active.shape[1]), bool), active[:-1]])
    return active & ~before


def _next(stops: np.ndarray, start: int) -> int:
    later = np.flatnonzero(stops[start:])
    return start + int(later[0]) if len(later) else len(stops)


def _note_rows(found: list[tuple[float, float, int]]) -> np.ndarray:
    rows = np.array(found, float).reshape(-1, 3)
    rows = rows[np.lexsort((rows[:, 2], rows[:, 0]))]
    return np.column_stack([rows[:, :2] * FRAME, rows[:, 2] + LOWEST, np.full(len(rows), 90.0)])


class Thresholds(NamedTuple):
    """Probabilities from which on a key sounds, and from which on it is struck."""

    sounding: float = 0.5
    onset: float = 0.5


def onsets_to_notes(sounding: np.ndarray, onsets: np.ndarray, thresholds: Thresholds) -> np.ndarray:
    """Notes of two (frames, 88) arrays of probabilities: struck at a peak of ``onsets``, held while ``sounding``.

    A note ends where its key is struck again.  The neighbours of a peak say where between two frames it lies.
    """
    padded = np.pad(onsets, ((1, 1), (0, 0)))
    before, after = padded[:-2], padded[2:]
    peaks = (onsets >= thresholds.onset) & (onsets > before) & (onsets >= after)
    # of the triangle of targets: (after - before) is 2 d / ONSET_WIDTH for a distance of d frames
    fine = np.clip((after - before) * ONSET_WIDTH / 2, -0.5, 0.5)
    fine[[0, -1]] = 0  # a neighbour is missing
    stops = (sounding < thresholds.sounding) | peaks
    found = []
    for key in range(onsets.shape[1]):
        for frame in np.flatnonzero(peaks[:, key]):
            # the sounding probability may rise a frame late
            end = _next(stops[:, key], frame + 2) if frame + 2 < len(stops) else len(stops)
            if frame + 1 < len(stops) and peaks[frame + 1, key]:
                end = frame + 1
            found.append((max(frame + fine[frame, key], 0.0), end, key))
    return _note_rows(found)


# -- a network over a whole recording ----------------------------------------------------------------------------------

BLOCK, MARGIN = 1875, 64  # frames: a minute at a time, with two seconds on each side that are thrown away


def blocks(frames: int) -> Iterator[tuple[slice, slice]]:
    """What to read of a recording, and which part of the result to keep: a partition of its frames."""
    for start in range(0, frames, BLOCK):
        stop = min(start + BLOCK, frames)
        first = max(0, start - MARGIN)
        yield slice(first, min(frames, stop + MARGIN)), slice(start - first, stop - first)


@torch.inference_mode()
def probabilities(model: nn.Module, values: np.ndarray, normalisation: str = "fixed") -> tuple[np.ndarray, np.ndarray]:
    """(frames, 88) float32 each, sounding and struck, of a (frames, 176) :func:`spectrogram` of any length.

    Read in blocks of a minute; ``chunk`` takes its minimum and maximum over the whole, as published.  A model without
    an onset head gives its frames twice.
    """
    if values.shape[1] != BINS:
        raise DuetError(f"a spectrogram has {BINS} bins, not {values.shape[1]}")
    scaled = NORMALISATIONS[normalisation](values.astype(np.float32))
    where = next(model.parameters()).device
    parts = []
    for read, keep in blocks(len(scaled)):
        logits = model(torch.from_numpy(scaled[read])[None].to(where))
        parts.append(torch.sigmoid(logits[0, keep].float()).cpu().numpy())
    both = np.concatenate(parts)  # (frames, heads, 88)
    return both[:, 0], both[:, -1]
