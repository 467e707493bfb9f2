"""Melody salience without learning: tones where they sound, every published threshold, and the chroma of a melody."""

from dataclasses import replace

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from duet import DuetError, source_filter
from duet.source_filter import (
    CHEAP,
    PAPER,
    bg1_chroma,
    combine,
    contours,
    harmonic_summation,
    melody_salience,
    on_contours,
    salience_chroma,
    simm_salience,
)

torch.set_num_threads(1)  # as every run has; several would only wait for each other on a busy machine
BOTH = pytest.mark.parametrize("settings", [CHEAP, PAPER], ids=["cheap", "paper"])


def tone(pitch, seconds, settings, amplitude=0.1, harmonics=8):
    """A harmonic tone of MIDI ``pitch``."""
    time, f0 = np.arange(round(seconds * settings.sample_rate)) / settings.sample_rate, 440 * 2 ** ((pitch - 69) / 12)
    return amplitude * sum(0.7**h * np.sin(2 * np.pi * h * f0 * time) for h in range(1, harmonics + 1))


def sine(frequency, settings, amplitude=0.1):
    return tone(69 + 12 * np.log2(frequency / 440), 0.4, settings, amplitude / 0.7, harmonics=1)


def bin_of(pitch, settings):
    return round((pitch - 33) * 100 / settings.step)


