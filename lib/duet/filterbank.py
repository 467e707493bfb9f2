"""Spectrograms of 92 logarithmic bands at 20 frames a second: what audio-sheet retrieval reads of sound.

Source: Dorfer, Arzt & Widmer, ISMIR 2017, Section 2, and the code of its successors (fact sheet of passage retrieval,
Section 3).  The papers print 16 kHz as the upper end; their 92 bands end at 6 kHz.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import scipy.fft
import scipy.signal

from .errors import DuetError

SAMPLE_RATE = 22_050  # Hz
FRAMES_PER_SECOND = 20
HOP = SAMPLE_RATE / FRAMES_PER_SECOND  # 1102.5 samples
WINDOW = 2048  # samples
BANDS = 92
_PER_OCTAVE, _LOWEST, _HIGHEST, _REFERENCE = 16, 30.0, 6000.0, 440.0


@cache
def filters() -> np.ndarray:
    """(1024, 92) float32: triangular filters that sum to one, each from its neighbour's centre to the other one's.

    Centres are frequencies of 16 an octave, counted from 440 Hz, between 30 Hz and 6 kHz, at the nearest bin of the
    transform; those that share a bin are one.
    """
    bins = np.arange(WINDOW // 2) * SAMPLE_RATE / WINDOW
    steps = np.arange(-200, 200)
    frequencies = _REFERENCE * 2.0 ** (steps / _PER_OCTAVE)
    frequencies = frequencies[(frequencies >= _LOWEST) & (frequencies <= _HIGHEST)]
    centres = np.unique(np.abs(bins[None] - frequencies[:, None]).argmin(1))
    matrix = np.zeros((len(bins), len(centres) - 2), np.float32)
    for band, (left, centre, right) in enumerate(zip(centres, centres[1:], centres[2:], strict=False)):
        rise = np.arange(left, centre)
        fall = np.arange(centre, right)
        matrix[rise, band] = (rise - left) / (centre - left)
        matrix[fall, band] = (right - fall) / (right - centre)
    return matrix / matrix.sum(0)


def log_filterbank(audio: np.ndarray) -> np.ndarray:
    """(92, frames) float32 of (samples,) at 22,050 Hz within [-1, 1]: log10(1 + magnitude in each band).

    Frame ``i`` looks at the 2,048 samples from ``int(1102.5 i)`` on, so that what it shows begins at its time stamp.
    Raises DuetError for audio that is empty or holds NaN.
    """
    if not len(audio) or not np.isfinite(audio).all():
        raise DuetError("the audio is empty or holds samples that are no numbers", remedy="export it again")
    frames = int(np.ceil(len(audio) / HOP))
    starts = (np.arange(frames) * HOP).astype(int)
    padded = np.pad(np.asarray(audio, np.float32), (0, WINDOW))
    window = scipy.signal.get_window("hann", WINDOW, fftbins=False).astype(np.float32)
    bank, parts = filters(), []
    for first in range(0, frames, 2000):  # a long recording's windows all at once would fill the memory
        cut = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[starts[first : first + 2000]]
        magnitude = np.abs(scipy.fft.rfft(cut * window, axis=1))[:, : WINDOW // 2]
        parts.append(magnitude @ bank)
    return np.log10(1 + np.concatenate(parts)).T.astype(np.float32)
