"""Open corpora of piano and guitar: the music, who has which of it, and what is written is what sounds."""

import itertools
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from duet import DuetError, scores, synthesis
from duet.corpora import instruments, samples
from duet.corpora.instruments import (
    FRETS,
    OPEN_STRINGS,
    PROGRESSIONS,
    QUALITIES,
    STYLES,
    Guitarist,
    Lead,
    OpenSet,
    Plucked,
    Source,
    Voice,
    excerpts,
    paper_notes,
    paper_way,
    play_guitar,
    side,
    voicings,
)
from duet.corpora.maps import DISKLAVIER
from duet.scores import Note, Score, Staff

RATE = 16_000
SECONDS = 20.0


def rng(seed=0):
    return np.random.default_rng(seed)


# -- guitar music ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quality", QUALITIES)
def test_voicings_spell_their_chords(quality):
    """Every way to play a chord has nothing but its notes, with root and third (if any), within a hand's reach."""
    for root in range(12):
        ways = voicings(root, quality)
        assert len(ways) >= 2
        for frets in ways:
            sounding = {(OPEN_STRINGS[s] + f - root) % 12 for s, f in enumerate(frets) if f is not None}
            needed = {0} | {i for i in QUALITIES[quality] if i in (3, 4)}
            assert needed <= sounding <= set(QUALITIES[quality])
            pressed = [f for f in frets if f] or [0]
            assert max(pressed) - min(pressed) <= 4


def played(style="Rock", solo=False, seed=0, **manner):
    player = Guitarist.draw(rng(seed))
    player = Guitarist(**{**vars(player), **manner})
    return play_guitar(Lead(style, 1 + seed % 3, 100, seed % 12), solo, player, SECONDS, rng(seed))


@pytest.mark.parametrize("style, solo", list(itertools.product(STYLES, (False, True))))
def test_a_string_sounds_once_at_a_time(style, solo):
    for seed in range(6):
        notes = played(style, solo, seed)
        assert len(notes) > 15 and notes == played(style, solo, seed) != played(style, solo, seed + 6)
        for string in range(6):
            own = [n for n in notes if n.string == string]
            assert all(a.offset <= b.onset for a, b in itertools.pairwise(own))
        assert all(0.05 <= n.onset < n.offset <= SECONDS and 0 <= n.fret <= FRETS for n in notes)
        assert all(15 <= n.velocity <= 120 and n.pitch == OPEN_STRINGS[n.string] + n.fret for n in notes)
        sounding = [sum(n.onset <= t < n.offset for n in notes) for t in np.arange(1, 15, 0.1)]
        assert np.mean(sounding) < 2 if solo else max(sounding) >= 3


def test_strums_go_over_the_strings():
    """The same strokes by a slow and by a fast hand: so many milliseconds from string to string, down from the bass."""
    gaps = []
    for strum in (0.006, 0.03):
        notes = played("Rock", strum=strum, jitter=0.0, ornaments=0.0)
        strokes = itertools.groupby(notes, key=lambda n: round((n.onset - 0.2) / 0.3))  # eighths at 100
        strokes = [list(group) for _, group in strokes]
        steps = [b.onset - a.onset for s in strokes for a, b in itertools.pairwise(s) if b.string == a.string + 1]
        gaps.append(np.median(steps))
    assert 0.004 < gaps[0] < 0.01 and 0.02 < gaps[1] < 0.045


def test_hands_that_stay_let_strings_ring():
    """Of the strokes before a change of chords, a string whose fret stays rings on, others are let go."""
    stayed, moved = 0, 0
    for seed in range(1, 60, 3):  # a chord a bar
        notes = played("SS", ring=1.0, sparse=0.0, ornaments=0.0, jitter=0.0, seed=seed)
        change = 0.2 + 4 * 0.6
        before = {n.string: n for n in notes if n.onset < change - 0.1}
        after = {n.string: n for n in reversed(notes) if change - 0.1 < n.onset < change + 2.3}
        for string in before.keys() & after.keys():
            if before[string].fret == after[string].fret:
                assert after[string].onset - 0.1 <= before[string].offset <= after[string].onset
                stayed += 1
            else:
                assert before[string].offset <= change + 1e-6
                moved += 1
    assert stayed > 5 and moved > 10


