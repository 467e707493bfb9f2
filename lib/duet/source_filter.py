"""Melody salience without learning: a source-filter model times harmonic summation, kept on pitch contours (C_BG1).

The baseline of Zalkow & Mueller, ISMIR 2020, Section 4.3: Bosch & Gomez, "Melody extraction based on a source-filter
model using pitch contour selection", SMC 2016, with their orchestral thresholds "BG1" (fact sheet, Section 6).  Its
three parts are published apart, and here written from their descriptions:

* a source-filter model of the power spectrum with a non-negative accompaniment (SIMM: Durrieu et al., IEEE TASLP 18(3),
  2010, and IEEE JSTSP 5(6), 2011), glottal pulses after Klatt & Klatt, JASA 87(2), 1990;
* harmonic summation over spectral peaks and pitch contours (Salamon & Gomez, IEEE TASLP 20(6), 2012);
* the combination of both, a product.

Salience is (frames, bins): bin b is 55 Hz times 2^(b * step / 1200), 10 cents a bin over five octaves; frame n is
centred on (n + 1/2) hops, so that its time span is [n, n + 1) hops as in the HCQT.

Where the descriptions leave a choice: combs of the source are scaled to a largest value of 1; equal loudness is the
A-weighting curve (IEC 61672) on the peaks, in place of a loudness filter; accompaniment shapes and filters are fitted
on the whole recording, as published, though its frames pass through the updates in blocks; gains that the model's
factors could exchange are left where they are, as each frame is divided by its own maximum in the end.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import librosa
import numba
import numpy as np
import scipy.fft
import scipy.ndimage
import scipy.signal
import torch
from torch import Tensor

from .errors import DuetError
from .features import check_audio
from .harmonic import RATE, resample_features

FMIN = 55.0  # Hz, A1
LOWEST = 33  # its MIDI pitch
SPAN = 6000  # cents that salience covers

BLOCK = 256  # frames updated at once: their spectra stay in the processor's cache
_FLOOR = 1e-9  # of the power spectrum
_TINY = 1e-20  # activations do not fall below: numbers near the smallest are slow


@dataclass(frozen=True)
class Settings:
    """Everything that the salience and its contours depend on; the defaults are the published values."""

    sample_rate: int = 44_100
    window: int = 2048  # samples
    hop: int = 441  # samples: 10 ms
    step: int = 10  # cents a bin
    # source-filter model
    iterations: int = 30
    open_quotient: float = 0.25  # share of a period in which the glottis is open
    atoms: int = 30  # smooth bumps over frequency that filters are made of
    filters: int = 10
    accompaniment: int = 40  # spectral shapes
    seed: int = 0  # of the random start
    # harmonic summation
    padding: int = 4  # length of the transform in windows
    peaks: int = 100  # most in a frame
    peak_range: float = 40.0  # dB below the frame's largest peak
    harmonics: int = 20
    harmonic_weight: float = 0.8  # of a harmonic against the one below
    # combination
    taps: int = 5  # of the smoothing over bins
    sigma: float = 2.0  # bins
    # contours: BG1
    peak_frame: float = 0.7  # a salient peak's least share of the frame's largest
    peak_distribution: float = 1.3  # standard deviations that a salient peak may lie below the mean of all
    voicing: float = 1.0  # standard deviations that a contour may lie below the mean of all contours
    shortest: float = 0.1  # s
    gap: float = 0.1  # s that a contour may lead over peaks that are not salient
    continuity: float = 27.5625  # cents that a contour may move in a millisecond

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    @property
    def bins(self) -> int:
        return SPAN // self.step + 1


PAPER = Settings()
#: For machines without a GPU: half the sample rate with windows as long in time, frames at 25 Hz, half the bins and
#: shapes, two thirds of the iterations.  A contour may move as far from frame to frame as in PAPER.
CHEAP = replace(
    PAPER,
    sample_rate=22_050,
    window=1024,
    hop=882,
    step=20,
    iterations=20,
    accompaniment=20,
    taps=3,
    sigma=1.0,
    continuity=27.5625 / 4,
)


class Contour(NamedTuple):
    """A pitch contour: its first frame, and its bin and salience in this and each following frame."""

    start: int
    bins: np.ndarray
    salience: np.ndarray


def bg1_chroma(audio: np.ndarray, settings: Settings = PAPER, raw: bool = False) -> np.ndarray:
    """(12, frames) float32 chroma of unit length at 25 Hz, row 0 is C, of mono ``audio`` at the settings' rate.

    Salience on the contours alone, or all of it where ``raw``; a frame without any is uniform.  Raises DuetError for
    silent, short or damaged audio.
    """
    salience = melody_salience(audio, settings)
    return salience_chroma(salience if raw else on_contours(salience, settings), settings)


def melody_salience(audio: np.ndarray, settings: Settings = PAPER) -> np.ndarray:
    """(frames, bins) float32 in [0, 1]: the product of both saliences."""
    return combine(simm_salience(audio, settings), harmonic_summation(audio, settings), settings)


def on_contours(salience: np.ndarray, settings: Settings = PAPER) -> np.ndarray:
    """``salience`` (frames, bins) where :func:`contours` run, zero elsewhere."""
    kept = np.zeros_like(salience)
    for contour in contours(salience, settings):
        kept[np.arange(contour.start, contour.start + len(contour.bins)), contour.bins] = contour.salience
    return kept


def salience_chroma(salience: np.ndarray, settings: Settings = PAPER) -> np.ndarray:
    """(frames, bins) salience -> (12, frames) float32 chroma of unit length at 25 Hz: summed, averaged over time."""
    semitone = np.rint(np.arange(salience.shape[1]) * settings.step / 100).astype(int) + LOWEST
    pooling = np.eye(12, dtype=np.float32)[semitone % 12]
    return resample_features((salience.astype(np.float32) @ pooling).T, settings.rate, RATE)


def _spectrum(audio: np.ndarray, settings: Settings, window: str, length: int) -> np.ndarray:
    """(frames, length / 2 + 1) float32 magnitude of windowed frames, a frame for every hop begun."""
    if audio.ndim != 1:
        raise DuetError(f"audio of shape {audio.shape} is no mono audio", remedy="give one channel, (samples,)")
    check_audio(audio, sample_rate=settings.sample_rate)
    frames = -(-len(audio) // settings.hop)
    before = (settings.window - settings.hop) // 2
    padded = np.pad(audio.astype(np.float32), (before, frames * settings.hop + settings.window - before - len(audio)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, settings.window)[:: settings.hop][:frames]
    shape = scipy.signal.get_window(window, settings.window).astype(np.float32)
    magnitude = np.empty((frames, length // 2 + 1), np.float32)
    for begin in range(0, frames, BLOCK):
        rows = slice(begin, begin + BLOCK)
        np.abs(scipy.fft.rfft(windows[rows] * shape, length), out=magnitude[rows])
    return magnitude


# -- source-filter model -----------------------------------------------------------------------------------------------


@torch.inference_mode()
def simm_salience(audio: np.ndarray, settings: Settings = PAPER) -> np.ndarray:
    """(frames, bins) float32: the activations H_F0 of the sources, not normalised.

    The power spectrum is modelled as (W_F0 H_F0) o (Gamma H_g H_phi) + W_M H_M.  All but W_F0, combs of glottal pulses,
    and Gamma, bumps, is estimated: multiplicative updates that lower the Itakura-Saito divergence, from a random start
    with a fixed seed.  In each iteration the activations of a frame follow one another; what all frames share, H_g
    and W_M, follows at its end.
    """
    power = torch.from_numpy(_spectrum(audio, settings, "cosine", settings.window) ** 2).clamp_min_(_FLOOR)
    frames, frequencies = power.shape
    source = torch.from_numpy(_source_combs(settings))  # (frequencies, bins)
    bumps = torch.from_numpy(_bumps(frequencies, settings.atoms))  # (frequencies, atoms)
    generator = torch.Generator().manual_seed(settings.seed)

    def start(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator).add_(_FLOOR)

    h_f0, h_phi = start(frames, settings.bins), start(frames, settings.filters)
    h_gamma, h_m = start(settings.atoms, settings.filters), start(frames, settings.accompaniment)
    w_m = start(settings.accompaniment, frequencies)
    blocks = [slice(begin, begin + BLOCK) for begin in range(0, frames, BLOCK)]
    voices = [h_f0[rows] @ source.T for rows in blocks]

    for _ in range(settings.iterations):
        filters = (bumps @ h_gamma).T  # (filters, frequencies)
        gamma_up, gamma_down, m_up, m_down = (torch.zeros_like(m) for m in (h_gamma, h_gamma, w_m, w_m))
        for number, rows in enumerate(blocks):
            x, voice, envelope = power[rows], voices[number], h_phi[rows] @ filters

            up, down = _gradients(x, voice, envelope, h_m[rows] @ w_m)
            _update(h_f0[rows], (up * envelope) @ source, (down * envelope) @ source)
            _update(h_m[rows], up @ w_m.T, down @ w_m.T)
            torch.mm(h_f0[rows], source.T, out=voice)
            background = h_m[rows] @ w_m

            up, down = _gradients(x, voice, envelope, background)
            _update(h_phi[rows], (up * voice) @ filters.T, (down * voice) @ filters.T)
            envelope = h_phi[rows] @ filters

            up, down = _gradients(x, voice, envelope, background)
            m_up.addmm_(h_m[rows].T, up)
            m_down.addmm_(h_m[rows].T, down)
            gamma_up.addmm_(((up * voice) @ bumps).T, h_phi[rows])
            gamma_down.addmm_(((down * voice) @ bumps).T, h_phi[rows])
        _update(h_gamma, gamma_up, gamma_down)
        _update(w_m, m_up, m_down)
    return h_f0.numpy()


def _gradients(x: Tensor, voice: Tensor, envelope: Tensor, background: Tensor) -> tuple[Tensor, Tensor]:
    """x / model^2 and 1 / model: what pulls the model up and down under the Itakura-Saito divergence."""
    down = torch.addcmul(background, voice, envelope).clamp_min_(_FLOOR).reciprocal_()
    return x * down * down, down


def _update(factor: Tensor, up: Tensor, down: Tensor) -> None:
    factor.mul_(up.div_(down.clamp_min_(_TINY))).clamp_min_(_TINY)


@cache
def _source_combs(settings: Settings) -> np.ndarray:
    """(frequencies, bins) float32 power spectra of windowed glottal pulse trains, each with the largest value 1.

    A pulse is KLGLOTT88's: the flow t^2 - t^3 over the open part of the period, here its derivative 2 t - 3 t^2, whose
    Fourier coefficients are known in closed form; the window's transform stands at each harmonic.  One pulse begins at
    the window's centre, where the transform is real.
    """
    size, fine, reach = settings.window, 64, 32  # the transform's table: 64 points a bin, 32 bins to either side
    window = scipy.signal.get_window("cosine", size)
    around = np.arange(-reach * fine, reach * fine + 1) / fine
    offset = np.arange(size) - (size - 1) / 2
    table = np.cos(2 * np.pi / size * np.outer(around, offset)) @ window  # real: the window is symmetric
    frequencies = size // 2 + 1
    combs = np.empty((frequencies, settings.bins), np.float32)
    for b in range(settings.bins):
        f0 = FMIN * 2 ** (b * settings.step / 1200)
        harmonic = np.arange(1, int(settings.sample_rate / 2 / f0) + 1)
        z = 2j * np.pi * harmonic * settings.open_quotient
        decay = np.exp(-z)
        coefficients = 2 * (1 - decay * (1 + z)) / z**2 - 3 * (2 - decay * (z**2 + 2 * z + 2)) / z**3
        centre = harmonic * f0 * size / settings.sample_rate  # in bins of the spectrum
        bin_ = np.rint(centre).astype(int)[:, None] + np.arange(-reach + 1, reach)
        value = coefficients[:, None] * np.interp(bin_ - centre[:, None], around, table)
        spectrum = np.zeros(frequencies, complex)
        inside = (bin_ >= 0) & (bin_ < frequencies)
        np.add.at(spectrum, bin_[inside], value[inside])
        power = np.abs(spectrum) ** 2
        combs[:, b] = power / power.max()
    return np.maximum(combs, 1e-12)


def _bumps(frequencies: int, count: int) -> np.ndarray:
    """(frequencies, count) float32: Hann windows over linear frequency, each overlapping the next by 75 %."""
    hop = frequencies / (count - 1)
    distance = np.arange(frequencies)[:, None] - hop * np.arange(count)
    return np.where(abs(distance) < 2 * hop, 0.5 + 0.5 * np.cos(np.pi * distance / (2 * hop)), 0).astype(np.float32)


# -- harmonic summation ------------------------------------------------------------------------------------------------


def harmonic_summation(audio: np.ndarray, settings: Settings = PAPER) -> np.ndarray:
    """(frames, bins) float32: each spectral peak counts for the pitches that it may be a harmonic of.

    Peaks are interpolated parabolas of the dB spectrum, weighted by equal loudness; at most 100 a frame, within 40 dB
    of its largest.  A peak counts with weight 0.8^(h - 1) cos^2(pi d / 2) for pitches whose harmonic h is d < 1
    semitones away.
    """
    length = settings.window * settings.padding
    spectrum = _spectrum(audio, settings, "hann", length)
    to_pitch = _summation(settings)
    salience = np.empty((len(spectrum), settings.bins), np.float32)
    for begin in range(0, len(spectrum), BLOCK):
        rows = slice(begin, begin + BLOCK)
        salience[rows] = _peaks(spectrum[rows], settings, len(to_pitch)) @ to_pitch
    return salience


def _peaks(spectrum: np.ndarray, settings: Settings, width: int) -> np.ndarray:
    """(frames, width) float32: the magnitudes of a block's spectral peaks at their bins above 55 Hz."""
    inner = spectrum[:, 1:-1]
    frame, k = np.nonzero((inner > spectrum[:, :-2]) & (inner >= spectrum[:, 2:]))
    left, middle, right = (np.log(spectrum[frame, k + i] + 1e-12) for i in range(3))
    shift = 0.5 * (left - right) / np.minimum(left - 2 * middle + right, -1e-9)
    hertz = (k + 1 + shift) * settings.sample_rate / (settings.window * settings.padding)
    audible = hertz > FMIN / 2  # lower ones are no harmonic of any pitch, and their logarithm may not exist
    frame, hertz = frame[audible], hertz[audible]
    level = (middle - 0.25 * (left - right) * shift)[audible] + librosa.A_weighting(hertz, min_db=None) * np.log(
        10
    ) / 20
    largest = np.full(len(spectrum), -np.inf)
    np.maximum.at(largest, frame, level)
    loud = level > largest[frame] - settings.peak_range * np.log(10) / 20
    frame, hertz, level = frame[loud], hertz[loud], level[loud]
    order = np.lexsort((-level, frame))  # frame by frame, the largest first
    frame, hertz, level = frame[order], hertz[order], level[order]
    rank = np.arange(len(frame)) - np.searchsorted(frame, frame)
    bin_ = np.rint(1200 / settings.step * np.log2(hertz / FMIN)).astype(int)
    kept = (rank < settings.peaks) & (bin_ >= 0) & (bin_ < width)
    place = frame[kept] * width + bin_[kept]
    return (
        np.bincount(place, np.exp(level[kept]), len(spectrum) * width).reshape(len(spectrum), width).astype(np.float32)
    )


