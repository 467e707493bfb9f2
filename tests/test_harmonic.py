"""The HCQT against six transforms of librosa and against tones and groups worked by hand; chroma; resampling."""

import tracemalloc
import warnings

import librosa
import numpy as np
import pytest
import soundfile
import torch

from duet import DuetError, features, harmonic, synthesis
from duet.harmonic import (
    BINS,
    HARMONICS,
    HOP,
    RATE,
    hcqt,
    normalise_columns,
    plain_chroma,
    resample_features,
    transpose,
)
from duet.synthesis import Played

STEP = 80 / 255  # dB


def tone(frequency, seconds=3.0, partials=1):
    time = np.arange(round(seconds * 22050)) / 22050
    return sum(0.3 / k * np.sin(2 * np.pi * k * frequency * time) for k in range(1, partials + 1)).astype(np.float32)


@pytest.fixture(scope="module")
def chords():
    """Four seconds of piano, cut off while it sounds."""
    rng = np.random.default_rng(1)
    notes = [
        Played(onset, 0.6, int(pitch), int(rng.integers(40, 110)))
        for onset in np.arange(0.1, 4, 0.37)
        for pitch in rng.choice(np.arange(33, 92), 3, replace=False)
    ]
    return synthesis.synthesise(notes, "timgm6mb")[: 4 * 22050]


@pytest.fixture(scope="module")
def expected(chords):
    return by_hand(chords)


def clicks():
    """Out of digital silence: middle values of a group that lie far apart, many below the floor."""
    audio = np.zeros(2 * 22050, np.float32)
    audio[15_000:40_000:9_111] = 1
    audio[15_000:19_000] += tone(3000)[:4000]
    return audio


