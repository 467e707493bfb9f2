"""Speed of the harmonic CQT against six transforms of librosa, both from audio in memory: ``make benchmark``.

CPU-seconds of one thread, so that what else the machine does counts little, and the ratio is of two figures of one run.
Ours includes medians, decibels and rounding to uint8; librosa's figure is the six transforms alone, of the whole
recording at once.  Also how far the fast way is from the exact one, in dB of values above the -80 dB floor.  Nothing is
asserted; figures go to ``results/benchmarks/harmonic.json``.
"""

import time

import librosa
import numpy as np
import pytest

from duet import files, harmonic, paths, runs, synthesis

SECONDS, ROUNDS = 120, 3
CPU = pytest.mark.benchmark(timer=time.process_time, warmup=False)


@pytest.fixture(scope="module")
def audio():
    """Piano chords of random pitch, length and loudness over a little noise."""
    rng = np.random.default_rng(0)
    notes = [
        synthesis.Played(onset, float(rng.uniform(0.2, 2)), int(pitch), int(rng.integers(30, 120)))
        for onset in np.cumsum(rng.uniform(0.1, 0.8, 3 * SECONDS))
        for pitch in rng.choice(np.arange(28, 96), rng.integers(1, 5), replace=False)
    ]
    audio = synthesis.synthesise(notes, synthesis.available_soundfont())[: SECONDS * harmonic.SAMPLE_RATE]
    assert len(audio) == SECONDS * harmonic.SAMPLE_RATE
    return audio + 1e-4 * rng.standard_normal(len(audio), np.float32)


@pytest.fixture(scope="module")
def figures():
    found = {
        "unit": "seconds of audio per CPU-second of one thread",
        "processor": runs.provenance()["processor"],
        "audio": f"{SECONDS} s of synthesised piano",
        "speed": {},
    }
    yield found
    speed = found["speed"]
    if {"librosa, six transforms", "hcqt"} <= speed.keys():
        found["hcqt over librosa"] = round(speed["hcqt"] / speed["librosa, six transforms"], 1)
    found["speed"] = {name: float(f"{value:.3g}") for name, value in speed.items()}
    files.write_json(paths.results() / "benchmarks" / "harmonic.json", found)
    print("\n" + "\n".join(f"{name}: {value}" for name, value in found.items()))


def measure(benchmark, figures, name, function):
    """The best of several rounds: what else runs on the machine only ever adds."""
    benchmark.pedantic(function, rounds=ROUNDS, warmup_rounds=1)
    figures["speed"][name] = SECONDS / benchmark.stats.stats.min
    benchmark.extra_info["seconds of audio per CPU-second"] = round(figures["speed"][name], 1)


@CPU
def test_librosa(benchmark, audio, figures):
    settings = dict(sr=harmonic.SAMPLE_RATE, hop_length=harmonic.HOP, n_bins=harmonic.BINS, tuning=0.0)
    settings["bins_per_octave"] = harmonic.BINS_PER_OCTAVE

    def six():
        for h in harmonic.HARMONICS:
            librosa.cqt(audio, fmin=harmonic.FMIN * h, **settings)

    measure(benchmark, figures, "librosa, six transforms", six)


@CPU
def test_hcqt(benchmark, audio, figures):
    measure(benchmark, figures, "hcqt", lambda: harmonic.hcqt(audio))
    if librosas := figures["speed"].get("librosa, six transforms"):
        benchmark.extra_info["over librosa"] = round(figures["speed"]["hcqt"] / librosas, 1)


@CPU
def test_hcqt_exact(benchmark, audio, figures):
    measure(benchmark, figures, "hcqt, exact", lambda: harmonic.hcqt(audio, exact=True))


def test_difference(audio, figures):
    fast, exact = (harmonic.hcqt(audio, way).astype(float) for way in (False, True))
    heard = (fast > 0) | (exact > 0)
    figures["difference, dB"] = {
        name: {"mean": round(float(part.mean()), 3), "99th percentile": round(float(np.percentile(part, 99)), 2)}
        for name, chosen in {"all above the floor": heard, "above -40 dB": exact > 255 / 2}.items()
        for part in [np.abs(fast - exact)[chosen] * 80 / 255]
    }