@cache
def _summation(settings: Settings) -> np.ndarray:
    """(bins up to the Nyquist frequency, bins) float32: a peak's weight for each pitch."""
    per_octave = 1200 / settings.step
    width = int(per_octave * np.log2(settings.sample_rate / 2 / FMIN)) + 1
    weights = np.zeros((width, settings.bins), np.float32)
    for h in range(1, settings.harmonics + 1):
        pitch = np.arange(width)[:, None] - per_octave * np.log2(h)
        semitones = abs(pitch - np.arange(settings.bins)) * settings.step / 100
        near = np.where(semitones < 1, np.cos(np.pi / 2 * semitones) ** 2, 0)
        weights += (settings.harmonic_weight ** (h - 1) * near).astype(np.float32)
    return weights


def combine(simm: np.ndarray, summation: np.ndarray, settings: Settings = PAPER) -> np.ndarray:
    """(frames, bins) float32 in [0, 1], largest 1: the product of both saliences.

    Of the source-filter model, each frame is first divided by its maximum and smoothed over bins.
    """
    largest = simm.max(1, keepdims=True)
    taps = scipy.signal.windows.gaussian(settings.taps, settings.sigma)
    smooth = scipy.ndimage.convolve1d(simm / np.maximum(largest, _TINY), taps / taps.sum(), axis=1, mode="constant")
    product = _scaled(smooth) * _scaled(summation)
    return _scaled(product).astype(np.float32)


