"""A score becomes a performance: tempo, dynamics and small delays, then tuning, room and noise of a recording.

A stand-in for what players and microphones do, drawn from a seed: the same seed gives the same performance.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.fft
import scipy.signal

from .errors import DuetError
from .scores import Note
from .synthesis import SAMPLE_RATE, Played

_GRID = 0.25  # quarters between the points of a tempo curve
_SLOWEST, _FASTEST = 30.0, 300.0  # quarters per minute
_ARCH_BARS = 4
_BROUGHT_OUT = 16  # steps of velocity


@dataclass(frozen=True)
class Manner:
    """How freely somebody plays: drawn once for a recording.

    ``rubato``: standard deviation of the logarithm of the local tempo, 0 is strict.  ``speed``: mean tempo relative to
    the notated one.  ``dynamics``: depth of the phrases' swells, in steps of velocity.  ``asynchrony``: standard
    deviation of onsets, in seconds.
    """

    rubato: float
    speed: float
    dynamics: float
    asynchrony: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Manner:
        return cls(
            rubato=float(rng.uniform(0.0, 0.3)),
            speed=float(np.exp(rng.normal(0, 0.12))),
            dynamics=float(rng.uniform(4, 14)),
            asynchrony=float(rng.uniform(0.003, 0.015)),
        )


@dataclass(frozen=True)
class TempoMap:
    """Quarters to seconds and back: linear between the points, on with the first and last tempo beyond them.

    Both arrays (points,) rise strictly.
    """

    quarters: np.ndarray
    seconds: np.ndarray

    def __post_init__(self):
        rising = len(self.quarters) == len(self.seconds) > 1
        if not (rising and (np.diff(self.quarters) > 0).all() and (np.diff(self.seconds) > 0).all()):
            raise DuetError("the points of a tempo map must rise, in quarters and in seconds")

    @cached_property
    def _rates(self) -> tuple[float, float]:
        slopes = np.diff(self.seconds) / np.diff(self.quarters)
        return float(slopes[0]), float(slopes[-1])

    def to_seconds(self, quarters):
        first, last = self._rates
        return _piecewise(np.asarray(quarters, float), self.quarters, self.seconds, first, last)

    def to_quarters(self, seconds):
        first, last = self._rates
        return _piecewise(np.asarray(seconds, float), self.seconds, self.quarters, 1 / first, 1 / last)


def _piecewise(x: np.ndarray, xs: np.ndarray, ys: np.ndarray, before: float, after: float) -> np.ndarray:
    inside = np.interp(x, xs, ys)
    return inside + np.minimum(x - xs[0], 0) * before + np.maximum(x - xs[-1], 0) * after


def usual_tempo(notes: Sequence[Note]) -> float:
    """Quarters per minute for a score without a metronome mark: 96, and up to 288 where most notes are longer."""
    return 96.0 * min(3.0, max(1.0, float(np.median([n.duration for n in notes]))))


def nominal_map(start: float, end: float, tempi: Sequence[tuple[float, float]]) -> TempoMap:
    """The notated tempo, quarter ``start`` at 0 s, of marks (quarters, quarters per minute).

    A mark counts from its place on, the first one also before it; tempi are held between 30 and 300.
    """
    marks = sorted(tempi)
    points = sorted({start, end, *(q for q, _ in marks if start < q < end)})
    lengths = [
        (b - a) * 60 / _held(next((t for q, t in reversed(marks) if q <= a), marks[0][1]))
        for a, b in zip(points, points[1:], strict=False)
    ]
    return TempoMap(np.array(points, float), np.concatenate([[0.0], np.cumsum(lengths)]))


def _held(tempo: float) -> float:
    return min(max(tempo, _SLOWEST), _FASTEST)


def expressive_map(nominal: TempoMap, bars: Sequence[float], manner: Manner, rng: np.random.Generator) -> TempoMap:
    """The nominal map bent by a slow random walk, an arch over every four bars and a ritardando at the end.

    All of it in the logarithm of the tempo, with standard deviation ``manner.rubato`` before the ritardando, and so
    that no place is played at less than half or more than double the mean tempo.
    """
    start, end = nominal.quarters[0], nominal.quarters[-1]
    grid = np.unique(np.concatenate([np.arange(start, end, _GRID), nominal.quarters]))
    middles = (grid[1:] + grid[:-1]) / 2
    # the walk forgets itself within about eight quarters
    keep = np.exp(-np.diff(grid) / 8)
    walk = np.zeros(len(middles))
    state = rng.normal()
    for i, (k, step) in enumerate(zip(keep, rng.normal(size=len(middles)), strict=True)):
        state = k * state + np.sqrt(1 - k * k) * step
        walk[i] = state
    phrases = np.array([start, *[b for b in bars if start < b < end][_ARCH_BARS - 1 :: _ARCH_BARS], end])
    index = np.clip(np.searchsorted(phrases, middles, side="right") - 1, 0, len(phrases) - 2)
    within = (middles - phrases[index]) / (phrases[index + 1] - phrases[index])
    depths = rng.uniform(0.4, 1.6, len(phrases) - 1)
    arch = depths[index] * np.sqrt(2) * -np.cos(2 * np.pi * within)  # slow at both ends, fast in the middle
    bend = 0.8 * walk + 0.6 * arch
    if (spread := bend.std()) > 0:
        bend = (bend - bend.mean()) / spread
    lag = np.clip((middles - (end - 6)) / 6, 0, 1) ** 2  # over the last six quarters
    log_tempo = np.clip(manner.rubato * (bend - 3 * lag), -np.log(2), np.log(2))
    lengths = np.diff(nominal.to_seconds(grid)) / manner.speed * np.exp(-log_tempo)
    return TempoMap(grid, np.concatenate([[0.0], np.cumsum(lengths)]))


def perform(
    notes: Sequence[Note],
    tempo: TempoMap,
    bars: Sequence[float],
    manner: Manner,
    rng: np.random.Generator,
    brought_out: Collection[tuple[float, int, int]] = (),
) -> list[Played]:
    """Notes in seconds, a part for each staff: swells over every four bars, the first staff a little louder.

    Notes that are ``brought_out``, as players do with a theme, are louder by about 4 dB; (onset, pitch, staff) says
    which.  Each onset is early or late by some milliseconds.  A note ends where its part strikes the same pitch again.
    """
    if not notes:
        raise DuetError("there are no notes to perform")
    edges = np.array(bars)[::_ARCH_BARS] if len(bars) else np.array([tempo.quarters[0]])
    peaks, depths = rng.uniform(0.3, 0.7, len(edges) + 1), rng.normal(0, 1, len(edges) + 1)
    last, played = tempo.quarters[-1], []
    for note in notes:
        phrase = int(np.searchsorted(edges, note.onset, side="right"))
        begin = edges[phrase - 1] if phrase else tempo.quarters[0]
        stop = edges[phrase] if phrase < len(edges) else last
        place = (note.onset - begin) / max(stop - begin, 1e-9)
        swell = np.exp(-(((place - peaks[phrase]) / 0.35) ** 2)) - 0.5
        loud = 74 + manner.dynamics * (swell + 0.5 * depths[phrase]) + (8 if note.staff == 0 else 0) + rng.normal(0, 3)
        loud += _BROUGHT_OUT if (note.onset, note.pitch, note.staff) in brought_out else 0
        onset = max(0.0, float(tempo.to_seconds(note.onset)) + rng.normal(0, manner.asynchrony))
        end = float(tempo.to_seconds(note.end))
        velocity = int(np.clip(round(loud), 30, 120))
        played.append(Played(onset, max(end - onset, 0.03), note.pitch, velocity, note.staff))
    return _without_unisons(played)


def _without_unisons(played: list[Played]) -> list[Played]:
    """One key of one instrument cannot sound twice: of two that begin together one stays, else the first ends."""
    kept: dict[tuple[int, int], list[Played]] = {}
    for note in sorted(played, key=lambda n: (n.onset, -n.duration)):
        same = kept.setdefault((note.part, note.pitch), [])
        if same and note.onset < same[-1].onset + 0.03:
            continue
        if same and note.onset < same[-1].onset + same[-1].duration:
            before = same[-1]
            same[-1] = Played(before.onset, note.onset - before.onset, before.pitch, before.velocity, before.part)
        same.append(note)
    return sorted((n for notes in kept.values() for n in notes), key=lambda n: (n.onset, n.pitch, n.part))


# -- the recording -----------------------------------------------------------------------------------------------------


def room(audio: np.ndarray, rt60: float, wet: float, rng: np.random.Generator) -> np.ndarray:
    """(samples,) float32: the audio and its reverberation, noise that decays by 60 dB in ``rt60`` seconds.

    ``wet`` is the reverberation's gain: its impulse response has that energy's root, the direct sound's has 1.
    """
    length = max(1, round(rt60 * SAMPLE_RATE))
    time = np.arange(length) / SAMPLE_RATE
    response = rng.standard_normal(length) * np.exp(-3 * np.log(10) * time / rt60)
    response = scipy.signal.lfilter([0.5, 0.5], [1.0], response)  # walls swallow the highest partials
    delay = round(0.01 * SAMPLE_RATE)
    response = np.concatenate([np.zeros(delay), response / np.sqrt(np.square(response).sum())])
    reverberation = scipy.signal.oaconvolve(audio.astype(np.float64), response)[: len(audio)]
    return (audio + wet * reverberation).astype(np.float32)


def pink_noise(audio: np.ndarray, snr: float, rng: np.random.Generator) -> np.ndarray:
    """(samples,) float32: the audio with noise of 3 dB less per octave, ``snr`` dB below its mean power."""
    size = scipy.fft.next_fast_len(len(audio), real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 20 * size / SAMPLE_RATE))  # flat below 20 Hz
    noise = scipy.fft.irfft(spectrum, size)[: len(audio)]
    level = np.sqrt(np.square(audio, dtype=np.float64).mean() / np.square(noise).mean())
    return (audio + noise * level * 10 ** (-snr / 20)).astype(np.float32)


# -- the piano's pedal and dynamics ------------------------------------------------------------------------------------


def pedal(played: Sequence[Played], spans: Sequence[tuple[float, float]]) -> list[Played]:
    """The notes of all parts as one piano sounds them, part 0: the pedal is down in each of the ``spans`` (seconds).

    A note whose key is let go within a span lasts until the span's end; a pitch that is struck again ends it.
    """
    held = []
    for note in played:
        end = note.onset + note.duration
        release = next((up for down, up in spans if down <= end < up), end)
        held.append(replace(note, duration=release - note.onset, part=0))
    return _without_unisons(held)


def rescaled(played: Sequence[Played], mean: float, spread: float) -> list[Played]:
    """The notes with velocities around another ``mean``, at ``spread`` times the distance, within 12 to 124."""
    centre = np.mean([n.velocity for n in played])
    moved = [mean + spread * (n.velocity - centre) for n in played]
    return [replace(n, velocity=int(np.clip(round(v), 12, 124))) for n, v in zip(played, moved, strict=True)]


# -- microphones -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Acoustics:
    """What is between an instrument and the samples of a recording: drawn once for a recording.

    ``rt60``: seconds in which the room's sound decays by 60 dB.  ``wet``: the room's gain, as in :func:`room`.
    ``reflections``: number of early ones.  ``tilt``: dB an octave, up or down around 1 kHz.  ``low_cut``: Hz below
    which little is heard.  ``resonances``: (Hz, dB, octaves) of peaks and dips.  ``snr``: dB of the mean power above
    the noise, whose power falls with frequency to the power of ``colour``.  ``peak``: dB of the highest sample.
    """

    rt60: float
    wet: float
    reflections: int
    tilt: float
    low_cut: float
    resonances: tuple[tuple[float, float, float], ...]
    snr: float
    colour: float
    peak: float

    @classmethod
    def draw(cls, rng: np.random.Generator, far: float = 0.35) -> Acoustics:
        """From the desk's microphone to the back of a church; ``far`` is the share of those with more room than
        instrument, and as many have next to no room.
        """
        place = rng.uniform()
        if place < far:
            rt60, wet = rng.uniform(0.8, 3.0), rng.uniform(0.6, 1.5)
        elif place < 2 * far:
            rt60, wet = rng.uniform(0.2, 0.6), rng.uniform(0.1, 0.25)
        else:
            rt60, wet = rng.uniform(0.3, 2.0), rng.uniform(0.15, 0.8)
        peaks = [
            (
                float(np.exp(rng.uniform(np.log(60), np.log(6000)))),
                float(rng.normal(0, 5)),
                float(rng.uniform(0.1, 1.2)),
            )
            for _ in range(int(rng.integers(0, 7)))
        ]
        return cls(
            rt60=float(rt60),
            wet=float(wet),
            reflections=int(rng.integers(2, 14)),
            tilt=float(np.clip(rng.normal(-0.7, 1.7), -5, 4)),
            low_cut=float(20 * 6 ** rng.uniform()),
            resonances=tuple(peaks),
            snr=float(rng.uniform(30, 60) if rng.uniform() < 0.8 else rng.uniform(10, 30)),
            colour=float(rng.uniform(0.0, 2.0)),
            peak=float(-rng.uniform(0.5, 22)),
        )


def heard(audio: np.ndarray, rate: int, acoustics: Acoustics, rng: np.random.Generator) -> np.ndarray:
    """(samples,) float32: the audio as a microphone records it, onsets where they are."""
    response = np.convolve(_equaliser(acoustics, rate, rng), _room_response(acoustics, rate, rng)).astype(np.float32)
    wet = scipy.signal.oaconvolve(audio.astype(np.float32), response)[: len(audio)]
    size = scipy.fft.next_fast_len(len(audio), real=True)
    spectrum = scipy.fft.rfft(rng.standard_normal(size, dtype=np.float32))
    bins = np.maximum(np.arange(len(spectrum), dtype=np.float32), 20 * size / rate)
    noise = scipy.fft.irfft(spectrum * bins ** np.float32(-acoustics.colour / 2), size)[: len(audio)]
    level = np.sqrt(np.square(wet).mean() / np.square(noise).mean()) * 10 ** (-acoustics.snr / 20)
    wet += noise * np.float32(level)
    return wet * np.float32(10 ** (acoustics.peak / 20) / np.abs(wet).max())


def _equaliser(acoustics: Acoustics, rate: int, rng: np.random.Generator) -> np.ndarray:
    """(2,048,) impulse response of least phase, with small ripples besides what the acoustics say."""
    size = 4096
    frequency = np.maximum(np.fft.rfftfreq(size, 1 / rate), 10.0)
    octave = np.log2(frequency / 1000)
    gain = acoustics.tilt * np.clip(octave, -4, 3) - 10 * np.log10(1 + (acoustics.low_cut / frequency) ** 4)
    for centre, height, width in (*acoustics.resonances, *_ripples(rng)):
        gain += height * np.exp(-0.5 * ((octave - np.log2(centre / 1000)) / width) ** 2)
    # a magnitude without its phase: the folded cepstrum has that of the shortest response
    cepstrum = scipy.fft.irfft(gain * np.log(10) / 20, size)
    cepstrum[1 : size // 2] *= 2
    cepstrum[size // 2 + 1 :] = 0
    return scipy.fft.irfft(np.exp(scipy.fft.rfft(cepstrum)), size)[: size // 2]


def _ripples(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """A peak or dip of about 1.5 dB on every third of an octave."""
    return [(50 * 2 ** (n / 3), float(h), 0.2) for n, h in enumerate(rng.normal(0, 1.5, 23))]


def _room_response(acoustics: Acoustics, rate: int, rng: np.random.Generator) -> np.ndarray:
    """(samples,) impulse response: the direct sound, some early reflections, and noise whose treble decays faster."""
    length = max(round(0.1 * rate), round(acoustics.rt60 * rate))
    time = np.arange(length) / rate
    noise = rng.standard_normal(length)
    keep = [np.exp(-2 * np.pi * edge / rate) for edge in (400.0, 3000.0)]
    low, most = (scipy.signal.lfilter([1 - k], [1.0, -k], noise) for k in keep)
    bands = ((low, 1.2), (most - low, 1.0), (noise - most, float(rng.uniform(0.3, 0.7))))
    tail = sum(band * np.exp(-3 * np.log(10) * time / (acoustics.rt60 * longer)) for band, longer in bands)
    first = rng.uniform(0.003, 0.02)
    delay = round(first * rate)
    tail = np.concatenate([np.zeros(delay), tail])[:length]
    tail *= acoustics.wet / np.sqrt(np.square(tail).sum())
    for place in first + rng.exponential(0.02, acoustics.reflections):
        index = round(place * rate)
        if index < length:
            tail[index] += rng.choice([-1, 1]) * acoustics.wet * rng.uniform(0.05, 0.3) * first / place
    tail[0] += 1.0
    return tail