def test_hammered_notes_are_softer():
    manner = {"loudness": 80, "accent": 0, "dynamics": 0, "doubles": 0, "ornaments": 0}
    always, never = (
        [n.velocity for s in range(8) for n in played("Rock", True, s, hammers=h, **manner)] for h in (1.0, 0.0)
    )
    assert min(never) > 70 and 0.02 < np.mean(np.array(always) < 65) < 0.5


def test_excerpts_are_spread_evenly():
    whole = excerpts(360)
    assert len({e.stem for e in whole}) == 360
    assert Counter(e.player for e in whole) == {f"{p:02}": 60 for p in range(6)}
    some = excerpts(60)
    assert set(Counter(e.lead.style for e in some).values()) == {12}
    assert set(Counter(e.solo for e in some).values()) == {30}
    assert set(Counter((e.player, e.lead.style) for e in some).values()) == {2}
    assert len({e.lead for e in whole}) == 30  # all players have the same pieces
    assert len({e.lead.progression for e in excerpts(24)}) == 3


def test_leads():
    assert [Lead("Jazz", 1, 120, 0).chord(bar) for bar in (0, 4, 8, 12)] == [(0, "7"), (5, "7"), (7, "7"), (0, "7")]
    assert Lead("SS", 3, 80, 9).chord(0) == (9, "") and Lead("Rock", 3, 80, 9).chord(2) == (6, "m")
    assert [len(p) for p in PROGRESSIONS] == [12, 8, 8]


# -- piano music -------------------------------------------------------------------------------------------------------


def test_the_piano_of_a_song():
    """Its part is the last on two staves; a quartet is played on a piano, all of it."""
    notes = tuple(Note(0.0, 1.0, 60 + s, s, 1) for s in range(4))

    def pitches(*owners):
        staves = tuple(Staff("", part) for part in owners)
        score = Score("", "", notes[: len(owners)], staves, (0.0,), 4.0, (0.0,), ())
        return [n.pitch for n in instruments._piano_part(score).notes]

    assert pitches(0, 1, 1) == [61, 62]
    assert pitches(0, 0, 1, 1) == [62, 63]
    assert pitches(0, 0) == [60, 61] and pitches(0, 1, 2, 3) == [60, 61, 62, 63]


def test_textures_reach_the_ends_of_the_keyboard():
    low, high, fastest, largest = 108, 21, 1.0, 0
    for seed in range(30):
        score = instruments._textures(40, rng(seed))
        assert score == instruments._textures(40, rng(seed)) and score.end == 4 * len(score.bars)
        pitches = [n.pitch for n in score.notes]
        low, high = min(low, *pitches), max(high, *pitches)
        fastest = min(fastest, min(n.duration for n in score.notes))
        largest = max(largest, max(Counter(n.onset for n in score.notes).values()))
    assert low <= 23 and high >= 106 and fastest == 0.125 and largest >= 8


def test_a_work_is_on_one_side():
    sources = instruments._sources("registry")
    by_work = {}
    for source in sources:
        by_work.setdefault(source.work, set()).add(side(source.work))
    assert all(len(sides) == 1 for sides in by_work.values())
    assert "bach/bwv248" in by_work and "mozart/k80" in by_work
    orders = {name: {s.key for s in instruments._in_turn(sources, name)} for name in instruments._SIDES}
    assert not any(a & b for a, b in itertools.combinations(orders.values(), 2))
    assert sum(len(keys) for keys in orders.values()) > len(sources)  # textures come on top, each on its side
    names = ["scores/Wolf,_Hugo/Songs/1/lc1.mxl", "scores/Wolf,_Hugo/Others/lc2.mxl"]
    assert len({instruments._work("lieder", name) for name in names}) == 1
    polish = ["pl-wn--1--2_szymanowska-maria--a.krn", "pl-kozmzk--m-31--013_szymanowska-maria--b.krn"]
    assert {instruments._work("polish_kern", name) for name in polish} == {"polish_kern/szymanowska-maria"}