def _scaled(values: np.ndarray) -> np.ndarray:
    return values / max(values.max(), _TINY)


# -- contours ----------------------------------------------------------------------------------------------------------


def contours(salience: np.ndarray, settings: Settings = PAPER) -> list[Contour]:
    """Pitch contours of ``salience`` (frames, bins), by decreasing salience of the peak that each grew from.

    A frame's local maxima are salient where they reach 0.7 of its largest and, of those, are not more than 1.3 standard
    deviations below their mean over all frames.  From the most salient one left a contour grows in both directions to
    the nearest salient peak of the next frame within reach, or else to another one within reach, until for more than
    100 ms it has met no salient one.  Contours shorter than 100 ms are dropped, then those whose mean salience lies
    more than one standard deviation below the mean over the contours.
    """
    padded = np.pad(salience, ((0, 0), (1, 1)))
    frame, bin_ = np.nonzero((salience > padded[:, :-2]) & (salience >= padded[:, 2:]))
    if not len(frame):
        return []
    value = salience[frame, bin_].astype(np.float64)
    largest = np.zeros(len(salience))
    np.maximum.at(largest, frame, value)
    salient = value >= settings.peak_frame * largest[frame]
    salient &= value >= value[salient].mean() - settings.peak_distribution * value[salient].std()
    seeds = np.flatnonzero(salient)
    seeds = seeds[np.argsort(-value[seeds], kind="stable")]
    first = np.searchsorted(frame, np.arange(len(salience) + 1))
    reach = settings.continuity * 1000 / settings.rate / settings.step  # bins a frame
    name = _grow(first, frame, bin_, salient, seeds, reach, int(settings.gap * settings.rate + 1e-9))

    order = np.lexsort((frame, name))
    order = order[np.searchsorted(name[order], 0) :]  # those of no contour are -1
    ends = np.flatnonzero(np.diff(name[order])) + 1
    least = settings.shortest * settings.rate - 1e-9
    grown = [
        Contour(int(frame[peaks[0]]), bin_[peaks], salience[frame[peaks], bin_[peaks]])
        for peaks in np.split(order, ends)
        if len(peaks) >= least
    ]
    if not grown:
        return []
    means = np.array([contour.salience.mean(dtype=np.float64) for contour in grown])
    voiced = means >= means.mean() - settings.voicing * means.std()
    return [contour for contour, keep in zip(grown, voiced, strict=True) if keep]


