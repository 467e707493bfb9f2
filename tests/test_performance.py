"""Tempo, dynamics, room and noise, and the playing of several parts with their own instruments."""

from dataclasses import replace

import numpy as np
import pytest

from duet import DuetError, performance, synthesis
from duet.performance import Manner, TempoMap, expressive_map, nominal_map, perform, pink_noise, room
from duet.scores import Note
from duet.synthesis import SAMPLE_RATE, Played

STRICT = Manner(rubato=0.0, speed=1.0, dynamics=8.0, asynchrony=0.0)
FREE = Manner(rubato=0.2, speed=1.1, dynamics=8.0, asynchrony=0.01)
BARS = tuple(range(0, 128, 4))


def rng(seed=0):
    return np.random.default_rng(seed)


# -- tempo -------------------------------------------------------------------------------------------------------------


def test_nominal_tempo_by_hand():
    """60 a minute for four quarters from quarter 2 on, then 120; a mark before the start is in force at it."""
    tempo = nominal_map(2, 10, [(0, 60), (6, 120)])
    assert tempo.to_seconds([2, 3, 6, 8, 10]) == pytest.approx([0, 1, 4, 5, 6])
    assert tempo.to_seconds([1, 12]) == pytest.approx([-1, 7])  # beyond its ends
    assert tempo.to_quarters([-1, 0, 4.5, 7]) == pytest.approx([1, 2, 7, 12])
    assert nominal_map(0, 4, [(3, 60)]).to_seconds(4) == pytest.approx(4)
    assert nominal_map(0, 1, [(0, 1000)]).to_seconds(1) == pytest.approx(60 / 300)


def test_usual_tempo():
    def notes(duration):
        return [Note(i * duration, duration, 60, 0, 1) for i in range(9)]

    assert [performance.usual_tempo(notes(d)) for d in (0.25, 1, 2, 8)] == [96, 96, 192, 288]


def test_a_strict_player_keeps_the_tempo():
    nominal = nominal_map(0, 128, [(0, 90), (64, 120)])
    quarters = np.linspace(0, 128, 99)
    tempo = expressive_map(nominal, BARS, STRICT, rng())
    assert tempo.to_seconds(quarters) == pytest.approx(nominal.to_seconds(quarters))


@pytest.mark.parametrize("rubato", [0.05, 0.2, 0.3])
def test_a_free_player_bends_it(rubato):
    nominal = nominal_map(0, 128, [(0, 90)])
    tempo = expressive_map(nominal, BARS, Manner(rubato, 1.0, 8, 0.01), rng())
    assert (np.diff(tempo.seconds) > 0).all()
    quarters = np.linspace(-2, 131, 400)
    assert tempo.to_quarters(tempo.to_seconds(quarters)) == pytest.approx(quarters)
    log_tempo = -np.log(np.diff(tempo.seconds) / np.diff(nominal.to_seconds(tempo.quarters)))
    assert np.std(log_tempo[:480]) == pytest.approx(rubato, rel=0.25)  # without the last eight quarters
    assert np.abs(log_tempo).max() <= np.log(2) + 1e-9
    again = expressive_map(nominal, BARS, Manner(rubato, 1.0, 8, 0.01), rng())
    assert np.array_equal(again.seconds, tempo.seconds)
    assert not np.allclose(expressive_map(nominal, BARS, FREE, rng(1)).seconds, tempo.seconds)


def test_the_end_is_held_back():
    """Averaged over many players, the last quarter is slower by more than a phrase's end is."""
    nominal = nominal_map(0, 64, [(0, 60)])
    curves = -np.mean([np.log(np.diff(expressive_map(nominal, BARS, FREE, rng(s)).seconds)) for s in range(40)], axis=0)
    assert curves[-4:].mean() < curves[:192].mean() - 2 * FREE.rubato
    assert abs(curves[188:192].mean() - curves[:192].mean()) < 1.5 * FREE.rubato


def test_phrases_are_arches():
    """Averaged over many players, the middle of a four-bar phrase is faster than its ends."""
    nominal = nominal_map(0, 64, [(0, 60)])
    curves = [np.log(np.diff(expressive_map(nominal, BARS, FREE, rng(s)).seconds)) for s in range(40)]
    phrases = -np.mean(curves, axis=0)[: 48 * 4].reshape(3, 64)
    assert (phrases[:, 24:40].mean(1) > phrases[:, [0, 1, 2, 3, -4, -3, -2, -1]].mean(1) + 0.1).all()