# -- sources and filters -----------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("saliency", [simm_salience, harmonic_summation, melody_salience])
def test_a_tone_is_most_salient_at_its_pitch(saliency, settings):
    salience = saliency(tone(69, 0.5, settings), settings)
    assert salience.shape == (np.ceil(0.5 * settings.rate), settings.bins)
    middle = salience[len(salience) // 4 : -len(salience) // 4].mean(0)
    assert abs(int(middle.argmax()) - bin_of(69, settings)) <= 1


@pytest.mark.parametrize("bin_", [0, 101, 300])
def test_combs_are_windowed_trains_of_glottal_pulses(bin_):
    """Against a pulse train added up in time, its coefficients integrated numerically."""
    f0 = 55 * 2 ** (bin_ * CHEAP.step / 1200)
    phase = np.linspace(0, 1, 20_001)  # over the open part
    pulse = 2 * phase - 3 * phase**2
    time, train = (np.arange(CHEAP.window) - (CHEAP.window - 1) / 2) / CHEAP.sample_rate, 0
    for h in range(1, int(CHEAP.sample_rate / 2 / f0) + 1):
        coefficient = np.trapezoid(pulse * np.exp(-2j * np.pi * h * 0.25 * phase), phase)
        train = train + coefficient * np.exp(2j * np.pi * h * f0 * time)
    spectrum = np.fft.fft(train * scipy.signal.get_window("cosine", CHEAP.window))[: CHEAP.window // 2 + 1]
    expected = abs(spectrum) ** 2 / (abs(spectrum) ** 2).max()
    np.testing.assert_allclose(source_filter._source_combs(CHEAP)[:, bin_], expected, atol=0.002)


def test_filters_are_made_of_bumps_that_add_up_to_a_constant():
    bumps = source_filter._bumps(513, 30)
    assert bumps.shape == (513, 30) and bumps.min() == 0
    inside = bumps[40:-40].sum(1)  # the outermost lack a neighbour
    np.testing.assert_allclose(inside, 2, atol=1e-4)  # Hann windows at 75 % overlap


def test_blocks_share_one_accompaniment(monkeypatch):
    settings = replace(CHEAP, iterations=4)
    audio = np.concatenate([tone(60, 0.4, settings), tone(67, 0.4, settings)])
    whole = simm_salience(audio, settings)
    monkeypatch.setattr(source_filter, "BLOCK", 7)
    np.testing.assert_allclose(simm_salience(audio, settings), whole, rtol=0.02, atol=1e-4 * whole.max())


def test_updates_lower_the_itakura_saito_divergence():
    """One activation at a time against a fixed background, as the updates' derivation has it."""
    rng = np.random.default_rng(0)
    source = torch.from_numpy(source_filter._source_combs(CHEAP))
    x = torch.from_numpy(rng.exponential(1, (5, len(source))).astype(np.float32)) * source[:, [200]].T + 1e-4
    h, background = torch.ones(5, source.shape[1]), torch.full_like(x, 1e-3)
    divergences = []
    for _ in range(15):
        model = h @ source.T + background
        divergences.append((x / model - (x / model).log() - 1).sum().item())
        up, down = source_filter._gradients(x, h @ source.T, torch.ones_like(x), background)
        source_filter._update(h, up @ source, down @ source)
    assert (np.diff(divergences) < 0).all() and divergences[-1] < 0.2 * divergences[0]


# -- harmonic summation ------------------------------------------------------------------------------------------------


@BOTH
def test_a_peak_counts_for_the_pitches_that_it_may_be_a_harmonic_of(settings):
    salience = harmonic_summation(sine(880, settings), settings)[int(0.2 * settings.rate)]
    own = salience[bin_of(81, settings)]
    for harmonic, pitch in ((2, 69), (4, 57)):
        assert salience[bin_of(pitch, settings)] == pytest.approx(0.8 ** (harmonic - 1) * own, rel=0.02)
    off = round(50 / settings.step) * settings.step
    expected = np.cos(np.pi / 2 * off / 100) ** 2
    assert salience[bin_of(81, settings) + round(50 / settings.step)] == pytest.approx(expected * own, rel=0.15)
    assert salience[bin_of(83, settings)] < 0.01 * own


def test_peaks_are_weighted_by_equal_loudness():
    low, high = (harmonic_summation(sine(f, CHEAP), CHEAP).max() for f in (220, 880))
    expected = 10 ** ((librosa.A_weighting([220.0])[0] - librosa.A_weighting([880.0])[0]) / 20)
    assert low / high == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("decibel", "counts"), [(-35, True), (-45, False)])
def test_peaks_far_below_the_largest_do_not_count(decibel, counts):
    # 330 Hz is weighted 6.5 dB lower than 1 kHz
    settings = replace(CHEAP, harmonics=1)
    audio = sine(1000, settings) + sine(330, settings, 0.1 * 10 ** ((decibel + 6.5) / 20))
    salience = harmonic_summation(audio, settings)[5]
    assert (salience[bin_of(64, settings)] > 0) == counts


def test_only_so_many_peaks_count():
    audio = sine(440, CHEAP) + sine(1000, CHEAP, 0.02)
    settings = replace(CHEAP, harmonics=1)
    assert harmonic_summation(audio, settings)[5, bin_of(83, settings)] > 0
    assert harmonic_summation(audio, replace(settings, peaks=1))[5, bin_of(83, settings)] == 0


# -- combination -------------------------------------------------------------------------------------------------------


def test_saliences_are_combined_as_published():
    rng = np.random.default_rng(1)
    simm, summation = rng.random((4, 9)), rng.random((4, 9))
    simm[2] = 0
    taps = np.exp(-0.5 * (np.arange(-2, 3) / 2) ** 2)
    relative = np.array([row / row.max() if row.any() else row for row in simm])
    smooth = np.array([np.convolve(row, taps / taps.sum(), "same") for row in relative])
    expected = smooth / smooth.max() * (summation / summation.max())
    np.testing.assert_allclose(combine(simm, summation), expected / expected.max(), rtol=1e-6)
    assert combine(simm, summation).max() == 1 and not combine(simm, np.zeros((4, 9))).any()


# -- contours ----------------------------------------------------------------------------------------------------------

LOOSE = replace(PAPER, peak_frame=0.0, peak_distribution=100.0, voicing=100.0)  # 100 frames a second


def line(frames, *runs):
    """Salience (frames, 60) of runs (start, end, bin, value)."""
    salience = np.zeros((frames, 60))
    for start, end, bin_, value in runs:
        salience[start:end, bin_] = value
    return salience


def spans(salience, settings):
    """(first frame, end, first bin) of each contour, in order of time."""
    return sorted((c.start, c.start + len(c.bins), int(c.bins[0])) for c in contours(salience, settings))


def test_a_contour_has_the_bins_and_salience_of_its_peaks():
    salience = line(30, (5, 15, 20, 0.5), (15, 20, 21, 0.8))
    (contour,) = contours(salience, LOOSE)
    assert contour.start == 5 and contour.bins.tolist() == [20] * 10 + [21] * 5
    assert contour.salience.tolist() == [0.5] * 10 + [0.8] * 5
    assert (on_contours(salience, LOOSE) == salience).all()


def test_a_contour_lasts_a_tenth_of_a_second_or_more():
    assert spans(line(40, (0, 9, 5, 1.0), (20, 30, 5, 1.0)), LOOSE) == [(20, 30, 5)]
    assert spans(line(40, (0, 2, 5, 1.0), (20, 23, 5, 1.0)), replace(LOOSE, hop=4 * 441)) == [(20, 23, 5)]


@pytest.mark.parametrize(("value", "spans_"), [(0.71, [(0, 20, 10), (0, 20, 50)]), (0.69, [(0, 20, 50)])])
def test_a_peak_is_salient_from_seven_tenths_of_its_frames_largest(value, spans_):
    salience = line(20, (0, 20, 50, 1.0), (0, 20, 10, value))
    assert spans(salience, replace(LOOSE, peak_frame=PAPER.peak_frame)) == spans_


@pytest.mark.parametrize("deviations", [1.25, 1.35])
def test_a_peak_is_salient_down_to_so_many_deviations_below_the_mean(deviations):
    # 20 frames of b among 100 - 20 of 1: mean and deviation of a two-point distribution, exactly 2 below at 20 %;
    # so mix the share for the wanted distance: (1 - p) / sqrt(p (1 - p)) = d, p = 1 / (1 + d^2)
    frames = 1000
    quiet = round(frames / (1 + deviations**2))
    salience = line(frames, (0, quiet, 5, 0.5), (quiet, frames, 45, 1.0))
    found = spans(salience, replace(LOOSE, peak_distribution=PAPER.peak_distribution))
    assert found == [(0, quiet, 5), (quiet, frames, 45)][deviations > 1.3 :]


@pytest.mark.parametrize(("weak", "expected"), [(10, [(0, 50, 5)]), (11, [(0, 20, 5), (31, 51, 5)])])
def test_a_gap_of_a_tenth_of_a_second_is_bridged_over_other_peaks(weak, expected):
    settings = replace(LOOSE, peak_frame=0.7)
    salience = line(
        60, (0, 20, 5, 1.0), (20, 20 + weak, 5, 0.5), (20 + weak, 40 + weak, 5, 1.0), (20, 20 + weak, 55, 1.0)
    )
    assert [s for s in spans(salience, settings) if s[2] == 5] == expected  # nothing that is not salient at its end


def test_a_gap_without_any_peak_ends_a_contour():
    assert spans(line(60, (0, 20, 5, 1.0), (21, 40, 5, 1.0)), LOOSE) == [(0, 20, 5), (21, 40, 5)]


@pytest.mark.parametrize(
    ("bins", "count"), [(27, 1), (28, 2)]
)  # 27.56 cents a millisecond, 10 ms a frame, 10 cents a bin
def test_a_contour_moves_within_reach(bins, count):
    assert len(contours(line(40, (0, 20, 5, 1.0), (20, 40, 5 + bins, 1.0)), LOOSE)) == count


def test_a_contour_goes_on_to_the_nearest_peak():
    salience = line(40, (0, 20, 20, 1.0), (20, 40, 16, 0.5), (20, 40, 26, 0.9))
    assert (0, 40, 20) in spans(salience, LOOSE)
    longest = max(contours(salience, LOOSE), key=lambda contour: len(contour.bins))
    assert longest.bins[-1] == 16


def test_contours_far_below_the_mean_contour_are_dropped():
    # means 1, 1, 1, 0.4: mean 0.85, deviation 0.26, so that one deviation below is 0.59
    runs = [(0, 20, 5, 1.0), (40, 60, 5, 1.0), (80, 100, 5, 1.0), (120, 140, 5, 0.4)]
    settings = replace(LOOSE, voicing=PAPER.voicing)
    assert len(contours(line(140, *runs), settings)) == 3
    assert len(contours(line(140, *runs[:3], (120, 140, 5, 0.999)), replace(settings, voicing=2.0))) == 4


def test_no_salience_has_no_contours():
    assert contours(np.zeros((50, 60)), PAPER) == [] and not on_contours(np.zeros((50, 60)), PAPER).any()
    assert contours(line(3, (0, 3, 5, 1.0)), PAPER) == []


# -- chroma ------------------------------------------------------------------------------------------------------------


@BOTH
def test_bins_count_for_their_semitone_and_frames_for_their_time(settings):
    frames = round(settings.rate)
    salience = np.zeros((frames, settings.bins))
    salience[: frames // 2, [bin_of(57, settings), bin_of(69, settings)]] = 0.3
    salience[frames // 2 :, bin_of(60, settings) + 40 // settings.step] = 0.2
    chroma = salience_chroma(salience, settings)
    assert chroma.shape == (12, 25) and chroma.dtype == np.float32
    assert chroma[9, :12].tolist() == pytest.approx([1] * 12) and chroma[0, 13:].tolist() == pytest.approx([1] * 12)


def test_a_melody_over_a_quieter_chord_keeps_its_chroma():
    melody = [69, 71, 72, 76, 74, 71]
    audio = np.concatenate([tone(pitch, 0.4, CHEAP) for pitch in melody])
    for pitch in (48, 52, 55):
        audio = audio + tone(pitch, 2.4, CHEAP, amplitude=0.04)
    expected = np.repeat(np.array(melody) % 12, 10)
    for raw in (False, True):
        chroma = bg1_chroma(audio, CHEAP, raw=raw)
        assert chroma.shape == (12, 60)
        np.testing.assert_allclose(np.linalg.norm(chroma, axis=0), 1, atol=1e-5)
        assert (chroma.argmax(0) == expected).mean() > 0.85
        assert np.mean(chroma[expected, np.arange(60)]) > 0.8


def test_the_result_is_the_same_every_time_and_at_any_level():
    audio = tone(64, 0.6, CHEAP) + tone(55, 0.6, CHEAP, amplitude=0.03)
    first = melody_salience(audio, CHEAP)
    assert np.array_equal(first, melody_salience(audio.copy(), CHEAP))
    assert not np.array_equal(first, melody_salience(audio, replace(CHEAP, seed=1)))
    quiet, loud = (bg1_chroma(audio * level, CHEAP, raw=True)[:, 1:-1] for level in (0.05, 1))
    np.testing.assert_allclose(quiet, loud, atol=0.1)


@pytest.mark.parametrize(
    ("audio", "words"),
    [
        (np.zeros(22_050), "silent"),
        (np.ones(100), "too short"),
        (np.zeros(0), "too short"),
        (np.full(22_050, np.nan), "no numbers"),
        (np.ones((2, 22_050)), "no mono audio"),
    ],
)
def test_audio_that_cannot_be_used_is_refused(audio, words):
    with pytest.raises(DuetError, match=words):
        bg1_chroma(audio, CHEAP)


def test_a_recording_may_be_silent_in_parts():
    silence = np.zeros(CHEAP.sample_rate)
    chroma = bg1_chroma(np.concatenate([silence, tone(69, 0.6, CHEAP), silence]), CHEAP)
    assert np.isfinite(chroma).all() and chroma[9, 28:37].min() > 0.9
    np.testing.assert_allclose(chroma[:, :20], 12**-0.5, atol=1e-6)