def test_clips_of_a_score_follow_each_other(monkeypatch):
    notes = tuple(Note(q / 2, 0.5, 40 + q % 40, q % 2, 1) for q in range(400))
    score = Score("", "", notes, (Staff("", 0), Staff("", 0)), tuple(range(0, 200, 4)), 200.0, (0.0,), ((0.0, 120),))
    monkeypatch.setattr(scores, "read", lambda path: score)
    source = Source("bach/x", "bach", "bach/x", Path("/nowhere/x.mxl"))
    clips = instruments._piano_clips(20, 3, 0.0, source)
    assert [c.name for c in clips] == ["nowhere-x-0", "nowhere-x-1", "nowhere-x-2"]
    firsts = []
    for clip in clips:
        table = instruments._table(clip.notes)
        assert 5 < table[:, 1].max() <= 20 and table[:, 0].min() >= 0
        assert (table[:, 3] >= 12).all() and (table[:, 1] > table[:, 0]).all()
        firsts.append(clip.notes[0].pitch)
    assert len(set(firsts)) > 1
    assert instruments._piano_clips(20, 3, 0.0, source) == clips
    monkeypatch.setattr(scores, "read", lambda path: (_ for _ in ()).throw(DuetError("damaged")))
    assert instruments._piano_clips(20, 3, 0.0, source) == []


# -- strings and their sound -------------------------------------------------------------------------------------------


def peak_pitch(sound, near):
    part = sound[: RATE // 2]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 18))
    pitches = 69 + 12 * np.log2(np.maximum(np.fft.rfftfreq(1 << 18, 1 / RATE), 1) / 440)
    inside = np.abs(pitches - near) < 1
    return pitches[inside][spectrum[inside].argmax()]


def test_every_string_is_tuned_on_its_own():
    """Six notes at their time, each in its channel, as much off as asked; a loud string is louder than a soft one."""
    cents = (-18, 12, 0, 7, 19, -9)
    notes = [Plucked(0.3 + 0.1 * s, 1.3 + 0.1 * s, s, 7, 100 if s % 2 else 40) for s in range(6)]
    plain, tuned = (
        instruments._string_audio(notes, Voice("timgm6mb", 25), c, 2.5) for c in ((0,) * 6, cents)
    )  # fmt: skip
    assert tuned.shape == (40_000, 6)
    for note in notes:
        own = tuned[:, note.string]
        start = round(note.onset * RATE)
        assert np.abs(own[: start - 16]).max() < 0.01 * np.abs(own).max()
        reached = np.argmax(np.abs(own[start:]) > 0.1 * np.abs(own).max()) / RATE
        assert reached < 0.01
        sharp = [100 * peak_pitch(a[start + 800 :, note.string], note.pitch + 12) for a in (plain, tuned)]
        assert sharp[1] - sharp[0] == pytest.approx(cents[note.string], abs=2)
    levels = np.abs(tuned).max(0)
    assert levels[1] > 2 * levels[0] and levels[5] > 2 * levels[4]


# -- corpora -----------------------------------------------------------------------------------------------------------

SMALL = {"synthetic": 6, "piano": 6, "guitar": 6}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """One of each kind; of instruments that are quick to load."""
    if not shutil.which("fluidsynth"):
        pytest.skip("FluidSynth is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DUET_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(instruments, "_FONTS", ("fluidr3",))
        yield {kind: OpenSet(kind, "registry", clips, 8).build(workers=1) for kind, clips in SMALL.items()}


def lag(audio, onsets):
    """Milliseconds by which the audio's rises follow the onsets."""
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(audio, (256, 0)), 512)[::40]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(512)))
    flux = np.maximum(np.diff(np.log(spectrum + 1e-3 * spectrum.max()), axis=0, prepend=0), 0).sum(1)
    flux[0] = 0
    shifts = np.arange(-24, 25)
    at = np.round(onsets[:, None] * RATE / 40 + shifts).astype(int)
    return 2.5 * shifts[flux[at.clip(0, len(flux) - 1)].sum(0).argmax()]