def test_manners_differ():
    drawn = [Manner.draw(rng(s)) for s in range(200)]
    assert min(m.rubato for m in drawn) < 0.03 and max(m.rubato for m in drawn) > 0.27
    assert np.median([m.speed for m in drawn]) == pytest.approx(1, abs=0.05)
    assert Manner.draw(rng(3)) == Manner.draw(rng(3))


def test_a_map_must_rise():
    for quarters, seconds in (([0, 1, 1], [0, 1, 2]), ([0, 1], [1, 1]), ([0], [0])):
        with pytest.raises(DuetError, match="must rise"):
            TempoMap(np.array(quarters, float), np.array(seconds, float))


# -- notes -------------------------------------------------------------------------------------------------------------

DUET = [Note(q, 1.0, 72 + q % 5, 0, 1) for q in range(128)] + [Note(q, 4.0, 48, 1, 1) for q in range(0, 128, 4)]
SECOND = nominal_map(0, 128, [(0, 60)])


def test_a_strict_performance_is_the_score():
    played = perform(DUET, SECOND, BARS, STRICT, rng())
    assert sorted((n.onset, n.pitch, n.part) for n in played) == sorted((n.onset, n.pitch, n.staff) for n in DUET)
    assert all(n.duration == pytest.approx(4 if n.part else 1) for n in played)
    melody, bass = ([n.velocity for n in played if n.part == p] for p in (0, 1))
    assert np.mean(melody) > np.mean(bass) + 4
    assert np.std(melody) > 2 and 30 <= min(melody) and max(melody) <= 120


def test_hands_are_not_together():
    played = perform(DUET, SECOND, BARS, FREE, rng())
    late = [n.onset - round(n.onset) for n in played if n.onset > 0.5]
    assert np.std(late) == pytest.approx(0.01, rel=0.25) and min(n.onset for n in played) >= 0
    assert perform(DUET, SECOND, BARS, FREE, rng()) == played != perform(DUET, SECOND, BARS, FREE, rng(1))


def test_one_key_does_not_sound_twice():
    """Of a unison on one staff one note stays, a repeated pitch ends the held one; other staves are other strings."""
    notes = [Note(0, 4, 60, 0, 1), Note(0, 1, 60, 0, 2), Note(2, 1, 60, 0, 2), Note(0, 4, 60, 1, 1)]
    played = perform(notes, SECOND, BARS, STRICT, rng())
    assert [(n.onset, n.duration, n.part) for n in played] == [(0, 2, 0), (0, 4, 1), (2, 1, 0)]


def test_a_theme_is_brought_out():
    notes = [Note(float(q), 1.0, 60 + q % 5, q % 2, 1) for q in range(64)]
    theme = {(n.onset, n.pitch, n.staff) for n in notes[16:48:2]}
    plain = perform(notes, nominal_map(0, 64, [(0, 90)]), BARS, STRICT, rng())
    voiced = perform(notes, nominal_map(0, 64, [(0, 90)]), BARS, STRICT, rng(), theme)
    gains = [b.velocity - a.velocity for a, b in zip(plain, voiced, strict=True)]
    assert [g > 0 for g in gains] == [(n.onset, n.pitch, n.staff) in theme for n in notes]
    assert max(gains) == 16


def test_nothing_to_perform():
    with pytest.raises(DuetError, match="no notes"):
        perform([], SECOND, BARS, STRICT, rng())


# -- the piano's pedal and dynamics ------------------------------------------------------------------------------------


def test_the_pedal_holds_what_is_let_go():
    """By hand: let go before, within and after the pedal; struck again while it is held; in the other hand, too."""
    played = [
        Played(0.0, 0.5, 48),
        Played(0.0, 1.5, 52),
        Played(0.5, 3.0, 55),
        Played(1.0, 0.2, 60, 90, 0),
        Played(1.6, 0.2, 60, 70, 1),
        Played(2.1, 0.1, 62),
    ]
    heard = performance.pedal(played, [(1.0, 2.0), (2.15, 2.5)])
    ends = [(n.pitch, n.onset, pytest.approx(n.onset + n.duration)) for n in heard]
    assert ends == [(48, 0, 0.5), (52, 0, 2.0), (55, 0.5, 3.5), (60, 1.0, 1.6), (60, 1.6, 2.0), (62, 2.1, 2.5)]
    assert {n.part for n in heard} == {0} and [n.velocity for n in heard if n.pitch == 60] == [90, 70]


def test_loud_and_soft_pieces():
    played = [Played(i, 1, 60, v) for i, v in enumerate((60, 70, 80))]
    assert [n.velocity for n in performance.rescaled(played, 50, 2.0)] == [30, 50, 70]
    assert [n.velocity for n in performance.rescaled(played, 100, 9.0)] == [12, 100, 124]


# -- the recording -----------------------------------------------------------------------------------------------------