def by_hand(audio):
    """(frames, 6, 216) codes, not rounded: the published recipe with librosa and one loop over the groups."""
    settings = dict(sr=22050, hop_length=256, n_bins=216, bins_per_octave=36, tuning=0.0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_fft=.* is too large")
        magnitudes = [np.abs(librosa.cqt(audio, fmin=32.7 * h, **settings)) for h in (0.5, 1, 2, 3, 4, 5)]
    shortest = min(m.shape[1] for m in magnitudes)
    together = np.stack([m[:, :shortest] for m in magnitudes])
    scaled = librosa.amplitude_to_db(together, ref=np.max, amin=1e-5, top_db=80) / 80 + 1
    groups = {}
    for frame in range(shortest):
        groups.setdefault(frame * 256 * 25 // 22050, []).append(frame)
    assert set(map(len, list(groups.values())[:-1])) == {3, 4}
    return np.stack([255 * np.median(scaled[:, :, frames], axis=2) for frames in groups.values()])


# -- against librosa ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signal", ["chords", "clicks", "soft"])
def test_exact_is_six_transforms_of_librosa(chords, expected, signal, monkeypatch):
    """The chords in two blocks; 'soft' meets the absolute floor of 1e-5."""
    monkeypatch.setattr(harmonic, "BLOCK", 60)
    audio = {"chords": chords, "clicks": clicks(), "soft": 1e-4 * chords[:22050]}[signal]
    ours, by_librosa = hcqt(audio, exact=True), expected if signal == "chords" else by_hand(audio)
    assert ours.dtype == np.uint8 and ours.shape == by_librosa.shape
    assert np.abs(ours - by_librosa).max() < 0.6  # rounding
    assert ours.max() > 240 and (0 < ours.min() < 200) == (signal == "soft")


def test_the_fast_way_is_close_to_librosa(chords, expected):
    ours = hcqt(chords)
    difference, heard = STEP * np.abs(ours - expected), (ours > 0) | (expected > 0)
    assert difference[heard].mean() < 0.4 and np.percentile(difference[heard], 99) < 6
    loud = expected > 255 / 2  # above -40 dB
    for channel, h in enumerate(HARMONICS):
        there = difference[:, channel][loud[:, channel]]
        assert there.mean() < 0.2 and np.percentile(there, 99) < (4 if h == 5 else 1), h


def test_the_fast_way_is_closer_to_librosa_with_whole_filters(chords, monkeypatch):
    """What both drop of their filters is most of the difference.  Harmonic 3 is no half rate of the others."""
    monkeypatch.setattr(harmonic, "_SPARSITY", 0.0)
    harmonic._filterbank.cache_clear()
    power = harmonic._power(chords, 0, 340)
    harmonic._filterbank.cache_clear()
    for channel in (2, 3):
        whole = librosa.cqt(
            chords,
            sr=22050,
            hop_length=256,
            fmin=32.7 * HARMONICS[channel],
            n_bins=216,
            bins_per_octave=36,
            tuning=0.0,
            sparsity=0.0,
        )[:, :340]
        ours = np.sqrt(power[harmonic._ROWS[channel]])
        decibel = librosa.amplitude_to_db(np.stack([ours, np.abs(whole)]), ref=np.max, top_db=80)
        difference = np.abs(decibel[0] - decibel[1])
        assert difference.mean() < 0.2 and np.percentile(difference, 99) < 2


# -- blocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact, block", [(False, 37), (False, 64), (True, 55)])
def test_seams_do_not_show(exact, block, monkeypatch):
    rng = np.random.default_rng(2)
    audio = np.repeat(rng.random(8), 11025) ** 3 * rng.standard_normal(8 * 11025) + tone(50, 4) + tone(1234.5, 4)
    whole = hcqt(audio, exact).astype(int)
    monkeypatch.setattr(harmonic, "BLOCK", block)
    parts = hcqt(audio, exact).astype(int)
    assert np.abs(parts - whole).max() <= 1 and (parts != whole).mean() < 1e-3 and whole.std() > 20


def test_memory_is_bounded(monkeypatch):
    """Far below the 86 Hz representation, which is 260 kilobytes a second and more; mostly of what is at 25 Hz."""
    monkeypatch.setattr(harmonic, "BLOCK", 64)
    audio = np.random.default_rng(3).standard_normal(60 * 22050).astype(np.float32)
    hcqt(audio[:22050])
    tracemalloc.start()
    hcqt(audio)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * 110e3 + 6e6


# -- by hand -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exact", [False, True])
def test_a_tone_lights_its_bin_in_every_channel(exact):
    loudness = hcqt(tone(440, 1.5), exact)[15:22].mean(0)
    assert list(loudness.argmax(1)) == [round(36 * np.log2(440 / (32.70 * h))) for h in HARMONICS]
    assert list(loudness.argmax(1)) == [171, 135, 99, 78, 63, 51]


@pytest.mark.parametrize("exact", [False, True])
def test_decibels(exact):
    """40 dB less, and 6 more as two octaves up filters are a quarter as long: the root of the length counts."""
    codes = hcqt(tone(440.06, 1.5) + 0.01 * tone(1760.24, 1.5), exact)[15:22, 1]
    assert codes[:, 135].min() >= 254
    assert codes[:, 135 + 72] == pytest.approx(255 - 46 / STEP, abs=2)


def test_the_middle_values_of_groups():
    rng = np.random.default_rng(4)
    power, sizes = rng.random((5, 250)) ** 9, [3, 4, 4, 3, 4, 3, 3, 1, 2, *rng.integers(1, 5, 80)]
    bounds = np.cumsum([0, *sizes])
    middles = np.sort(harmonic._middles(power, bounds), axis=0)
    for k, size in enumerate(sizes):
        group = np.sort(power[:, bounds[k] : bounds[k + 1]], axis=1)
        assert np.array_equal(middles[0, :, k], group[:, (size - 1) // 2])
        assert np.array_equal(middles[1, :, k], group[:, size // 2])


@pytest.mark.parametrize("samples", [256, 881, 882, 883, 2205, 22050, 22050 + 37, 28224])
def test_every_frame_has_its_interval(samples):
    """28,224 samples are 1.28 s: that is where an input frame falls upon a border of the groups."""
    codes = hcqt(tone(880, 2)[1 : samples + 1])
    assert len(codes) == len({frame * HOP * RATE // 22050 for frame in range(samples // HOP + 1)})
    assert codes.max() > 200


def test_audio_shorter_than_a_filter():
    """The lowest filter is three seconds long.  Before and after a recording is silence."""
    audio = tone(98, 0.3) + tone(1000, 0.3)
    codes = hcqt(audio)
    surrounded = hcqt(np.pad(audio, (441 * HOP, 40_000)))  # by 128 frames of the result, or 5.12 s
    assert len(codes) == 8 and np.abs(codes.astype(int) - surrounded[128:136])[:7].max() <= 1  # the last group is cut
    exact, expected = hcqt(audio, exact=True), by_hand(audio)
    assert exact.shape == expected.shape == codes.shape and np.abs(exact - expected).max() < 0.6


def test_silence():
    assert hcqt(np.zeros(22050, np.float32)).shape == (25, 6, BINS) and not hcqt(np.zeros(22050)).any()


@pytest.mark.parametrize(
    "audio, message",
    [
        (np.zeros((2, 22050)), "is no mono audio"),
        (np.zeros(0), "is no mono audio"),
        (np.ones(255), "is no mono audio of 256 samples or more"),
        (np.r_[tone(440), np.nan], "holds samples that are no numbers"),
        (np.r_[np.inf, tone(440)], "holds samples that are no numbers"),
    ],
    ids=["stereo", "empty", "short", "nan", "inf"],
)
@pytest.mark.parametrize("exact", [False, True])
def test_what_is_no_audio_is_refused(audio, message, exact):
    with pytest.raises(DuetError, match=message):
        hcqt(audio, exact)


def test_any_file_that_can_be_read(tmp_path):
    """Stereo at 44,100 Hz gives what mono at 22,050 Hz gives."""
    time = np.arange(2 * 44100) / 44100
    left = 0.6 * np.sin(2 * np.pi * 440 * time)
    soundfile.write(tmp_path / "a.wav", np.stack([left, np.zeros_like(left)], 1), 44100, subtype="FLOAT")
    codes, expected = hcqt(features.read_audio(tmp_path / "a.wav")), hcqt(tone(440, 2))
    assert codes.shape == expected.shape
    assert np.abs(codes.astype(int) - expected)[expected > 128].max() <= 2


# -- transposition and norm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("semitones", [-3, -1, 1, 3])
def test_transposed_audio_is_shifted_bins(semitones):
    low, high = (hcqt(tone(220 * 2 ** (s / 12), 2, partials=6)).astype(int)[10:40] for s in (0, semitones))
    right, none, wrong = (np.abs(high - transpose(low, s))[..., 9:-9] for s in (semitones, 0, -semitones))
    assert right.mean() < 0.25 * min(none.mean(), wrong.mean())
    assert right[high[..., 9:-9] > 128].mean() < 2


def test_transposition_by_hand():
    codes = np.arange(1, 1 + 2 * 6 * BINS).reshape(2, 6, BINS) % 251 + 1
    up, down = transpose(codes, 2), transpose(codes, -3)
    assert np.array_equal(up[..., 6:], codes[..., :-6]) and not up[..., :6].any()
    assert np.array_equal(down[..., :-9], codes[..., 9:]) and not down[..., -9:].any()
    assert np.array_equal(transpose(codes, 0), codes)
    assert not transpose(codes, 100).any() and not transpose(codes, -100).any()
    assert transpose(codes.astype(np.uint8), 1).dtype == np.uint8


@pytest.mark.parametrize("of", [np.uint8, np.float32])
def test_columns_have_unit_length(of):
    codes = np.random.default_rng(5).integers(0, 256, (3, 6, BINS)).astype(of)
    codes[1, 2] = 0
    columns = normalise_columns(codes)
    assert columns.dtype == np.float32 and columns.shape == codes.shape
    assert np.linalg.norm(columns, axis=-1) == pytest.approx(np.ones((3, 6)), abs=1e-6)
    assert columns[1, 2] == pytest.approx(np.full(BINS, BINS**-0.5))
    assert columns[0, 0] == pytest.approx(codes[0, 0] / np.linalg.norm(codes[0, 0].astype(float)), abs=1e-7)
    tensor = normalise_columns(torch.from_numpy(codes))
    assert tensor.dtype == torch.float32 and tensor.numpy() == pytest.approx(columns, abs=1e-7)


# -- chroma ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cents", [-30, 0, 30])
@pytest.mark.parametrize("pitches", [(60, 64, 67), (45, 60, 88), (50, 54, 57), (36, 43, 70)])
def test_chroma_of_a_chord(pitches, cents):
    """A little mistuned to either side the classes stay: pooling is centred on the semitones."""
    audio = sum(tone(440 * 2 ** ((p - 69 + cents / 100) / 12), 2) for p in pitches)
    chroma = plain_chroma(hcqt(audio))
    assert chroma.shape == (12, 50) and chroma.dtype == np.float32
    assert np.linalg.norm(chroma, axis=0) == pytest.approx(np.ones(50), abs=1e-6)
    steady = chroma[:, 15:35].mean(1)
    classes = sorted({p % 12 for p in pitches})
    assert sorted(np.argsort(steady)[-3:]) == classes
    assert steady[classes].min() > (2 if cents == 0 else 1.2) * np.delete(steady, classes).max()


def test_chroma_by_hand():
    """One bin a frame: the classes of bins 3s - 1, 3s, 3s + 1; the lowest C has no lower neighbour, the highest bin
    is the lower neighbour of the C above.  The other channels do not matter; a silent frame is uniform.
    """
    bins, classes = [0, 1, 2, 3, 4, 5, 35, 36, 107, 214, 215], [0, 0, 1, 1, 1, 2, 0, 0, 0, 11, 0]
    codes = np.zeros((12, 6, BINS), np.uint8)
    codes[np.arange(11), 1, bins] = 200
    codes[:, [0, 2, 3, 4, 5], 9] = 255
    assert np.array_equal(plain_chroma(codes)[:, :11], np.eye(12)[classes].T)
    assert plain_chroma(codes)[:, 11] == pytest.approx(np.full(12, 12**-0.5))


def test_chroma_compresses_magnitudes():
    codes = np.zeros((1, 6, BINS), np.uint8)
    codes[0, 1, [0, 12]] = 255, 255 - 51  # C, and E 16 dB below
    chroma = plain_chroma(codes)[:, 0]
    assert chroma[4] / chroma[0] == pytest.approx(np.log1p(10 * 10 ** (-16 / 20)) / np.log1p(10), abs=1e-5)


# -- rates -------------------------------------------------------------------------------------------------------------


def test_from_25_to_10_hz():
    rng = np.random.default_rng(6)
    x = rng.random((12, 8)).astype(np.float32)
    means = [x[:, 0] + x[:, 1] + x[:, 2] / 2, x[:, 2] / 2 + x[:, 3] + x[:, 4], x[:, 5] + x[:, 6] + x[:, 7] / 2, x[:, 7]]
    expected = np.stack([m / np.linalg.norm(m) for m in means], 1)
    ours = resample_features(x, 25, 10)
    assert ours.dtype == np.float32 and ours == pytest.approx(expected, abs=1e-6)


def test_resampling_keeps_what_does_not_change():
    x = normalise_columns(np.random.default_rng(7).random((40, 12)).astype(np.float32)).T
    assert resample_features(x, 25, 25) == pytest.approx(x, abs=1e-6)
    assert resample_features(x, 10, 20) == pytest.approx(np.repeat(x, 2, axis=1), abs=1e-6)
    silence = resample_features(np.zeros((12, 10)), 25, 10)
    assert silence.shape == (12, 4) and silence == pytest.approx(np.full((12, 4), 12**-0.5))
    late = np.zeros((12, 9000), np.float32)  # six minutes: no drift
    late[3] = 1
    late[:, -5:] = np.eye(12)[7][:, None]
    assert np.array_equal(resample_features(late, 25, 10).argmax(0), [3] * 3598 + [7] * 2)


@pytest.mark.parametrize("rates", [(0, 10), (25, 0), (25, -10), (np.nan, 10), (25, np.inf)])
def test_rates_that_are_none(rates):
    with pytest.raises(DuetError, match="must be positive numbers"):
        resample_features(np.ones((12, 5)), *rates)