@numba.njit(cache=True)
def _grow(first, frame, bin_, salient, seeds, reach, gap):
    """The number of the contour that each peak belongs to, -1 for none.  ``first[t]`` is frame t's first peak."""
    name = np.full(len(frame), -1)
    waiting = np.empty(gap + 1, np.int64)  # peaks that are not salient, taken on trust
    count = 0
    for seed in seeds:
        if name[seed] >= 0:
            continue
        name[seed] = count
        for direction in (1, -1):
            t, pitch, weak = frame[seed] + direction, bin_[seed], 0
            while 0 <= t < len(first) - 1:
                best = -1
                for peak in range(first[t], first[t + 1]):
                    if name[peak] >= 0 or abs(bin_[peak] - pitch) > reach:
                        continue
                    nearer = best < 0 or abs(bin_[peak] - pitch) < abs(bin_[best] - pitch)
                    if best < 0 or salient[peak] > salient[best] or (salient[peak] == salient[best] and nearer):
                        best = peak
                if best < 0 or (weak == gap and not salient[best]):
                    break
                name[best] = count
                if salient[best]:
                    weak = 0
                else:
                    waiting[weak] = best
                    weak += 1
                t, pitch = t + direction, bin_[best]
            name[waiting[:weak]] = -1  # trust that was not repaid
        count += 1
    return name