def heard_share(audio, notes):
    """Share of the notes at whose pitch there is more than a quarter tone beside, in the 0.1 to 0.2 s after onset."""
    right = []
    for onset, offset, pitch, _ in notes:
        if offset - onset < 0.1 or pitch < 48:
            continue
        part = audio[round(onset * RATE) + 200 :][:3200]
        beat = np.exp(-2j * np.pi * np.outer(440 * 2 ** ((pitch + np.array([0, -0.75, 0.75]) - 69) / 12),
                                             np.arange(len(part)) / RATE))  # fmt: skip
        level = np.abs((beat * part * np.hanning(len(part))).sum(1))
        right.append(level[0] > level[1:].max())
    return np.mean(right)


@pytest.mark.parametrize("kind", SMALL)
def test_what_is_written_is_what_sounds(built, kind):
    corpus = built[kind]
    assert len(corpus.recordings) == SMALL[kind] and corpus.problems(workers=1) == {}
    lags, shares = [], []
    for stem in corpus.recordings:
        audio, notes = corpus.audio(stem), corpus.notes(stem)
        assert len(audio) <= 8 * RATE + 1 and notes[:, 1].max() <= 8 + 0.1
        lags.append(lag(audio, notes[:, 0]))
        shares.append(heard_share(audio, notes))
    assert np.abs(np.median(lags)) <= 5 and np.abs(lags).max() <= 15
    assert np.median(shares) > 0.75


def test_the_sides_of_the_corpora(built):
    split = built["synthetic"].split()
    assert [len(s) for s in split] == [2, 2, 2]
    groups = Counter(("guitar" in r.group) for r in built["synthetic"].recordings.values())
    assert groups == {True: 3, False: 3}
    split = built["piano"].split(validation=1)
    assert [len(s) for s in split] == [3, 1, 2] and built["piano"].removed == []
    assert {built["piano"].recordings[s].group for s in split.test} == {DISKLAVIER[0]}
    assert [len(s) for s in built["guitar"].split()] == [4, 1, 1]
    made = {kind: json.loads((corpus.root / "clips.json").read_text()) for kind, corpus in built.items()}
    voices = {kind: {m["voice"] for m in rows} for kind, rows in made.items()}
    assert not any(a & b for a, b in itertools.combinations(voices.values(), 2))
    names = {kind: {m["name"].rsplit("-", 1)[0] for m in made[kind]} for kind in ("synthetic", "piano")}
    assert not names["synthetic"] & names["piano"]
    for corpus in built.values():
        assert corpus.description["stand_in"] and corpus.description["fingerprint"]
        assert "fluidr3" in corpus.name or "timgm6mb" in corpus.name
    assert len({corpus.fingerprint for corpus in built.values()}) == 3


def test_strings_of_the_guitar_corpus(built):
    corpus = built["guitar"]
    for stem in corpus.recordings:
        strings = corpus.strings(stem)
        whole = np.concatenate(strings)
        assert len(strings) == 6 and whole.min() >= 0
        detuned = whole[:, 2] - np.round(whole[:, 2])
        assert 0 < np.abs(detuned).max() <= 0.2
        for number, notes in enumerate(strings):
            assert ((np.round(notes[:, 2]) - OPEN_STRINGS[number]) >= 0).all()


def test_a_killed_build_goes_on(built, monkeypatch):
    """What is there stays, what is missing comes out as it was."""
    corpus = built["piano"]
    monkeypatch.setenv("DUET_CACHE", str(corpus.root.parent.parent))
    paths = [r.audio for r in corpus.recordings.values()]
    contents = [path.read_bytes() for path in paths]
    paths[0].unlink()
    (corpus.root / "corpus.json").unlink()
    os.utime(paths[1], (1, 1))
    OpenSet("piano", "registry", SMALL["piano"], 8).build(workers=1)
    assert [path.read_bytes() for path in paths] == contents
    assert paths[1].stat().st_mtime == 1 and (corpus.root / "corpus.json").exists()


