"""Harmonic constant-Q transform (HCQT), the input of the chroma networks, and chroma straight from the spectrum.

An HCQT is six constant-Q transforms whose lowest bins are multiples h of 32.70 Hz, so that bin k of channel h is the
h-th harmonic of bin k of channel 1.  What is kept, cached and trained on is (frames, 6, 216) uint8 at 25 Hz: 255 is
the loudest value of the whole recording, 0 is 80 dB below it and everything softer, one step is 0.31 dB.

Recordings are worked through in blocks.  Beside the audio and the result, which takes 32 kilobytes a second, there
are one block's spectra, some 30 megabytes, and, as the loudest value is known only at the end, the two middle values of
every group at 25 Hz, 76 kilobytes a second: half a gigabyte for two hours (70 megabytes and 130 kilobytes where exact).

Sources: Zalkow & Mueller, ISMIR 2020, Section 3.1, and its released feature code (fact sheet, Section 2); harmonic
CQT: Bittner et al., ISMIR 2017; recursive CQT: Schoerkhuber & Klapuri, SMC 2010.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import NamedTuple

import librosa
import numpy as np
import scipy.fft
import scipy.sparse
import soxr

from .errors import DuetError
from .features import DYNAMIC_RANGE, SAMPLE_RATE

HARMONICS = (0.5, 1, 2, 3, 4, 5)  # in the order of the channels
FMIN = 32.70  # Hz, C1: bin 0 of channel 1
BINS_PER_OCTAVE = 36
BINS = 6 * BINS_PER_OCTAVE
HOP = 256  # samples: 86.13 Hz before the medians
RATE = 25  # Hz, of the result

BLOCK = 1024  # frames of the result worked on at once
COMPRESSION = 10.0  # of plain_chroma: on piano recordings near the best of 1 to 10,000, by likeness to the score
_FLOOR = 1e-10  # power of the published amin, 1e-5
_MARGIN = 320  # input frames of audio on both sides of a block: half the longest filter, 256, and the resamplers' tails
_LEVELS = 9  # rates of the fast way: 22,050 Hz and its halves down to 86.13 Hz, where the hop is one sample
_FILTER = 256  # samples: the longest filter, but at the lowest rate
_SPARSITY = 0.01  # share of a filter's spectrum that is dropped, librosa's default
# The distinct filters of the fast way: octaves of harmonic 0.5, which hold 1, 2 and 4, then of 3, then of 5.
_FAMILIES = ((0.5, 9 * BINS_PER_OCTAVE), (3, BINS), (5, BINS))
_ROWS = np.array([0, 1, 2, 9, 3, 15])[:, None] * BINS_PER_OCTAVE + np.arange(BINS)  # (6, 216): where each bin is


def hcqt(audio: np.ndarray, exact: bool = False) -> np.ndarray:
    """(frames, 6, 216) uint8 of mono ``audio`` (samples,) at 22,050 Hz; 25 frames a second, axis 1 as HARMONICS.

    Magnitudes in dB below the loudest one of all frames and channels, floored at -80 dB; magnitudes below 1e-5 count
    as 1e-5, so that a recording whose loudest magnitude is below 0.1 never falls to -80 dB.  Frame i is the median, bin
    by bin, of the three or four frames of 86.13 Hz whose centres lie in [i / 25, (i + 1) / 25) s; the median of four
    is the mean of the middle two in dB.  No tuning is estimated.  Silence is all 0.

    ``exact`` computes six separate ``librosa.cqt``, as published.  The default computes every distinct filter once, in
    one cascade of half rates: on piano recordings it differs from the other by about 0.2 dB in the mean and takes a
    tenth of the time.  Most of that difference is what librosa leaves out of its own filters.

    Raises DuetError for audio that is not mono, is shorter than one hop or holds samples that are no numbers.
    """
    if audio.ndim != 1 or len(audio) < HOP:
        raise DuetError(
            f"audio of shape {audio.shape} is no mono audio of {HOP} samples or more", remedy="give one longer channel"
        )
    spectra, rows = (_librosa_power, np.arange(6 * BINS)) if exact else (_power, _ROWS.ravel())
    total = 1 + len(audio) // HOP
    frames = 1 + (total - 1) * HOP * RATE // SAMPLE_RATE
    loudest, blocks = _FLOOR, []
    for begin in range(0, frames, BLOCK):
        bounds = np.minimum(_first_frames(np.arange(begin, min(begin + BLOCK, frames) + 1)), total)
        first, end = bounds[0], bounds[-1]
        start = max(first - _MARGIN, 0)  # of any frame: every rate has a sample there
        segment = audio[start * HOP : (end + _MARGIN) * HOP].astype(np.float32)
        if not np.isfinite(segment).all():
            raise DuetError("audio holds samples that are no numbers", remedy="export the audio again")
        power = spectra(segment, first - start, end - first)
        loudest = max(loudest, float(power.max()))
        middles = np.maximum(_middles(power, bounds - first), _FLOOR)
        blocks.append(np.rint(1000 * np.log10(middles)).astype(np.int16))  # hundredths of a dB
    result = np.zeros((frames, len(HARMONICS), BINS), np.uint8)
    if loudest <= _FLOOR:
        return result
    floor = np.float32(1000 * np.log10(loudest) - 100 * DYNAMIC_RANGE)
    for number, begin in enumerate(range(0, frames, BLOCK)):
        # Floored before the mean of the two: after it, -200 and 0 dB would make -80 of what should be -40.
        decibel = np.maximum(blocks[number], floor).mean(0) - floor
        codes = np.rint(decibel * (255 / (100 * DYNAMIC_RANGE))).astype(np.uint8)
        result[begin : begin + BLOCK] = codes.T[:, rows].reshape(-1, len(HARMONICS), BINS)
    return result


def _first_frames(frames: np.ndarray) -> np.ndarray:
    """The first input frame of each frame of the result, in whole numbers: times are never rounded."""
    return -(-frames * SAMPLE_RATE // (HOP * RATE))


def _middles(power: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """(2, rows, frames): the lower and the upper of the middle values of each group of frames.

    Group i is ``power[:, bounds[i] : bounds[i + 1]]``, of three or four frames, or fewer at the end of a recording.
    """
    first, size = bounds[:-1], np.diff(bounds)
    middles = np.empty((2, len(power), len(first)), power.dtype)
    # Which frames to compare; one or two frames count double, which leaves their middle where it is.
    for count, picked in ((1, (0, 0, 0)), (2, (0, 0, 1, 1)), (3, (0, 1, 2)), (4, (0, 1, 2, 3))):
        groups = np.flatnonzero(size == count)
        if not len(groups):
            continue
        values = [power[:, first[groups] + k] for k in picked]
        low, high = np.minimum(values[0], values[1]), np.maximum(values[0], values[1])
        if len(values) == 3:
            middles[:, :, groups] = np.maximum(low, np.minimum(high, values[2]))
        else:
            one = np.maximum(low, np.minimum(values[2], values[3]))
            other = np.minimum(high, np.maximum(values[2], values[3]))
            middles[0][:, groups], middles[1][:, groups] = one, other  # in either order: only their mean is asked for
    return middles


def _librosa_power(segment: np.ndarray, offset: int, frames: int) -> np.ndarray:
    """(6 * 216, frames) power by six separate transforms, from frame ``offset`` of the segment on."""
    settings = dict(sr=SAMPLE_RATE, hop_length=HOP, n_bins=BINS, bins_per_octave=BINS_PER_OCTAVE, tuning=0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=.* is too large")  # audio shorter than a filter: zeros follow
        transforms = [librosa.cqt(segment, fmin=FMIN * h, **settings) for h in HARMONICS]
    return np.concatenate([np.abs(t[:, offset : offset + frames]) ** 2 for t in transforms])


class _Level(NamedTuple):
    """Filters that are applied at one rate: their rows, their length in samples, their sparse spectra."""

    rows: np.ndarray
    length: int
    spectra: scipy.sparse.csr_matrix


@cache
def _filterbank() -> list[_Level]:
    """librosa's wavelets, each at the highest rate at which it is no more than 256 samples long.

    There no frequency exceeds 0.41 of the rate, but above 4.5 kHz where the rate is the audio's own: the resampler's
    slope, from 0.457 on, is never met.  librosa goes closer to it: 1.6 dB are lost at the top of octaves of harmonic 5.
    """
    frequencies = np.concatenate([FMIN * h * 2 ** (np.arange(n) / BINS_PER_OCTAVE) for h, n in _FAMILIES])
    ratio = 4 ** (1 / BINS_PER_OCTAVE)
    bandwidth = np.float64((ratio - 1) / (ratio + 1))  # relative to the frequency
    longest = _FILTER * bandwidth * frequencies  # the highest rate that each filter allows
    level_of = np.ceil(np.log2(SAMPLE_RATE / longest)).astype(int).clip(0, _LEVELS - 1)
    bank = []
    for level in range(_LEVELS):
        rows = np.flatnonzero(level_of == level)
        rows = rows[np.argsort(frequencies[rows])]
        wavelets, lengths = librosa.filters.wavelet(
            freqs=frequencies[rows], sr=SAMPLE_RATE / 2**level, alpha=np.full(len(rows), bandwidth)
        )
        length = wavelets.shape[1]
        # The gain of librosa.cqt(scale=True): a sine of amplitude 1 gives half the root of its filter's length.
        spectra = np.fft.fft(wavelets)[:, : length // 2 + 1] * (np.sqrt(lengths * 2**level) / length)[:, None]
        bank.append(_Level(rows, length, librosa.util.sparsify_rows(spectra, quantile=_SPARSITY, dtype=np.complex64)))
    return bank


def _power(segment: np.ndarray, offset: int, frames: int) -> np.ndarray:
    """(756, frames) power of every distinct filter, from frame ``offset`` of the segment on."""
    power = np.empty((sum(bins for _, bins in _FAMILIES), frames), np.float32)
    # Silence around it, so that resamplers ring out: cut off, they leave wrong levels where a recording begins or ends.
    segment = np.pad(segment, _MARGIN * HOP)
    for level, (rows, length, spectra) in enumerate(_filterbank()):
        if level:
            segment = soxr.resample(segment, 2, 1, quality="HQ")
        hop = HOP >> level
        start = (offset + _MARGIN) * hop - length // 2
        windows = np.lib.stride_tricks.sliding_window_view(segment[start:], length)[::hop][:frames]
        response = spectra @ np.ascontiguousarray(scipy.fft.rfft(windows).T)
        power[rows] = response.real**2 + response.imag**2
    return power


def normalise_columns(x):
    """Vectors along the last axis at unit l2 length, float32; a vector of zeros becomes uniform, 216^-1/2 for 216 bins.

    Takes numpy arrays and torch tensors, uint8 or float32.  Comes after :func:`transpose`, which brings in zeros.
    """
    x = x / np.float32(255)  # floats of uint8; of floats no more than a scale
    length = (x * x).sum(-1)[..., None] ** 0.5
    silent = length == 0
    return x / (length + silent) + silent * np.float32(x.shape[-1] ** -0.5)


def transpose(x: np.ndarray, semitones: int) -> np.ndarray:
    """``x`` (..., 216) moved up by 3 bins a semitone, down where negative; 0, which is -80 dB, comes in at the edge."""
    bins = semitones * BINS_PER_OCTAVE // 12
    moved = np.zeros_like(x)
    if bins >= 0:
        moved[..., bins:] = x[..., : max(x.shape[-1] - bins, 0)]
    else:
        moved[..., :bins] = x[..., -bins:]
    return moved


def plain_chroma(hcqt: np.ndarray) -> np.ndarray:
    """(12, frames) float32 chroma of unit l2 length from an HCQT (frames, 6, 216) uint8; row 0 is C.

    Channel 1 alone, six octaves from C1.  Magnitudes relative to the recording's loudest are compressed, log(1 + 10 m)
    (Mueller, Fundamentals of Music Processing, Section 3.1.2.1), and summed over octaves and over the three bins around
    each semitone's centre.  The published network pools bins 0, 1, 2 instead: its semitones lie 33 cents too high.
    A silent frame is uniform, 12^-1/2.
    """
    magnitude = 10 ** ((np.arange(256) / 255 - 1) * DYNAMIC_RANGE / 20)
    compressed = np.log1p(COMPRESSION * magnitude).astype(np.float32)
    compressed[0] = 0
    pooling = np.eye(12, dtype=np.float32)[(np.arange(BINS) + 1) // 3 % 12]
    return normalise_columns(compressed[hcqt[:, HARMONICS.index(1)]] @ pooling).T


def resample_features(features: np.ndarray, rate_from: float, rate_to: float) -> np.ndarray:
    """(F, frames) float32 features at ``rate_to`` Hz, columns of unit l2 length, from (F, frames) at ``rate_from`` Hz.

    Frame i is the mean of the features over [i, i + 1) / rate_to s; input frames that lie partly inside count by that
    part.  From 25 to 10 Hz frame 0 is (x0 + x1 + x2 / 2) / 2.5, frame 1 is (x2 / 2 + x3 + x4) / 2.5.  The last takes
    what is left.  Zeros become uniform.  Raises DuetError for rates that are not positive.
    """
    if not (0 < rate_from < np.inf and 0 < rate_to < np.inf):
        raise DuetError(f"rates {rate_from} and {rate_to} Hz must be positive numbers")
    frames = features.shape[1]
    edges = np.minimum(np.arange(np.ceil(frames * rate_to / rate_from) + 1) * rate_from / rate_to, frames)
    sums = np.pad(np.cumsum(features, axis=1, dtype=np.float64), ((0, 0), (1, 0)))
    at_edges = np.stack([np.interp(edges, np.arange(frames + 1), row) for row in sums])
    return normalise_columns(np.diff(at_edges).T.astype(np.float32)).T