def test_a_room_decays_as_it_should():
    click = np.zeros(3 * SAMPLE_RATE, np.float32)
    click[0] = 1
    heard = room(click, rt60=1.2, wet=0.5, rng=rng())
    assert heard[0] == pytest.approx(1) and heard.dtype == np.float32
    assert np.abs(heard[1 : SAMPLE_RATE // 200]).max() < 1e-9  # the first walls are some metres away
    assert np.square(heard[1:]).sum() == pytest.approx(0.25, rel=0.01)
    energy = np.cumsum(np.square(heard[:0:-1], dtype=float))[::-1]  # Schroeder's backward integration
    level = 10 * np.log10(energy[:SAMPLE_RATE] / energy[0])
    at = [int(np.argmax(level < -d)) / SAMPLE_RATE for d in (5, 35)]
    assert 2 * (at[1] - at[0]) == pytest.approx(1.2, rel=0.1)
    assert np.array_equal(room(click, 1.2, 0.5, rng()), heard)
    assert room(click, 1.2, 0.0, rng()) == pytest.approx(click, abs=1e-9)


def test_noise_is_pink_and_as_loud_as_asked():
    tone = np.sin(np.arange(8 * SAMPLE_RATE) * 0.1).astype(np.float32)
    noise = pink_noise(tone, 20, rng()) - tone
    assert 10 * np.log10(np.mean(tone**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.01)
    power, frequency = np.abs(np.fft.rfft(noise)) ** 2, np.fft.rfftfreq(len(noise), 1 / SAMPLE_RATE)
    octaves = [power[(frequency >= f) & (frequency < 2 * f)].sum() for f in (100, 200, 400, 800, 1600, 3200)]
    assert max(octaves) / min(octaves) < 1.3  # equal power per octave
    assert np.array_equal(pink_noise(tone, 20, rng()) - tone, noise)


# -- microphones -------------------------------------------------------------------------------------------------------

PLAIN = performance.Acoustics(rt60=0.5, wet=0.0, reflections=0, tilt=0.0, low_cut=1.0, resonances=(), snr=200.0,
                              colour=1.0, peak=-6.0)  # fmt: skip


def click(rate=16_000, seconds=4):
    sound = np.zeros(seconds * rate, np.float32)
    sound[rate] = 1
    return sound


def test_what_sounds_is_heard_at_once():
    """However a recording is made, the direct sound comes first, and where it was."""
    for seed in range(12):
        acoustics = replace(performance.Acoustics.draw(rng(seed)), snr=90.0)
        heard = performance.heard(click(), 16_000, acoustics, rng(seed))
        assert np.abs(heard[: 16_000 - 1]).max() < 1e-3 * np.abs(heard).max()
        assert np.abs(heard[16_000:][:32]).max() == np.abs(heard).max()
        assert 20 * np.log10(np.abs(heard).max()) == pytest.approx(acoustics.peak, abs=0.01)
        assert np.array_equal(performance.heard(click(), 16_000, acoustics, rng(seed)), heard)


def test_tilt_and_resonances_are_heard():
    acoustics = replace(PLAIN, tilt=-3.0, resonances=((2000.0, 12.0, 0.15),), low_cut=60.0)
    gains = []
    for seed in range(20):  # ripples differ
        response = performance.heard(click(), 16_000, acoustics, rng(seed))
        spectrum = 20 * np.log10(np.abs(np.fft.rfft(response[16_000:24_000])))
        gains.append([spectrum[round(f / 2)] for f in (20, 250, 500, 1000, 2000, 4000)])
    low, quarter, half, one, two, four = np.mean(gains, axis=0)
    assert quarter - half == pytest.approx(3, abs=1) and one - four == pytest.approx(6, abs=1)
    assert two - one == pytest.approx(9, abs=1)
    assert low < quarter


def test_rooms_and_noise_of_recordings():
    far = replace(PLAIN, rt60=1.5, wet=1.0)
    heard = performance.heard(click(), 16_000, far, rng())
    dry = performance.heard(click(), 16_000, PLAIN, rng())
    tail = heard[16_000 + 2048 :]
    assert np.abs(dry[16_000 + 2048 :]).max() < 1e-4
    energy = np.cumsum(np.square(tail[::-1], dtype=float))[::-1]
    level = 10 * np.log10(energy / energy[0])
    at = [int(np.argmax(level < -d)) / 16_000 for d in (5, 25)]
    assert 3 * (at[1] - at[0]) == pytest.approx(1.5, rel=0.2)
    tone = np.sin(np.arange(8 * 16_000) * 0.3).astype(np.float32)
    noisy = performance.heard(tone, 16_000, replace(PLAIN, snr=20.0), rng())
    clean = performance.heard(tone, 16_000, PLAIN, rng())
    noise = noisy / np.dot(noisy, clean) * np.dot(clean, clean) - clean
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.2)


def test_recordings_differ():
    drawn = [performance.Acoustics.draw(rng(s)) for s in range(300)]
    assert min(a.wet for a in drawn) < 0.15 and max(a.wet for a in drawn) > 1.3
    assert min(a.rt60 for a in drawn) < 0.3 and max(a.rt60 for a in drawn) > 2.5
    assert 0.1 < np.mean([a.snr < 30 for a in drawn]) < 0.3 and all(10 <= a.snr <= 60 for a in drawn)
    assert performance.Acoustics.draw(rng(3)) == performance.Acoustics.draw(rng(3))


# -- instruments -------------------------------------------------------------------------------------------------------


def peak_cents(audio, pitch):
    """Cents from an equal-tempered pitch to the strongest peak within a whole tone of it."""
    part = audio[SAMPLE_RATE // 4 : SAMPLE_RATE]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 19))
    cents = 1200 * np.log2(np.maximum(np.fft.rfftfreq(1 << 19, 1 / SAMPLE_RATE), 1) / 440) - 100 * (pitch - 69)
    near = np.abs(cents) < 200
    return cents[near][spectrum[near].argmax()]


def test_every_part_has_its_instrument(engine):
    """The parts of a duet sound as each of them does with its own program, and the order of parts is nothing."""
    low, high = [Played(0, 1, 48, 90, 0)], [Played(0.2, 1, 84, 90, 1)]
    both = synthesis.synthesise(low + high, "timgm6mb", (0, 73))
    assert np.array_equal(both, synthesis.synthesise(high + low, "timgm6mb", (0, 73)))
    assert not np.array_equal(both, synthesis.synthesise(low + high, "timgm6mb", (73, 0)))
    alone = [synthesis.synthesise(n, "timgm6mb", (0, 73)) for n in (low, high)]
    size = min(len(a) for a in alone)
    weights, *_ = np.linalg.lstsq(np.stack([a[:size] for a in alone], 1), both[:size], rcond=None)
    rest = both[:size] - sum(w * a[:size] for w, a in zip(weights, alone, strict=True))
    assert np.square(rest).sum() < 0.01 * np.square(both[:size]).sum()
    # the same key in two parts: each ends when it should
    twice = [Played(0, 0.3, 60, 90, 0), Played(0, 2, 60, 90, 1)]
    held = synthesis.synthesise(twice, "timgm6mb", (19, 19), tail=1.5)
    late, after = (np.abs(held[int(a * SAMPLE_RATE) : int(b * SAMPLE_RATE)]).max() for a, b in ((1.5, 1.9), (3, 3.4)))
    assert late > 0.2 and after < 0.02


def test_one_program_plays_every_part(engine):
    notes = [Played(0, 0.5, 60, 90, 0), Played(0.5, 0.5, 64, 90, 3)]
    plain = [Played(0, 0.5, 60), Played(0.5, 0.5, 64)]
    assert np.array_equal(synthesis.synthesise(notes, "timgm6mb", 0), synthesis.synthesise(plain, "timgm6mb"))


@pytest.mark.parametrize("cents", [-50.0, 35.0])
def test_all_parts_are_tuned(engine, cents):
    for part in (0, 1):
        notes = [Played(0, 1.2, 69, 90, part)]
        plain, tuned = (synthesis.synthesise(notes, "timgm6mb", (19, 73), cents=c) for c in (0.0, cents))
        assert peak_cents(tuned, 69) - peak_cents(plain, 69) == pytest.approx(cents, abs=4)


def test_compressed_soundfonts_sound(engine):
    try:
        synthesis.soundfont("musescore")
    except DuetError:
        pytest.skip("MuseScore_General_Lite.sf3 is not installed")
    audio = synthesis.synthesise([Played(0, 1.2, 69)], "musescore", 40)
    assert abs(peak_cents(audio, 69)) < 25
    assert synthesis.available_soundfont() != "musescore"


def test_parts_without_programs():
    for notes, programs in (([Played(0, 1, 60, 90, 2)], (0, 1)), ([Played(0, 1, 60, 90, 0)], range(16)),
                            ([Played(0, 1, 60, 90, -1)], (0, 1))):  # fmt: skip
        with pytest.raises(DuetError, match="cannot be played with"):
            synthesis.synthesise(notes, "timgm6mb", tuple(programs))
    with pytest.raises(DuetError, match="cannot tune"):
        synthesis.synthesise([Played(0, 1, 60)], "timgm6mb", cents=300)