def test_a_machine_with_one_soundfont(monkeypatch, workspace):
    """Without FluidSynth and its SoundFonts: training takes programs that the stand-ins leave."""
    pytest.importorskip("tinysoundfont")
    monkeypatch.setattr(synthesis, "engine", lambda: "tinysoundfont")
    monkeypatch.setattr(synthesis, "installed", lambda font: font == "timgm6mb")
    monkeypatch.setattr(samples, "available", lambda name: False)
    corpus = OpenSet("synthetic", "registry", 4, 6).build(workers=1)
    assert "timgm6mb" in corpus.name and len(corpus.recordings) == 4
    used = {m["voice"] for m in json.loads((corpus.root / "clips.json").read_text())}
    stand_ins = {str(v) for v in (*instruments._piano_voices().values(), *instruments._guitar_voices().values())}
    left = {str(samples.Voice("timgm6mb", p)) for p in (*instruments._LEFT_PIANOS, *instruments._LEFT_GUITARS)}
    assert used <= left and not left & stand_ins


@pytest.mark.parametrize("wanted, told", [
    (OpenSet("organ", "registry", 8, 10), "unknown kind"),
    (OpenSet("piano", "secret", 8, 10), "unknown collection"),
    (OpenSet("guitar", "registry", 5, 10), "at least 6"),
    (OpenSet("piano", "registry", 8, 3), "too short"),
    (OpenSet("piano", "registry", 5000, 6), "clips of the 1667 wanted|clips of the 3333 wanted"),
])  # fmt: skip
def test_what_cannot_be_built(wanted, told, workspace, monkeypatch):
    if wanted.clips == 5000:
        monkeypatch.setattr(instruments, "_piano_clips", lambda *_: [])
    with pytest.raises(DuetError, match=told):
        wanted.build(workers=1)


# -- the paper's way ---------------------------------------------------------------------------------------------------

LABELS = np.array([[0.1, 0.9, 60, 40], [0.117, 0.5, 64, 80], [1.0, 1.005, 67, 20]])


def test_the_paper_loses_velocities_and_rounds_times():
    """By hand, on a grid of 32 ms: of MAPS; a guitar's labels have no velocities and keep their times."""
    piano = paper_notes("MAPS_MUS-x_AkPnBcht", LABELS, False)
    assert [round(n.onset / 0.032, 6) for n in piano] == [3, 4, 31]
    assert [round(n.duration / 0.032, 6) for n in piano] == [25, 12, 1]
    assert {n.velocity for n in piano} == {127}
    assert [n.velocity for n in paper_notes("MAPS_MUS-x_AkPnBcht", LABELS, True)] == [40, 80, 20]
    guitar = paper_notes("00_BN1-129-Eb_comp", LABELS, False)
    assert [n.onset for n in guitar] == [0.1, 0.117, 1.0] and all(95 <= n.velocity <= 104 for n in guitar)


def test_the_paper_plays_everything_twice(workspace):
    labels = {"train": {"MAPS_MUS-x_AkPnBcht": LABELS}, "test": {"00_BN1-129-Eb_comp": LABELS}}
    corpus = paper_way(labels, workers=1)
    assert sorted(corpus.recordings) == sorted(
        f"{p}.{s}"
        for p in ("acoustic_grand_piano", "acoustic_guitar_steel")
        for s in ("MAPS_MUS-x_AkPnBcht", "00_BN1-129-Eb_comp")
    )
    for stem in corpus.recordings:
        assert corpus.notes(stem)[:, :3] == pytest.approx(LABELS[:, :3], abs=1e-6)
        assert np.abs(corpus.audio(stem)).max() > 0.3
    again, repaired = paper_way(labels, workers=1), paper_way(labels, True, workers=1)
    assert again.root == corpus.root and repaired.fingerprint != corpus.fingerprint
    assert "paper" in corpus.name and "repaired" in repaired.name
